"""Scores of fillings: what is computed of each, and what becomes of them all.

A scorer takes a batch: fillings (b, s, h, w, c), s of each original (b, h, w, c), and
holes (b, h, w). It gives numbers per filling (b, s) or per image (b,), and features
(b, s, d) and (b, d) of sets that are compared as a whole. NaN stands where there is
nothing to score: an empty hole.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.errors import UserError
from rad_jax.metrics import image as pixels
from rad_jax.metrics import inception, lpips
from rad_jax.metrics.bootstrap import mean_interval
from rad_jax.metrics.digits import Classifier
from rad_jax.metrics.frechet import (
    Statistics,
    frechet_distance,
    of_features,
    sample_warning,
)
from rad_jax.metrics.kid import kid
from rad_jax.runtime.sharding import on_all_devices

GROUPS = ("pixels", "lpips", "fid", "classifier")
"""Metrics to choose: what needs no network; what needs published weights; digits'."""

KID_SUBSET = 1000

Scores = dict[str, np.ndarray]
Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Scores]
"""``scorer(fillings, originals, holes, labels)``, images in [-1, 1]."""


def scorers(
    groups: Sequence[str], *, weights: Path | None, classifier: Classifier | None
) -> list[Scorer]:
    """What computes these metrics; files are read here, before any other work.

    Raises:
      UserError: a group is unknown, or a file of weights or a package is missing.
    """
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        raise UserError(
            f"metrics {unknown[0]!r} are unknown; there are {', '.join(GROUPS)}"
        )
    found: list[Scorer] = [_batched(_pixel_scores, {})]
    if "lpips" in groups:
        params = {net: lpips.read_params(net, weights) for net in ("alex", "vgg")}
        found.append(_batched(_lpips_scores, params))
    if "fid" in groups:
        found.append(_batched(_inception_scores, inception.read_params(weights)))
    if "classifier" in groups:
        if classifier is None:
            raise UserError("metrics 'classifier' are of the data set digits alone")
        found.append(functools.partial(_classifier_scores, classifier))
    return found


def _batched(compute: Callable[..., dict[str, jax.Array]], params: Any) -> Scorer:
    """Compiled, a batch's images divided over the devices."""
    compiled = jax.jit(compute)

    def score(fillings, originals, holes, labels):
        del labels
        count = len(originals)
        batch, placed = on_all_devices((fillings, originals, holes), params)
        return {
            name: np.asarray(x)[:count] for name, x in compiled(placed, *batch).items()
        }

    return score


def _each(metric: Callable, fillings, *others):
    """A metric of one filling per image, of all of them: (b, s, ...)."""
    count, samples = fillings.shape[:2]
    flat = fillings.reshape(count * samples, *fillings.shape[2:])
    repeated = (jnp.repeat(x, samples, axis=0) for x in others)
    found = metric(flat, *repeated)
    return jax.tree.map(lambda x: x.reshape(count, samples, *x.shape[1:]), found)


def _pixel_scores(params, fillings, originals, holes) -> dict[str, jax.Array]:
    del params
    args = fillings, originals, holes
    seam = _each(pixels.seam, *args)
    scores = {
        "psnr": _each(pixels.psnr, fillings, originals),
        "psnr_hole": _in_hole(pixels.psnr_in_hole, *args),
        "known_changed": _each(pixels.known_changed, *args),
        "seam_filled": seam.filled,
        "seam_original": seam.original,
        "seam_pairs": seam.pairs,
        "seam_excess": jnp.where(seam.pairs > 0, pixels.seam_excess(seam), jnp.nan),
    }
    if min(fillings.shape[2:4]) >= pixels.WINDOW:
        scores["ssim"] = _each(pixels.ssim, fillings, originals)
        scores["ssim_hole"] = _in_hole(pixels.ssim_in_hole, *args)
    if fillings.shape[1] > 1:
        spread = jax.vmap(
            lambda samples, hole: pixels.mean_pairwise(
                samples, lambda a, b: pixels.rms_in_hole(a, b, hole)
            )
        )(fillings, holes)
        empty = (holes > 0).sum(axis=(1, 2)) == 0
        scores["diversity_rms"] = jnp.where(empty, jnp.nan, spread)
        # Smallest for samples of the true conditional distribution, and for nothing
        # else: blur and missing diversity do not pay (Gneiting & Raftery 2007).
        apart = _each(jax.vmap(pixels.rms_in_hole), *args).mean(axis=1)
        scores["energy_hole"] = jnp.where(empty, jnp.nan, apart - spread / 2)
    return scores


