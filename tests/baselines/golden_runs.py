"""The official programs' runs in tests/golden/baselines, and the networks they had."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines.chain import noise_from
from rad_jax.convert.adm import adm_to_params, config_from_adm_flags
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.apply import make_apply
from rad_jax.models.noise_embedding import NoiseLevels
from tests.models.adm_files import FOLDER, description, golden_weights

SCHEDULE = make_schedule(ScheduleConfig(known_steps=0))
CASES = json.loads((FOLDER / "baselines/baselines.json").read_text())["files"]


def nhwc(x):
    return np.moveaxis(x, -3, -1) if x.ndim >= 3 else x


@functools.cache
def file(name):
    with np.load(FOLDER / f"baselines/{name}.npz") as arrays:
        return {key: nhwc(x) for key, x in arrays.items()}


def of_case(name, case):
    """Arrays of a case, without its prefix."""
    prefix = f"{case}/"
    return {k.removeprefix(prefix): x for k, x in file(name).items() if prefix in k}


def images_and_masks(name, case, dtype=np.float32):
    """The clean images, and masks that are 1 in the hole."""
    known = file(name)[f"mask_{case.rsplit('/', 1)[1]}"]
    images = file(name)["y"].astype(dtype)
    return jnp.asarray(images), jnp.asarray(np.repeat(1 - known[None], 2, 0), dtype)


def drawn(seed, shapes):
    """Recorded noise: the generator's draws, NCHW, of which images are stacked."""
    generator = np.random.default_rng(seed)
    draws = [generator.standard_normal(s, dtype=np.float32) for s in shapes]
    return np.stack([nhwc(x) for x in draws if x.ndim == 4])


def recorded(noise):
    stack = jnp.asarray(noise)
    return lambda number: stack[number]


def own_noise(images, first=0):
    """Of images whose seeds count from ``first``."""
    keys = jax.vmap(jax.random.key)(first + jnp.arange(len(images)))
    return noise_from(keys, images.shape[1:])


@functools.cache
def _tiny():
    meta = description("tiny_adm")
    config = config_from_adm_flags(meta["flags"])
    params = adm_to_params(config, golden_weights(meta["state_dict"]))
    return make_apply(config), params


def denoiser(network, seen=None):
    """Golden README's networks; what they see is appended to ``seen``."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    roots = np.sqrt([alpha_bar, 1 - alpha_bar]).astype(np.float32)

    def denoise(x, step):
        timesteps = jnp.broadcast_to(step.timesteps, (len(x), 2))[:, 1]
        if seen is not None:

            def keep(x, t, seen=seen):
                seen.append((np.array(x), np.array(t)))

            jax.debug.callback(keep, x, timesteps, ordered=True)
        at = jnp.round(timesteps).astype(int)
        r, s = (jnp.asarray(row, x.dtype)[at][:, None, None, None] for row in roots)
        if network == "analytic":
            u = 0.4 * x + 0.3 * jnp.roll(x, 3, 2) + 0.3 * jnp.roll(x, 5, 1)
            u += 0.2 * jnp.roll(x, 1, 3)
            v = jnp.sin(3 * u)
        else:
            apply, params = _tiny()
            arrays = jax.tree.map(jnp.asarray, params)
            out = apply(arrays, jnp.float32(x), NoiseLevels(timesteps[:, None]))
            u, v = jnp.split(out.astype(x.dtype), 2, axis=-1)
        eps = s * (x - 0.6 * r * jnp.tanh(u)) / (0.3 * r * r + s * s)
        return jnp.concatenate([eps, v], -1)

    return denoise
