"""RAD in the latents of digits beside RAD in their pixels, under the demo's masks.

Trains an autoencoder of digits, then RAD on its latents from three seeds, and RAD on
pixels. What was done is kept: a run that was stopped goes on.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.digit_scores import NUM_SAMPLES, Digits, load_digits, scores, summary
from benchmarks.measured import measured, store
from benchmarks.training_run import trained
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Codec, Model
from rad_jax.checkpoints.model_folder import read_model, write_model
from rad_jax.config.file import load_config
from rad_jax.diffusion.options import SEAMS
from rad_jax.evaluate.demo import KINDS, fill_samples, hole_masks
from rad_jax.files.pixel_ranges import to_float
from rad_jax.metrics import image
from rad_jax.models.apply import init_params
from rad_jax.models.autoencoder import (
    Autoencoder,
    draw_latents,
    make_decode,
    make_encode,
)
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.layers import draw_weights
from rad_jax.prepare.command import prepare
from rad_jax.progress import progress
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores

CONFIG = "configs/digits_latent.py"
SEEDS = (0, 1, 2)
FILLING_STEPS = (20, 100)

STEPS, BATCH = 3000, 64
"""Of the autoencoder's training."""

KL_WEIGHT = 1e-4
"""Keeps latents near the unit Gaussian, and hardly: pictures matter more."""


def train_autoencoder(
    config: AutoencoderConfig, images: np.ndarray, seed: int
) -> tuple[Any, float]:
    """Parameters of which latents have unit variance, and the error of pictures.

    Args:
      config: its architecture, of scaling factor 1.
      images: to train on, bytes.
      seed: of the weights, the order and the noise.

    Returns:
      The parameters, and the root mean square error on these images, in [0, 1].
    """
    pixels = jnp.asarray(to_float(images))
    encode, decode = make_encode(config), make_decode(config)
    module = Autoencoder(config)
    draw_weights(module, jax.random.key(seed))
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, STEPS))

    def loss(params, batch, key):
        moments = encode(params, batch)
        found = decode(params, draw_latents(moments, key))
        log_variance = moments.log_variance
        assert log_variance is not None  # of kind "kl"
        divergence = moments.mean**2 + jnp.exp(log_variance) - log_variance - 1
        return jnp.abs(found - batch).mean() + KL_WEIGHT * divergence.mean() / 2

    @jax.jit
    def step(params, state, number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        order, noise = jax.random.split(key)
        batch = pixels[jax.random.randint(order, (BATCH,), 0, len(pixels))]
        gradient = jax.grad(loss)(params, batch, noise)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for number in progress(range(STEPS), desc="autoencoder", unit="step"):
        params, state = step(params, state, jnp.int32(number))
    # The layers nearest to the latents are linear: they take the scale.
    mean = jax.jit(encode)(params, pixels).mean
    params = _rescaled(params, config, float(mean.std()))
    found = jax.jit(lambda x: decode(params, encode(params, x).mean))(pixels)
    error = float(jnp.sqrt(jnp.square((found - pixels) / 2).mean()))
    return jax.tree.map(np.asarray, params), error


def _rescaled(params: Any, config: AutoencoderConfig, deviation: float) -> Any:
    """The same autoencoder, whose latents are divided by their deviation."""
    z = config.latent_channels
    mean = jnp.arange(2 * z) < z  # of the means alone; a variance is shifted
    scale = jnp.where(mean, 1 / deviation, 1.0)
    shift = jnp.where(mean, 0.0, -2 * np.log(deviation))
    before, after = params["quant_conv"], params["post_quant_conv"]
    return params | {
        "quant_conv": {
            "kernel": before["kernel"] * scale[None],
            "bias": before["bias"] * scale + shift,
        },
        "post_quant_conv": after | {"kernel": after["kernel"] * deviation},
    }


def make_start(data: Path, folder: Path, digits: Digits) -> float:
    """The model that RAD begins from: new weights, and an autoencoder that is trained.

    Returns:
      The error of its pictures of held-out digits.
    """
    own = f"--config.data.data_dir={data}", f"--config.pretrained={folder}"
    experiment = load_config(CONFIG, own)
    assert experiment.codec is not None
    if not folder.is_dir():
        params, error = train_autoencoder(experiment.codec, digits.training, 0)
        model = Model(
            experiment.model,
            experiment.schedule,
            experiment.loss.parametrisation,
            jax.tree.map(np.asarray, init_params(experiment.model, jax.random.key(0))),
            codec=Codec(experiment.codec, params),
        )
        write_model(folder, model, {"error": error})
    codec = read_model(folder).codec
    assert codec is not None
    pixels = jnp.asarray(to_float(digits.images))
    encode, decode = make_encode(codec.config), make_decode(codec.config)
    found = jax.jit(lambda p, x: decode(p, encode(p, x).mean))(codec.params, pixels)
    return float(jnp.sqrt(jnp.square((found - pixels) / 2).mean()))


def filled_digits(
    model: Model, digits: Digits, what: str, steps: int
) -> dict[str, dict[str, Any]]:
    """Scores under each kind of mask."""
    real = digits.classifier.features(to_float(digits.images))
    found = {}
    for kind in KINDS:
        each = scores(model, digits, kind, f"{what} {kind}", steps=steps)
        found[kind] = summary(each, real, None)
    return found


def seams(model: Model, digits: Digits) -> dict[str, float]:
    """The jump at the hole's edge over that of the digits, by what is done there."""
    masks = hole_masks("box", digits.images)
    truth, found = jnp.asarray(to_float(digits.images)), {}
    for seam in SEAMS:
        options = {"steps": FILLING_STEPS[0], "seam": seam}
        samples, _ = fill_samples(
            model, digits.images, masks, f"seam {seam}", 1, **options
        )
        filled = jnp.asarray(to_float(samples[0]))
        jumps = image.seam(filled, truth, jnp.asarray(masks))
        total = image.Seam(*(x.sum() for x in jumps))
        found[seam] = float(image.seam_ratio(total))
    return found


def main() -> None:
    """Trains, measures, stores, and says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/latents"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/latents"))
    args = parser.parse_args()
    use_cpu_cores()
    enable_compilation_cache()
    data, start = args.workdir / "data", args.workdir / "start"
    prepare("digits", data)
    digits = load_digits(data)
    error = make_start(data, start, digits)
    common = f"data.data_dir={data}", "train.sample_every=0"
    for seed in SEEDS:
        own = (*common, f"seed={seed}")
        for where, config, changes in (
            ("pixels", "configs/digits.py", own),
            ("latents", CONFIG, (*own, f"pretrained={start}")),
        ):
            path, folder = args.output / f"{where}_{seed}.json", f"{where}_{seed}"
            if path.exists():
                continue
            measurement = measured()
            if not trained(config, changes, args.workdir / folder):
                return
            model = load_diffusion(args.workdir / folder)
            record: dict[str, Any] = {
                "measured": measurement,
                "num_images": len(digits.images),
                "num_samples": NUM_SAMPLES,
                "steps": {
                    str(n): filled_digits(model, digits, f"{folder} {n}", n)
                    for n in FILLING_STEPS
                },
            }
            if model.codec:
                record |= {"autoencoder_rms": error, "seam": seams(model, digits)}
            store(path, record)
            jax.clear_caches()
    print("latents: done")


if __name__ == "__main__":
    main()
