"""A network as a pure function of its parameters."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rad_jax.models.config import NO_LORA, LoRAConfig
from rad_jax.models.convolution import Conv
from rad_jax.models.layers import Linear
from rad_jax.models.lora import abstract_network
from rad_jax.models.network import NetworkConfig, build_network
from rad_jax.models.sd import SDUNet
from rad_jax.typing import Outputs, PRNGKey

Params = Any
"""Nested dictionaries of float32 arrays, as ``init_params`` makes them."""

Apply = Callable[..., Outputs]
"""``apply(params, x, noise, labels=None, dropout_keys=None, context=None)``: the
network's call."""


def init_params(config: NetworkConfig, key: PRNGKey) -> Params:
    """Draws the parameters of a new network, a pure dictionary."""
    model = build_network(config, nnx.Rngs(key))
    # Own buffers: the module's may be donated to a training step.
    return jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


@functools.cache
def make_apply(config: NetworkConfig, lora: LoRAConfig = NO_LORA) -> Apply:
    """The network's call as a pure function, to be used inside ``jax.jit``.

    With a rank the parameters are those of the network with its adapters.

    The module is merged inside: ``jax.jit`` over plain dictionaries costs a hundredth
    of a call through ``nnx.jit``.
    """
    # Shapes are enough: the weights come with each call.
    graphdef, _ = nnx.split(abstract_network(config, lora), nnx.Param)

    def apply(
        params: Params, x, noise, labels=None, dropout_keys=None, context=None
    ) -> Outputs:
        model = nnx.merge(graphdef, params, copy=True)
        if isinstance(model, SDUNet):
            return model(x, noise, labels, context=context, dropout_keys=dropout_keys)
        if context is not None:
            raise ValueError(f"a network {config.architecture} takes no context")
        return model(x, noise, labels, dropout_keys=dropout_keys)

    return apply


@functools.cache
def make_rounding(config: NetworkConfig) -> Callable[[Params], Params]:
    """``rounded(params)``: rounded as the layers that compute in `UNetConfig.dtype` do.

    For before a loop: on NVIDIA's GPUs XLA else rounds them in each step of it, and
    reads twice the bytes. What the network computes stays the same, bit for bit.
    """
    dtype = jnp.dtype(config.dtype)
    if dtype == jnp.float32:
        return lambda params: params
    layers = {
        path
        for path, layer in nnx.iter_modules(abstract_network(config))
        if isinstance(layer, (Conv, Linear))
        and layer.dtype == dtype
        # Their kernels are summed up before they are rounded.
        and not getattr(layer, "upsampled", False)
    }

    def rounded(params: Params) -> Params:
        def one(path, leaf):
            return leaf.astype(dtype) if keys(path)[:-1] in layers else leaf

        return jax.tree.map_with_path(one, params)

    def keys(path) -> tuple:
        return tuple(entry.key for entry in path)

    return rounded
