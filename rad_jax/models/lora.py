"""Low-rank adaptation of the network (LoRA; RAD Sec. 3.4), in PEFT's form.

An adapted layer adds ``(alpha / rank) * (x * a) b`` to its output: ``a`` is a layer of
the same kind to `rank` channels, ``b`` a dense layer back (a 1x1 convolution after a
3x3 one). It is computed as ``x * (kernel + (alpha / rank) * a b)``, which moves fewer
bytes; the sum is float32, and rounded once. Where the kernel is bfloat16 the adapter
is two layers beside it (`is_beside`). ``a`` begins Gaussian and ``b`` zero, so an
adapted network begins as its base. Queries, keys and values have adapters of their
own, as if they stood apart.

What trains is one filter, `TRAINABLE`: the adapters, and in full all time-embedding
layers. The rest is frozen. `merge` gives the plain network back for inference.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from rad_jax.models.attention import Attention
from rad_jax.models.config import NO_LORA, LoRAConfig
from rad_jax.models.convolution import Activation, Conv
from rad_jax.models.layers import Linear
from rad_jax.models.network import Network, NetworkConfig, build_network
from rad_jax.typing import PRNGKey

Params = Mapping[str, Any]
"""Nested dictionaries of arrays."""

TRAINABLE = nnx.Any(nnx.LoRAParam, nnx.All(nnx.Param, nnx.PathContains("time_embed")))
"""The parameters of an adapted network that train."""

PARTS = {"qkv": ("qkv", "q", "k", "v")}
"""Layers of a target that not every network has as one: attention to a context has its
queries of the one, its keys and values of the other."""


class AdaptedLinear(Linear):
    """A dense layer with an adapter."""

    def __init__(self, layer: Linear, config: LoRAConfig):
        """Takes the layer's parameters over; the adapter is zero."""
        self.dtype, self.zero, self.precision = layer.dtype, layer.zero, layer.precision
        self.kernel, self.bias = layer.kernel, layer.bias
        self.scale = config.alpha / config.rank
        inputs, outputs = layer.kernel.shape
        self.lora_a = nnx.LoRAParam(jnp.zeros((inputs, config.rank)))
        self.lora_b = nnx.LoRAParam(jnp.zeros((config.rank, outputs)))

    def __call__(
        self, x: Float[Array, "*shape _"], *more: Float[Array, "*shape _"]
    ) -> Float[Array, "*shape out"]:
        """Applies both."""
        y = super().__call__(x, *more)
        return y + _beside(self, x, *more) if is_beside(self) else y

    def weights(self) -> Float[Array, "inputs out"]:
        """The kernel that it applies, with the update if that is added to it."""
        kernel = super().weights()
        return kernel if is_beside(self) else kernel + self.update()

    def update(self) -> Float[Array, "inputs out"]:
        """What the adapter adds to the kernel, float32."""
        # Computed once for good: a rounded product would stay in every later call.
        a, b = self.lora_a[...], self.lora_b[...]
        return self.scale * jnp.matmul(a, b, precision="highest")


class AdaptedConv(Conv):
    """A 3x3 convolution with an adapter."""

    def __init__(self, layer: Conv, config: LoRAConfig):
        """Takes the layer's parameters over; the adapter is zero."""
        self.dtype, self.zero, self.precision = layer.dtype, layer.zero, layer.precision
        self.stride, self.upsampled = layer.stride, layer.upsampled
        self.around = layer.around
        self.kernel, self.bias = layer.kernel, layer.bias
        self.scale = config.alpha / config.rank
        *size, outputs = layer.kernel.shape
        self.lora_a = nnx.LoRAParam(jnp.zeros((*size, config.rank)))
        self.lora_b = nnx.LoRAParam(jnp.zeros((config.rank, outputs)))

    def __call__(self, x: Activation) -> Float[Array, "b _ _ out"]:
        """Applies both."""
        y = super().__call__(x)
        return y + _beside(self, x) if is_beside(self) else y

    def weights(self) -> Float[Array, "3 3 inputs out"]:
        """The kernel that it applies, with the update if that is added to it."""
        kernel = super().weights()
        return kernel if is_beside(self) else kernel + self.update()

    def update(self) -> Float[Array, "3 3 inputs out"]:
        """What the adapter adds to the kernel, float32."""
        a, b = self.lora_a[...], self.lora_b[...]
        return self.scale * jnp.matmul(a, b, precision="highest")


