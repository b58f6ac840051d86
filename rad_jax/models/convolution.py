"""The 3x3 convolutions of the ADM U-Net, NHWC, also of an image upsampled first."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

Activation = Float[Array, "b h w c"]

Parts = tuple[Float[Array, "b h w _"], ...]
"""Maps that together have the channels of one."""

Margins = tuple[tuple[int, int], tuple[int, int]]
"""Rows of zeros before and after an image, and columns."""


class Conv(nnx.Module):
    """A 3x3 convolution, by default with one pixel of zeros around.

    Also with a stride, or of an image that is upsampled first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        dtype: Dtype,
        stride: int = 1,
        upsampled: bool = False,
        around: Margins = ((1, 1), (1, 1)),
        zero: bool = False,
        precision: str | None = None,
    ):
        """Builds zero weights; they stay zero with `zero`, see `draw_weights`."""
        self.dtype, self.zero, self.precision = dtype, zero, precision
        self.stride, self.upsampled, self.around = stride, upsampled, around
        self.kernel = nnx.Param(jnp.zeros((3, 3, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Activation) -> Float[Array, "b _ _ out"]:
        """Applies the layer."""
        bias = self.bias[...].astype(self.dtype)
        return self.product(self.weights(), x) + bias.reshape(1, 1, 1, -1)

    def weights(self) -> Float[Array, "3 3 c out"]:
        """The kernel that it applies."""
        return jnp.asarray(self.kernel[...])  # it may be NumPy's

    def product(
        self, kernel: Float[Array, "3 3 c out"], x: Activation
    ) -> Float[Array, "b _ _ out"]:
        """What it does with its kernel, with this one."""
        # Activations only: the float32 kernel is rounded in `conv`, after any sums.
        x = x.astype(self.dtype)
        if self.upsampled:
            return upsampled_conv(x, kernel, self.precision)
        return conv(x, kernel, self.around, self.stride, self.precision)


def conv(
    x: Activation,
    kernel: Float[Array, "_ _ c out"],
    around: Margins,
    stride: int = 1,
    precision: str | None = None,
) -> Float[Array, "b _ _ out"]:
    """A convolution in x's type, with rows and columns of zeros around.

    Differentiable backward, not forward.
    """
    # XLA convolves operands of one type.
    return _conv(x, kernel.astype(x.dtype), around, stride, precision)


def _plain(x, kernel, around: Margins, stride: int, precision: str | None):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=around,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


_conv = jax.custom_vjp(_plain, nondiff_argnums=(2, 3, 4))


def _conv_forward(x, kernel, around: Margins, stride: int, precision: str | None):
    return _plain(x, kernel, around, stride, precision), (x, kernel)


def _conv_backward(around: Margins, stride: int, precision, operands, cotangent):
    x, kernel = operands

    def by_jax(x, kernel, cotangent):
        convolve = functools.partial(
            _plain, around=around, stride=stride, precision=precision
        )
        return jax.vjp(convolve, x, kernel)[1](cotangent)

    def by_transposes(x, kernel, cotangent):
        turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        (above, below), (left, right) = around
        h, w = kernel.shape[0] - 1, kernel.shape[1] - 1
        margins = (h - above, h - below), (w - left, w - right)
        of_x = _plain(cotangent, turned, margins, 1, precision)
        # Channels are the batch here, and the batch the channels.
        images, weights = x.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3)
        of_kernel = _plain(images, weights, around, 1, precision)
        return of_x, of_kernel.transpose(1, 2, 0, 3)

    if stride != 1:
        return by_jax(x, kernel, cotangent)
    # In a loop XLA's CPU compiler leaves the order of axes that JAX's gradient has to
    # a generic convolution, 5 (of x) to 40 times slower than the one of this order: it
    # makes such an order of any outside of loops alone.
    return jax.lax.platform_dependent(
        x, kernel, cotangent, cpu=by_transposes, default=by_jax
    )


_conv.defvjp(_conv_forward, _conv_backward)


def upsampled_conv(
    x: Activation, kernel: Float[Array, "3 3 c out"], precision: str | None = None
) -> Float[Array, "b 2*h 2*w out"]:
    """A 3x3 convolution of ``upsample(x)``, in 4/9 of its operations.

    Of three neighbouring rows after upsampling two are the same row of x, and so for
    columns. Summed in float32, their weights make a 2x2 convolution of x for each of
    the four pixels that one pixel becomes.
    """
    four = functools.partial(_four_convs, precision=precision)
    one = functools.partial(_transposed_conv, precision=precision)
    return jax.lax.platform_dependent(x, kernel, cpu=four, default=one)


def _four_convs(x, kernel, precision: str | None):
    """One for each pixel that a pixel becomes."""
    # The first of two pixels sees the neighbour before it, the second the one after:
    # so the zeros stand before or after.
    pixels = [
        [
            conv(x, quarter, ((1 - i, i), (1 - j, j)), precision=precision)
            for j, quarter in enumerate(_upsampled(half, axis=1))
        ]
        for i, half in enumerate(_upsampled(kernel, axis=0))
    ]
    b, h, w, outputs = pixels[0][0].shape
    y = jnp.stack([jnp.stack(row, axis=3) for row in pixels], axis=2)
    return y.reshape(b, 2 * h, 2 * w, outputs)


def _transposed_conv(x, kernel, precision: str | None):
    """The four as one with a stride; XLA's CPU compiler would do all that it saves."""
    for axis in (0, 1):
        a, b, c = jnp.split(kernel, 3, axis)
        kernel = jnp.concatenate([c, b + c, a + b, a], axis)
    return jax.lax.conv_general_dilated(
        x,
        # XLA takes it for a transposed convolution where it is reversed.
        jax.lax.rev(kernel.astype(x.dtype), (0, 1)),
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


def _upsampled(
    kernel: Float[Array, "..."], axis: int
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Weights of two neighbours of x, for the first and the second pixel it becomes."""
    a, b, c = jnp.split(kernel, 3, axis)
    return jnp.concatenate([a, b + c], axis), jnp.concatenate([a + b, c], axis)
