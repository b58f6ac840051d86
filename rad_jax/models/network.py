"""The networks that denoise, by their configurations."""

from typing import Any

from flax import nnx

from rad_jax.models import ncsnpp, unet
from rad_jax.models.config import UNetConfig
from rad_jax.models.ncsnpp import NCSNpp
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.models.unet import UNet

NetworkConfig = UNetConfig | NCSNppConfig

Network = UNet | NCSNpp
"""All are called alike: ``network(x, noise, labels=None, dropout_keys=None)``."""


def build_network(config: NetworkConfig, rngs: nnx.Rngs) -> Network:
    """A new network of this architecture."""
    if isinstance(config, NCSNppConfig):
        return NCSNpp(config, rngs=rngs)
    return UNet(config, rngs=rngs)


def differences(a: NetworkConfig, b: NetworkConfig) -> dict[str, tuple[Any, Any]]:
    """Attributes in which one network is another function than the other, with both.

    How it is computed, regularised and conditioned on the noise may differ.
    """
    if isinstance(a, UNetConfig) and isinstance(b, UNetConfig):
        return a.differences(b)
    if isinstance(a, NCSNppConfig) and isinstance(b, NCSNppConfig):
        return a.differences(b)
    return {"architecture": (a.architecture, b.architecture)}


def abstract_params(config: NetworkConfig) -> dict[str, Any]:
    """Shapes and dtypes of its parameters, a pure dict; no weight is made."""
    if isinstance(config, NCSNppConfig):
        return ncsnpp.abstract_params(config)
    return unet.abstract_params(config)
