"""What to evaluate, and how; importable without JAX."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rad_jax.baselines.choice import Baseline
from rad_jax.diffusion.options import SamplerConfig, SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference.file_options import FileOptions
from rad_jax.masks.kinds import MAX_COVERAGE, PAPER_KINDS

ORIGINALS = "originals"
METHODS = ("rad", ORIGINALS)
"""RAD; or the originals themselves, whose FID is the floor for so few images."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What to evaluate and how.

    Attributes:
      data: name of a prepared data set, or "folder" for image files.
      data_dir: folder of the data sets, or of the images.
      split: part of it; None for the one that no model is trained on.
      masks: kinds, `masks.kinds.KINDS`, or folders of mask files.
      num_images: the first ones of the split.
      metrics: `scores.GROUPS`; none for what `default_metrics` chooses.
      weights: folder of the metrics' networks, see `metrics.weights`.
      reference: .npz file of FID's reference; None for the images themselves.
      method: one of `METHODS`; with a `Baseline` as sampling, that.
      max_coverage: of strokes, see `masks.evaluation.evaluation_mask`.
      sampling: how holes are filled, by RAD or another method; labels come with the
        data.
      files: seed of masks and noise, fillings of each image, images at once.

    Raises:
      UserError: an option is one that an evaluation does not have.
    """

    data: str
    data_dir: Path
    split: str | None = None
    masks: Sequence[str] = PAPER_KINDS
    num_images: int = 1000
    metrics: Sequence[str] = ()
    weights: Path | None = None
    reference: Path | None = None
    method: str = "rad"
    max_coverage: float | None = MAX_COVERAGE
    sampling: SamplingOptions | Baseline = dataclasses.field(
        default_factory=SamplingOptions
    )
    files: FileOptions = dataclasses.field(default_factory=FileOptions)

    def __post_init__(self):
        """Refuses what its record could not say."""
        sampling = self.sampling
        plain = isinstance(sampling, Baseline) or (
            not isinstance(sampling.sampler, SamplerConfig)
            and not sampling.eta
            and sampling.snr == SamplingOptions.snr
        )
        if sampling.label is not None or not plain:
            raise UserError(
                "an evaluation takes labels from its data, and the name of a sampler; "
                "leave label, eta and snr out"
            )

    @property
    def held_out_split(self) -> str:
        """The part of the data that is evaluated."""
        held_out = "test" if self.data in ("digits", "photos") else "validation"
        return self.split or held_out


def default_metrics(data: str) -> tuple[str, ...]:
    """Of digits the classifier's; of anything else LPIPS and FID."""
    return ("classifier",) if data == "digits" else ("lpips", "fid")
