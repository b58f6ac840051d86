"""The networks that denoise, by their configurations."""

import functools
from typing import Any

import jax
from flax import nnx

from rad_jax.models.config import UNetConfig
from rad_jax.models.ncsnpp import NCSNpp
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.models.sd import SDUNet
from rad_jax.models.sd_config import SDConfig
from rad_jax.models.unet import UNet

NetworkConfig = UNetConfig | NCSNppConfig | SDConfig
"""The last needs an encoder of texts beside it, whose states it is told."""

Network = UNet | NCSNpp | SDUNet
"""All are called alike: ``network(x, noise, labels=None, dropout_keys=None)``; the last
takes a ``context``, too."""


def build_network(config: NetworkConfig, rngs: nnx.Rngs) -> Network:
    """A new network of this architecture."""
    if isinstance(config, NCSNppConfig):
        return NCSNpp(config, rngs=rngs)
    if isinstance(config, SDConfig):
        return SDUNet(config, rngs=rngs)
    return UNet(config, rngs=rngs)


def differences(a: NetworkConfig, b: NetworkConfig) -> dict[str, tuple[Any, Any]]:
    """Attributes in which one network is another function than the other, with both.

    How it is computed, regularised and conditioned on the noise may differ.
    """
    if type(a) is not type(b):
        return {"architecture": (a.architecture, b.architecture)}
    return a.differences(b)


def abstract_params(config: NetworkConfig) -> dict[str, Any]:
    """Shapes and dtypes of its parameters, a pure dict; no weight is made."""
    # A dictionary of the caller's own: what is kept must not change.
    return jax.tree.map(lambda leaf: leaf, _abstract_params(config))


@functools.lru_cache(maxsize=16)
def _abstract_params(config: NetworkConfig) -> dict[str, Any]:
    """Kept, since to trace the network takes a tenth of a second and more."""

    def params():
        return nnx.to_pure_dict(nnx.state(build_network(config, nnx.Rngs(0))))

    return jax.eval_shape(params)
