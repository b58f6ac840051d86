"""Other ways to compute what `rad_jax.models` does, for comparisons only.

Patches of the package: what is traced within them is computed that way.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from rad_jax.models import attention, convolution, group_norm, layers, lora
from rad_jax.models.config import GROUPS
from rad_jax.models.convolution import Parts
from rad_jax.models.group_norm import GroupNorm
from tests.oracles import upsampled_then_convolved

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


def grouped_norm(self: GroupNorm, *parts: jax.Array) -> jax.Array:
    """Statistics of maps split into groups, as most libraries have them."""
    x = jnp.concatenate(parts, axis=-1).astype(jnp.float32)
    groups = x.reshape(*x.shape[:3], GROUPS, -1)
    mean = groups.mean((1, 2, 4), keepdims=True)
    variance = groups.var((1, 2, 4), keepdims=True)
    x = ((groups - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    shape = (1, 1, 1, -1)
    return x * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)


_linear = layers.Linear.__call__


def pointwise(self: layers.Linear, x: jax.Array, *more: jax.Array) -> jax.Array:
    """A 1x1 convolution, where it is one."""
    if x.ndim != 4 or more:
        return _linear(self, x, *more)
    y = jax.lax.conv_general_dilated(
        x.astype(self.dtype),
        self.kernel[...].astype(self.dtype)[None, None],
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=self.precision,
    )
    assert self.bias is not None
    return y + self.bias[...].astype(self.dtype).reshape(1, 1, 1, -1)


def resized(x: jax.Array) -> jax.Array:
    """Twice the size by `jax.image`."""
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), "nearest")


def meaned(x: jax.Array) -> jax.Array:
    """Half the size by a mean over axes of two pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


_res_block = layers.ResBlock.__call__


def concatenated(self: layers.ResBlock, parts: Parts, *args: Any) -> jax.Array:
    """A decoder's block with its input and the skip connection as one map."""
    return _res_block(self, (jnp.concatenate(parts, axis=-1),), *args)


def two_passes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments of a map, the squares about its mean."""
    mean = x.astype(jnp.float32).mean((1, 2), keepdims=True)
    return mean, jnp.square(x - mean).mean((1, 2), keepdims=True)


def silu_by_tanh(x: jax.Array) -> jax.Array:
    """The same without a division."""
    return x * (0.5 * jnp.tanh(0.5 * x) + 0.5)


def lanes(x: jax.Array) -> jax.Array:
    """Twice the size, columns doubled among the channels."""
    b, h, w, c = x.shape
    x = jnp.concatenate([x, x], axis=-1).reshape(b, h, 2 * w, c)
    return jnp.stack([x, x], axis=2).reshape(b, 2 * h, 2 * w, c)


_conv = convolution.conv


def in_three_passes(
    x: jax.Array, kernel: jax.Array, around: Any, stride: int = 1, precision: Any = None
) -> jax.Array:
    """Of TPUs a product in full precision is six of bfloat16: here three."""
    return _conv(x, kernel, around, stride, precision and "high")


def by_three_products(
    x: jax.Array, kernel: jax.Array, around: Any, stride: int = 1, precision: Any = None
) -> jax.Array:
    """The same where there is none such; a float32 number is two of bfloat16."""
    if not precision:
        return _conv(x, kernel, around, stride, precision)

    def halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        large = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
        small = jax.lax.reduce_precision(x - large, exponent_bits=8, mantissa_bits=7)
        return large, small

    (x, dx), (kernel, dkernel) = halves(x), halves(kernel)
    pairs = ((x, kernel), (x, dkernel), (dx, kernel))
    return sum(
        (_conv(*pair, around, stride, precision) for pair in pairs), jnp.zeros(())
    )


def attention_spelled_out(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """By two products and a softmax in float32."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * q.shape[-1] ** -0.5).astype(q.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def adapters_beside() -> contextlib.AbstractContextManager[object]:
    """Within it, networks are traced with their adapters beside the frozen layers."""
    return mock.patch.object(lora, "is_beside", lambda _: True)


def float32_gradients() -> contextlib.AbstractContextManager[object]:
    """Within it, gradients of maps between layers stay float32."""
    return mock.patch.object(layers, "gradient_in", lambda x, _: x)


def _method(owner: Any, name: str, function: Callable[..., Any]) -> Patch:
    return lambda: mock.patch.object(owner, name, function)


def _resampling(way: str, function: Callable[[jax.Array], jax.Array]) -> Patch:
    return lambda: mock.patch.dict(layers._RESAMPLE, {way: function})


@contextlib.contextmanager
def pooling_by_means() -> Iterator[None]:
    """Within it, blocks and their shortcuts are halved by `meaned`."""
    with (
        mock.patch.object(layers, "downsample", meaned),
        mock.patch.dict(layers._RESAMPLE, {"down": meaned}),
    ):
        yield


GROUPED_NORM = _method(GroupNorm, "__call__", grouped_norm)
TWO_PASSES = _method(group_norm, "_moments", two_passes)
CONCATENATED = _method(layers.ResBlock, "__call__", concatenated)
POINTWISE = _method(layers.Linear, "__call__", pointwise)
UPSAMPLED_FIRST = _method(convolution, "upsampled_conv", upsampled_then_convolved)
FOUR_CONVOLUTIONS = _method(convolution, "upsampled_conv", convolution._four_convs)
RESIZED = _resampling("up", resized)
LANES = _resampling("up", lanes)
THREE_PASSES = _method(convolution, "conv", in_three_passes)
THREE_PRODUCTS = _method(convolution, "conv", by_three_products)
SILU_BY_TANH = _method(jax.nn, "silu", silu_by_tanh)
ATTENTION_SPELLED_OUT = _method(attention, "attend", attention_spelled_out)
