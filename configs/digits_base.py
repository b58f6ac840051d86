"""RAD from scratch on digits, on each of the bases that it runs on.

rad-jax prepare digits --data_dir data
rad-jax train --config configs/digits_base.py:ve --workdir runs/digits_ve

`adm`, `iddpm` (cosine, 4000 steps), `vp` (DDPM++, continuous time) or `ve` (NCSN++).
For the plain model that adapters are trained of, `--config.mask.kind=full` and
`--config.schedule.known_steps=0`. `benchmarks/bases.py` compares them all.
"""

import ml_collections

from configs import digits

BASES = ("adm", "iddpm", "vp", "ve")


def get_config(base: str = "adm") -> ml_collections.ConfigDict:
    if base not in BASES:
        raise ValueError(f"base is {base!r}; use one of {', '.join(BASES)}")
    config = digits.get_config()
    config.loss.parametrisation = "eps"  # as all of these bases are published
    if base == "iddpm":
        config.schedule.kind = "cosine"
        config.schedule.hole_steps = config.schedule.known_steps = 4000
        config.schedule.base_steps = 4000
        config.schedule.timestep_scale = 0.25
    if base in ("vp", "ve"):
        config.model = ncsnpp(fourier=base == "ve")
        config.schedule.kind = base
        config.loss.vlb_weight = 0.0  # there are no steps, and no learned variance
    if base == "ve":
        config.loss.parametrisation = "score"
        config.schedule.sigmas = (0.01, 20.0)  # the latter, distances of images
        # Published models have neither, and are trained for longer (docs/bases.md).
        config.schedule.unit_input = True
        config.model.fourier_scale = 1.0
    return config


def ncsnpp(*, fourier: bool) -> ml_collections.ConfigDict:
    """NCSN++ for VE, or DDPM++ for VP, about as large as the ADM of digits."""
    model = ml_collections.ConfigDict()
    model.architecture = "ncsnpp"
    model.image_size = 16
    model.model_channels = 32
    model.channel_mult = (1, 2, 2)
    model.num_res_blocks = 1
    model.attention_resolutions = (8, 4)
    model.in_channels = model.out_channels = 1
    model.embedding = "fourier" if fourier else "positional"
    model.fir = fourier
    model.progressive_input = "residual" if fourier else "none"
    model.progressive = "none"
    model.progressive_combine = "sum"
    model.block = "biggan"
    model.skip_rescale = True
    model.groups = 0
    model.dropout = 0.0
    model.dtype = "float32"
    model.use_remat = False
    model.noise_embedding = "spatial"
    return model
