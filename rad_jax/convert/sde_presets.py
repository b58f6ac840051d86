"""Published checkpoints of score_sde by name: networks and processes.

Nothing in such a file says which filter, which sums or which process its network has,
and so a preset does (configurations of the repository, Song et al. 2021).
"""

from typing import Any, NamedTuple

from rad_jax.convert.choices import FILES
from rad_jax.convert.score_sde import config_of
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.ncsnpp_config import NCSNppConfig


class SDEPreset(NamedTuple):
    """A published checkpoint.

    Attributes:
      file: its folder.
      config: its architecture.
      schedule: RAD's on its process.
      parametrisation: what it predicts.
    """

    file: str
    config: NCSNppConfig
    schedule: ScheduleConfig
    parametrisation: str


def _ve(largest: float, steps: int, kind: str = "ve") -> tuple[ScheduleConfig, str]:
    """The process of an NCSN++; its output times -1 is the noise."""
    sigmas = (0.01, largest)
    return ScheduleConfig(kind, steps, steps, base_steps=steps, sigmas=sigmas), "score"


def _vp(kind: str) -> tuple[ScheduleConfig, str]:
    return ScheduleConfig(kind), "eps"


def _ncsnpp(image_size: int, **settings: Any) -> NCSNppConfig:
    common = {
        **{"name": "ncsnpp", "nf": 128, "attn_resolutions": [16]},
        **{"embedding_type": "fourier", "resblock_type": "biggan"},
        **{"fir": True, "skip_rescale": True, "progressive_combine": "sum"},
    }
    data = {"image_size": image_size, "num_channels": 3}
    return config_of({**common, **settings}, data)


def _large(image_size: int, **settings: Any) -> NCSNppConfig:
    pyramids = {"progressive": "output_skip", "progressive_input": "input_skip"}
    return _ncsnpp(image_size, **pyramids, **settings)


def _cifar(num_res_blocks: int, **settings: Any) -> NCSNppConfig:
    common = {
        **{"ch_mult": [1, 2, 2, 2], "num_res_blocks": num_res_blocks, "dropout": 0.1},
        **{"progressive": "none", "progressive_input": "residual"},
    }
    return _ncsnpp(32, **{**common, **settings})


def _ddpmpp(num_res_blocks: int) -> NCSNppConfig:
    plain = {"embedding_type": "positional", "fir": False, "progressive_input": "none"}
    return _cifar(num_res_blocks, **plain)


_256 = _large(256, ch_mult=[1, 1, 2, 2, 2, 2, 2], num_res_blocks=2)
_1024 = _large(1024, nf=16, ch_mult=[1, 2, 4, 8, 16, 32, 32, 32], num_res_blocks=1)
_DDPM = config_of(
    {
        **{"name": "ddpm", "nf": 128, "ch_mult": [1, 2, 2, 2], "num_res_blocks": 2},
        **{"attn_resolutions": [16], "dropout": 0.1},
    },
    {"image_size": 32, "num_channels": 3},
)

_BASES = {
    "ncsnpp_ffhq256": (_256, _ve(348.0, 2000)),
    "ncsnpp_celebahq256": (_256, _ve(348.0, 2000)),
    "ncsnpp_bedroom256": (_256, _ve(378.0, 2000)),
    "ncsnpp_church256": (_256, _ve(380.0, 2000)),
    "ncsnpp_ffhq1024": (_1024, _ve(1348.0, 2000)),
    "ncsnpp_cifar10": (_cifar(4), _ve(50.0, 1000)),
    "ncsnpp_cifar10_deep": (_cifar(8), _ve(50.0, 1000)),
    "ncsnpp_cifar10_discrete": (
        _cifar(4, embedding_type="positional"),
        _ve(50.0, 1000, "ve_index"),
    ),
    "ddpmpp_cifar10": (_ddpmpp(4), _vp("vp")),
    "ddpmpp_cifar10_deep": (_ddpmpp(8), _vp("vp")),
    "ddpmpp_cifar10_discrete": (_ddpmpp(4), _vp("linear")),
    "ddpmpp_cifar10_subvp": (_ddpmpp(4), _vp("subvp")),
    "ddpmpp_cifar10_deep_subvp": (_ddpmpp(8), _vp("subvp")),
    "ddpm_cifar10": (_DDPM, _vp("linear")),
    "ddpm_cifar10_continuous": (_DDPM, _vp("vp")),
}

SDE_PRESETS = {
    name: SDEPreset(FILES[name], config, *process)
    for name, (config, process) in _BASES.items()
}
"""By name, of `choices.FILES`."""
