"""What each method's approximation costs: its exact error on Gaussian data.

With the ideal denoiser every method but MCG is affine in the known pixels and in its
noise, so the mean and covariance of what it makes follow from its derivatives, without
a sample and without a network, and can be held against the true conditional
distribution. MCG's normalised gradient is not affine: its moments are of samples.
"""

import argparse
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.exact_samplers import SCHEDULE, Moments, bures, oracle_error
from benchmarks.measured import measured, store
from rad_jax.baselines import methods
from rad_jax.baselines.chain import noise_from, respaced_times, strided_times
from rad_jax.baselines.choice import Baseline
from rad_jax.baselines.mcg import MCG
from rad_jax.baselines.methods import Settings, evaluations, settings_of
from rad_jax.diffusion import sampling
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.errors import UserError
from rad_jax.progress import progress
from tests.oracles import Gaussian, oracle_denoiser, smooth_gaussian

SIZE = 8
GIVEN, SAMPLES = 64, 256
"""Of MCG: images that are given, and samples of each."""

NFE = (5, 10, 20, 50, 100, 250, 1000)

STRIDED = (methods.ddrm.DDRM, methods.ddnm.DDNM, methods.deqir.DeqIR)

Row = dict[str, Any]

Fill = Callable[[jax.Array, Callable[[Any], jax.Array]], jax.Array]
"""``fill(images, noise)``, (b, 8, 8, 1)."""


def data() -> Gaussian:
    """Half as wide as the tests', so that clipping to [-1, 1] means little."""
    gaussian = smooth_gaussian(SIZE)
    return Gaussian(gaussian.mean / 2, gaussian.covariance / 4)


def masks() -> dict[str, np.ndarray]:
    """A quarter of the pixels, and the other three quarters."""
    box = np.zeros((SIZE, SIZE), np.float32)
    box[2:6, 2:6] = 1
    return {"box": box, "extreme": 1 - box}


def filler(gaussian: Gaussian, mask: np.ndarray, settings: Settings) -> Fill:
    """A method with the ideal denoiser of a plain ADM."""
    strided = isinstance(settings, STRIDED)
    times = (strided_times if strided else respaced_times)(SCHEDULE, settings.steps)
    denoise = oracle_denoiser(gaussian, SCHEDULE, np.ones_like(mask), times)

    def fill(images, noise):
        holes = jnp.broadcast_to(jnp.asarray(mask), images.shape[:3])
        return methods.fill(denoise, SCHEDULE, settings, images, holes, noise).images

    def one_by_one(images, noise):
        def alone(i):
            return fill(images[i][None], lambda number: noise(number)[i][None])[0]

        return jax.vmap(alone)(jnp.arange(len(images)))

    # As the commands do: the official norm is that of all images of a batch.
    return one_by_one if getattr(settings, "norm", "") == "batch" else fill


@jax.custom_vjp
def draw(gram: jax.Array) -> jax.Array:
    """No noise, once for each row of a matrix (b, b), which does not matter.

    Its gradient is what counts: of a draw whose effects on b numbers are rows of C it
    is C C^T, and of all draws together the covariance of these numbers. To keep the
    rows of thousands of draws would take gigabytes.
    """
    return jnp.zeros((len(gram), SIZE, SIZE, 1))


def _draw_forward(gram: jax.Array) -> tuple[jax.Array, tuple]:
    return draw(gram), ()


def _draw_backward(nothing: tuple, effects: jax.Array) -> tuple[jax.Array]:
    del nothing
    rows = effects.reshape(len(effects), -1)
    return (rows @ rows.T,)


draw.defvjp(_draw_forward, _draw_backward)


def exact_moments(
    gaussian: Gaussian, mask: np.ndarray, settings: Settings, images: np.ndarray
) -> Moments:
    """Mean and covariance of what a method makes of the hole's pixels.

    Args:
      gaussian: of the data.
      mask: (8, 8).
      settings: of a method that is affine.
      images: (given images, 64); the holes' content is not used.
    """
    fill, where = filler(gaussian, mask, settings), np.flatnonzero(mask)
    zeros = jnp.zeros((len(where), SIZE, SIZE, 1)), jnp.zeros((len(where), len(where)))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def affine(given, gram):
        """Copy i of the image is differentiated by pixel i of the hole."""
        made = fill(given, lambda number: draw(gram)).reshape(len(where), -1)
        return jnp.trace(made[:, where]), made[0, where]

    (_, shift), (of_images, covariance) = affine(*zeros)
    of_images = np.asarray(of_images, np.float64).reshape(len(where), -1)
    mean = np.asarray(shift, np.float64)[:, None] + of_images @ images.T
    return Moments(mean, np.asarray(covariance, np.float64))