class AdaptedQKV(Linear):
    """The joint layer of queries, keys and values, with an adapter for each."""

    def __init__(self, layer: Linear, attention: Attention, config: LoRAConfig):
        """Takes the layer's parameters over; the adapters are zero."""
        self.dtype, self.zero, self.precision = layer.dtype, layer.zero, layer.precision
        self.kernel, self.bias = layer.kernel, layer.bias
        self.scale = config.alpha / config.rank
        self.heads, self.new_order = attention.heads, attention.new_order
        inputs, outputs = layer.kernel.shape
        self.lora_a = nnx.LoRAParam(jnp.zeros((3, inputs, config.rank)))
        self.lora_b = nnx.LoRAParam(jnp.zeros((3, config.rank, outputs // 3)))

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n 3*c"]:
        """Applies all."""
        y = super().__call__(x)
        if not is_beside(self):
            return y
        a, b = (p[...].astype(self.dtype) for p in (self.lora_a, self.lora_b))
        hidden = jnp.einsum("bnc,pcr->bnpr", x.astype(self.dtype), a)
        return y + self.scale * self._join(jnp.einsum("bnpr,pro->bnpo", hidden, b))

    def weights(self) -> Float[Array, "c 3*c"]:
        """The kernel that it applies, with the update if that is added to it."""
        kernel = super().weights()
        return kernel if is_beside(self) else kernel + self.update()

    def update(self) -> Float[Array, "c 3*c"]:
        """What the adapters add to the kernel, float32."""
        a, b = self.lora_a[...], self.lora_b[...]
        parts = jnp.einsum("pcr,pro->cpo", a, b, precision="highest")
        return self.scale * self._join(parts)

    def _join(self, parts: Float[Array, "*shape 3 c"]) -> Float[Array, "*shape 3*c"]:
        """Queries, keys and values in the layer's order of channels (`Attention`)."""
        # Three apart until here, as PEFT has them for three layers.
        parts = parts.reshape(*parts.shape[:-1], self.heads, -1)
        if not self.new_order:
            parts = jnp.swapaxes(parts, -3, -2)
        return parts.reshape(*parts.shape[:-3], -1)


Adapted = AdaptedLinear | AdaptedConv | AdaptedQKV


def is_beside(layer: Adapted) -> bool:
    """Whether the adapter is a layer beside the kernel, not added to it.

    A kernel in bfloat16 (`LoRAConfig.base_dtype`) lies on the grid that a sum is
    rounded to: a small update would come to nothing, in all its numbers.
    """
    return layer.kernel[...].dtype == jnp.bfloat16


def _beside(layer: AdaptedLinear | AdaptedConv, *parts: Array) -> Array:
    """What the adapter adds to the layer's output, by two layers."""
    hidden = layer.product(layer.lora_a[...], *parts)
    # As a kernel is rounded; what trains is kept in float32.
    b = layer.lora_b[...].astype(layer.dtype)
    # A Python float has no type of its own: bfloat16 stays bfloat16.
    return layer.scale * jnp.matmul(hidden, b, precision=layer.precision)


def adapted_network(
    config: NetworkConfig, lora: LoRAConfig, *, rngs: nnx.Rngs
) -> Network:
    """The network with its adapters, if there are any; these are zero."""
    model = build_network(config, rngs)
    if not lora.rank:
        return model
    # A list, since layers are replaced on the way.
    names = [name for target in lora.targets for name in PARTS.get(target, (target,))]
    for _, module in list(nnx.iter_modules(model)):
        for name in names:
            if isinstance(layer := getattr(module, name, None), (Conv, Linear)):
                setattr(module, name, _adapted(layer, module, lora))
    return model


def _adapted(layer: Conv | Linear, module: nnx.Module, lora: LoRAConfig) -> Adapted:
    if isinstance(layer, Conv):
        return AdaptedConv(layer, lora)
    if isinstance(module, Attention) and layer is module.qkv:
        return AdaptedQKV(layer, module, lora)
    return AdaptedLinear(layer, lora)


@functools.cache
def abstract_network(config: NetworkConfig, lora: LoRAConfig = NO_LORA) -> Network:
    """`adapted_network` without weights, for reading alone: traced once, then kept."""
    return nnx.eval_shape(lambda: adapted_network(config, lora, rngs=nnx.Rngs(0)))


def adapted_params(config: NetworkConfig, lora: LoRAConfig) -> dict[str, Any]:
    """Shapes of all parameters of the adapted network, a pure dict."""
    return nnx.to_pure_dict(nnx.state(abstract_network(config, lora), nnx.Param))


@functools.cache
def _trainable_paths(config: NetworkConfig, lora: LoRAConfig) -> frozenset[tuple]:
    # Without adapters all of the network trains; the filter would freeze most of it.
    what = TRAINABLE if lora.rank else nnx.Param
    state = nnx.state(abstract_network(config, lora), what)
    return frozenset(flatten_dict(nnx.to_pure_dict(state)))


def partition(
    config: NetworkConfig, lora: LoRAConfig, params: Params
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What trains of the parameters, and what is frozen; `combine` is the inverse."""
    paths = _trainable_paths(config, lora)
    flat = cast(dict[tuple, Any], flatten_dict(params))
    trainable = {path: leaf for path, leaf in flat.items() if path in paths}
    frozen = {path: leaf for path, leaf in flat.items() if path not in paths}
    return unflatten_dict(trainable), unflatten_dict(frozen)


def combine(trainable: Params, frozen: Params) -> dict[str, Any]:
    """The parameters of which these are the two parts."""
    return unflatten_dict(flatten_dict(frozen) | flatten_dict(trainable))


def draw_adapters(
    config: NetworkConfig, lora: LoRAConfig, key: PRNGKey
) -> dict[str, Any]:
    """New adapters: a is normal of deviation 1 / rank (PEFT's "gaussian"), b zero."""
    state = nnx.state(abstract_network(config, lora), nnx.LoRAParam)
    flat = cast(dict[tuple, Any], flatten_dict(nnx.to_pure_dict(state)))
    sizes = {path: leaf.size for path, leaf in flat.items() if path[-1] == "lora_a"}
    # One draw for all, see `layers.draw_weights`.
    numbers = jax.random.normal(key, (sum(sizes.values()),)) / max(lora.rank, 1)
    parts = dict(
        zip(sizes, jnp.split(numbers, np.cumsum([*sizes.values()])[:-1]), strict=True)
    )
    return unflatten_dict(
        {
            path: parts[path].reshape(leaf.shape)
            if path in parts
            else jnp.zeros(leaf.shape)
            for path, leaf in flat.items()
        }
    )


def merge(config: NetworkConfig, lora: LoRAConfig, params: Params) -> dict[str, Any]:
    """Parameters of the plain network that computes the same, float32.

    Args:
      config: architecture.
      lora: the adapters' settings.
      params: of the adapted network; those of a plain one come back as they are.
    """
    return _add_updates(config, lora, params, 1.0)


def plain_params(
    config: NetworkConfig, lora: LoRAConfig, trainable: Params, frozen: Params
) -> Params:
    """`merge` of both parts of the parameters, compiled; ready for inference."""
    if not lora.rank:
        return trainable
    return _compiled_merge(config, lora)(trainable, frozen)


@functools.cache
def _compiled_merge(config: NetworkConfig, lora: LoRAConfig) -> Callable[..., Params]:
    return jax.jit(lambda *parts: merge(config, lora, combine(*parts)))


def unmerge(
    config: NetworkConfig, lora: LoRAConfig, merged: Params, adapters: Params
) -> dict[str, Any]:
    """The plain network before these adapters were merged into it, up to rounding."""
    return _add_updates(config, lora, combine(adapters, merged), -1.0)


def _add_updates(
    config: NetworkConfig, lora: LoRAConfig, params: Params, sign: float
) -> dict[str, Any]:
    graphdef, _ = nnx.split(abstract_network(config, lora), nnx.Param)
    # Frozen kernels may be bfloat16 (`base_dtype`), too coarse to add updates in.
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    model = nnx.merge(graphdef, params, copy=True)
    for _, layer in nnx.iter_modules(model):
        if isinstance(layer, Adapted):
            layer.kernel[...] += sign * layer.update()
    plain = nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam))
    return nnx.to_pure_dict(nnx.state(model, plain))