def _in_hole(metric: Callable, *args):
    found = _each(metric, *args)
    return jnp.where(found.count > 0, found.value, jnp.nan)


LPIPS: dict[str, tuple[lpips.Net, lpips.Convention]] = {
    "lpips_alex": ("alex", "standard"),
    "lpips_alex_unscaled": ("alex", "unscaled"),
    "lpips_vgg": ("vgg", "standard"),
}


def _lpips_scores(params, fillings, originals, holes) -> dict[str, jax.Array]:
    del holes
    scores = {}
    for name, (net, convention) in LPIPS.items():
        metric = functools.partial(
            lpips.lpips, params[net], net=net, convention=convention
        )
        scores[name] = _each(metric, fillings, originals)
    if fillings.shape[1] > 1:
        extract = functools.partial(lpips.features, params["alex"], net="alex")
        apart = functools.partial(lpips.distance, params["alex"])
        scores["diversity_lpips"] = jax.lax.map(
            lambda samples: pixels.mean_pairwise(extract(samples), apart), fillings
        )
    return scores


def _inception_scores(params, fillings, originals, holes) -> dict[str, jax.Array]:
    del holes
    extract = functools.partial(inception.inception_features, params)
    return {
        "inception": _each(extract, fillings),
        "inception_originals": extract(originals),
    }


def _classifier_scores(
    classifier: Classifier, fillings, originals, holes, labels
) -> Scores:
    del holes
    count, samples = fillings.shape[:2]
    flat = fillings.reshape(count * samples, *fillings.shape[2:])
    read = classifier.predict(flat).reshape(count, samples)
    return {
        "accuracy": (read == labels[:, None]).astype(float),
        "accuracy_originals": (classifier.predict(originals) == labels).astype(float),
        "classifier": classifier.features(flat).reshape(count, samples, -1),
        "classifier_originals": classifier.features(originals),
    }


FEATURES = {"inception": "fid", "classifier": "frechet_classifier"}
"""Features, and the name of the Frechet distance in them."""

_SUMS = ("seam_filled", "seam_original", "seam_pairs")


def summarise(
    scores: Mapping[str, np.ndarray], *, seed: int, reference: Statistics | None
) -> dict[str, Any]:
    """Means with confidence intervals over images, and distances of whole sets.

    Args:
      scores: of all images, in their order.
      seed: of the bootstrap and of KID's subsets.
      reference: what FID is measured against; None for the originals.

    Returns:
      As JSON stores it: {"mean", "low", "high", "images"} of each score, FID and KID
      where there are features, and under "warnings" what to know of them.
    """
    found: dict[str, Any] = {"warnings": []}
    for name, values in scores.items():
        if name.removesuffix("_originals") in FEATURES or name in _SUMS:
            continue
        means = values.reshape(len(values), -1).astype(float).mean(axis=1)
        means = means[~np.isnan(means)]
        if len(means):
            interval = mean_interval(means, seed=seed)
            found[name] = interval._asdict() | {"images": len(means)}
    sums = pixels.Seam(*(jnp.asarray(scores[name].sum()) for name in _SUMS))
    found["seam_ratio"] = float(pixels.seam_ratio(sums))
    for name, distance in FEATURES.items():
        if name in scores:
            fillings = scores[name].reshape(-1, scores[name].shape[-1])
            originals = scores[f"{name}_originals"]
            against = reference if name == "inception" else None
            found |= _distances(distance, fillings, originals, against, seed)
    if "inception" in scores:
        warning = sample_warning(len(scores["inception_originals"]))
        found["warnings"] += [warning] if warning else []
    return found


def _distances(
    name: str,
    fillings: np.ndarray,
    originals: np.ndarray,
    reference: Statistics | None,
    seed: int,
) -> dict[str, Any]:
    other = reference or of_features(originals)
    found: dict[str, Any] = {name: frechet_distance(of_features(fillings), other)}
    if name == "fid":
        size = min(KID_SUBSET, len(originals))
        mean, deviation = kid(fillings, originals, seed=seed, subset_size=size)
        found["kid"] = {"mean": mean, "deviation": deviation, "subset": size}
    return found