def exact_error(gaussian: Gaussian, mask: np.ndarray, settings: Settings) -> float:
    """2-Wasserstein distance to the exact conditional, relative to its spread."""
    hole = mask.ravel() > 0
    factors = np.linalg.cholesky(gaussian.covariance).T
    images = gaussian.mean + np.concatenate([np.zeros_like(factors[:1]), factors])
    made = exact_moments(gaussian, mask, settings, images)
    exact = [gaussian.conditional(~hole, image[~hole]) for image in images]
    off = made.mean - np.stack([mean for mean, _ in exact], -1)
    off[:, 1:] -= off[:, :1]
    covariance = exact[0][1]
    squared = np.sum(off**2) + bures(made.covariance, covariance)
    return float(np.sqrt(squared / np.trace(covariance)))


def sampled_error(gaussian: Gaussian, mask: np.ndarray, settings: Settings) -> float:
    """The same of moments of samples, without what their number adds to the mean's."""
    fill, hole = filler(gaussian, mask, settings), mask.ravel() > 0
    rng = np.random.default_rng(0)
    given = rng.multivariate_normal(gaussian.mean, gaussian.covariance, GIVEN)

    @jax.jit
    def samples(image, key):
        images = jnp.broadcast_to(image, (SAMPLES, SIZE, SIZE, 1))
        keys = jax.random.split(key, SAMPLES)
        return fill(images, noise_from(keys, (SIZE, SIZE, 1)))

    squared, covariance = [], np.zeros(())
    for i, image in enumerate(given):
        pixels = jnp.float32(image).reshape(SIZE, SIZE, 1)
        made = np.float64(samples(pixels, jax.random.key(i)))
        made = made.reshape(SAMPLES, -1)[:, hole]
        mean, covariance = gaussian.conditional(~hole, image[~hole])
        found = np.cov(made.T)
        off = np.sum((made.mean(0) - mean) ** 2) - np.trace(found) / SAMPLES
        squared.append(off + bures(found, covariance))
    return float(np.sqrt(np.mean(squared) / np.trace(covariance)))


def method_rows(done: Sequence[Row]) -> Iterator[Row]:
    """Every method and preset at every number of evaluations, under both masks.

    Rows that are done are given as they are.
    """
    gaussian, chosen = data(), []
    known = {(row["method"], row["preset"], row["settings"]): row for row in done}
    numbers = {"fair": (None, *NFE), "published": (None, 20, 100)}
    for method, preset in itertools.product(methods.MODULES, numbers):
        for nfe in numbers[preset]:
            try:
                settings = settings_of(Baseline(method, preset, nfe), SCHEDULE)
            except UserError:
                continue  # takes more evaluations
            affine = getattr(settings, "solver", "serial") == "serial"
            if affine and (method, preset, settings) not in chosen:
                chosen.append((method, preset, settings))
    for method, preset, settings in progress(chosen, desc="oracle", unit="row"):
        if row := known.get((method, preset, methods.described(settings))):
            yield row
            continue
        error = sampled_error if isinstance(settings, MCG) else exact_error
        found = {
            kind: error(gaussian, mask, settings) for kind, mask in masks().items()
        }
        yield {
            "method": method,
            "preset": preset,
            "settings": methods.described(settings),
            "evaluations": evaluations(SCHEDULE, settings),
            "of_samples": isinstance(settings, MCG),
            **found,
        }


def rad_rows() -> list[Row]:
    """RAD's sampler, whose denoiser knows the noise of each pixel."""
    config = SamplerConfig(clip=False)
    error = functools.partial(oracle_error, data())
    return [
        {
            "method": "rad",
            "preset": "",
            "settings": f"steps={nfe}",
            "evaluations": nfe,
            "of_samples": False,
            **{
                kind: error(mask, config, sampling.time_grid(SCHEDULE, nfe, "uniform"))
                for kind, mask in masks().items()
            },
        }
        for nfe in NFE
    ]


def main() -> None:
    """Computes what the file does not hold, and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    done = json.loads(args.output.read_text())["rows"] if args.output.exists() else []
    rows = [*rad_rows(), *method_rows(done)]
    record = {"measured": measured(), "size": SIZE, "rows": rows}
    store(args.output, record)
    for row in record["rows"]:
        print(row["method"], row["preset"], row["evaluations"], row["box"])


if __name__ == "__main__":
    main()
