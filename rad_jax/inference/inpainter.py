"""Inpainting from any program, in one call.

inpainter = rad_jax.Inpainter.from_pretrained("runs/digits")
filled = inpainter("photo.png", "hole.png", seed=7)
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines.choice import Baseline
from rad_jax.baselines.methods import require_mask
from rad_jax.checkpoints.load import load
from rad_jax.checkpoints.model import AnyModel, LamaModel, require_diffusion
from rad_jax.diffusion.options import SamplerConfig, SamplingOptions, require_one_of
from rad_jax.errors import UserError
from rad_jax.inference.call_arguments import keys_of, masks_of, of_each
from rad_jax.inference.call_results import Job, as_bytes, restored
from rad_jax.inference.comparison import non_finite_help
from rad_jax.inference.file_options import require_counts
from rad_jax.inference.fill_regions import Fills, Request, fill_requests
from rad_jax.inference.inpaint import choose, prepare_fill
from rad_jax.inference.lama import require_one_pass
from rad_jax.inference.pixels import (
    Range,
    is_batch,
    stacked,
    to_mask,
    to_picture,
)
from rad_jax.inference.regions import Region, plan
from rad_jax.inference.results import NON_FINITE, require_finite
from rad_jax.inference.scaling import paste_region, read_region
from rad_jax.inference.sizes import require_untiled, sizes_of
from rad_jax.inference.stepping import OnStep, fill_in_steps
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.runtime.memory import RetryOnOOM

REGIONS = 2**31 - 1
"""Folded into a sample's key before the numbers of its regions: no sample's number."""

MOST_PREPARED = 32
"""Different options that are kept ready."""


class Inpainter:
    """Fills the holes of pictures with a model.

    Attributes:
      model: from `load`.
    """

    def __init__(self, model: AnyModel):
        """Wraps a model that is loaded.

        >>> inpainter = Inpainter(rad_jax.load("runs/digits"))
        """
        self.model = model
        self._prepared: dict[SamplingOptions | Baseline, Fills] = {}

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], *, dtype: str | None = None
    ) -> "Inpainter":
        """Loads a model folder, or the averaged parameters of a training run.

        >>> inpainter = Inpainter.from_pretrained("gs://bucket/models/ffhq")

        Args:
          folder: on this machine, in a bucket, or hf://owner/name@revision.
          dtype: what it computes in, "float32" or "bfloat16"; by default as trained.

        Raises:
          UserError: as `load`.
        """
        return cls(load(os.fspath(folder), dtype=dtype))

    def __call__(
        self,
        image: Any,
        mask: Any,
        *,
        seed: int | None = None,
        key: Any = None,
        num_samples: int = 1,
        label: int | Sequence[int] | None = None,
        steps: int | None = None,
        sampler: str | SamplerConfig | None = None,
        grid: str | Sequence[int] | None = None,
        eta: float = SamplingOptions.eta,
        snr: float = SamplingOptions.snr,
        seam: str | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str = SamplingOptions.negative_prompt,
        guidance: float = SamplingOptions.guidance,
        strategy: str = StrategyOptions.strategy,
        context: float = StrategyOptions.context,
        batch_size: int = 16,
        value_range: Range | None = None,
        output: str = "",
        on_step: OnStep | None = None,
        on_step_every: int = 10,
        method: Baseline | None = None,
    ) -> Any:
        """Fills the hole of a picture, or of each of several.

        >>> filled = inpainter("photo.png", "hole.png", seed=7, num_samples=4)

        Known pixels come back as they were given. A result depends on its picture, its
        mask and its key (the seed, the picture's number in the batch, the sample's),
        not on the rest of the batch.

        Args:
          image: a PIL image, a path, a NumPy or JAX array (h, w), (h, w, c), of uint8,
            uint16 (grey) or floats; or a list of these, or an array (b, h, w, c).
          mask: a PIL image of any kind, a path, or an array (h, w) or (h, w, 1) of
            booleans, 0 and 1 or 0 and 255, non-zero in the hole; floats between 0 and 1
            are soft. As many as images, or one for all.
          seed: of the noise, 0 .. 2**32 - 1; by default 0. Or:
          key: a random key of JAX.
          num_samples: results for each picture.
          label: class of the picture, or of each; exactly if the model has classes.
          steps: network evaluations; by default 100, or what the model was distilled
            for, as are sampler ("ddpm") and grid ("uniform").
          sampler: "ddpm", "ddim", "dpm++", "renoise", "heun", "euler_maruyama",
            "reverse_diffusion" or "pc"; see docs/bases.md.
          grid: where the steps lie, "uniform", "quadratic", "log_snr" or "official"; or
            the times themselves, as many, falling from T1.
          eta: noise of "ddim", 0 to 1.
          snr: size of the corrections of "pc", 0 to 1.
          seam: of a model in latents, "paste", "feather" or "poisson".
          prompt: what is to be seen in the picture, or in each; exactly of a model that
            is told texts.
          negative_prompt: what is not.
          guidance: how much more like the first than like the second.
          strategy: for pictures larger than the model, "auto", "whole", "crop",
            "resize" or "tile"; see docs/inpainting.md.
          context: around a part of the hole, in sides of it.
          batch_size: images of the network at once, at most.
          value_range: of floats, (0, 1) or (-1, 1). By default those with negative
            values are (-1, 1), and others are refused.
          output: "pil" or "numpy"; by default arrays for arrays, else PIL images.
          on_step: ``on_step(step, total, preview)``, called every so many steps;
            preview is uint8 (h, w, c), the first result that is being made. What it
            raises ends the call.
          on_step_every: steps between two calls.
          method: another one than RAD, of a plain ADM; it takes none of RAD's options.

        Returns:
          A PIL image, or an array as the image's: uint8, uint16, or floats in the same
          range. With `num_samples` > 1 an array of them (n, h, w, c), or a list of PIL
          images. For several pictures a list of these; for an array of them an array.

        Raises:
          TypeError: an image or a mask is none of these.
          UserError: values, sizes or options do not fit; the model gives no numbers.
        """
        one = None if prompt is None else ""  # those of the pictures stand below
        rad = SamplingOptions(
            steps,
            sampler,
            grid,
            eta,
            snr=snr,
            seam=seam,
            prompt=one,
            negative_prompt=negative_prompt,
            guidance=guidance,
        )
        options = choose(rad, method)
        size = StrategyOptions(strategy, context)
        if output:
            require_one_of("output", output, ("pil", "numpy"))
        require_counts(num_samples=num_samples, batch_size=batch_size)
        if isinstance(options, Baseline):
            require_untiled(strategy)
            if on_step is not None:
                raise UserError("on_step is RAD's; leave it out")
        elif isinstance(self.model, LamaModel):
            require_one_pass(
                options, num_samples=num_samples, strategy=strategy, on_step=on_step
            )
        several = is_batch(image)
        images = list(image) if several else [image]
        masks = masks_of(mask, len(images))
        labels = of_each(label, len(images), "labels")
        said = [{"label": x} for x in labels]
        if isinstance(options, SamplingOptions):
            prompts = of_each(prompt, len(images), "prompts")
            said = [x | {"prompt": y} for x, y in zip(said, prompts, strict=True)]
        every = [dataclasses.replace(options, **x) for x in said]
        keys = keys_of(seed, key, len(images) if several else None)
        jobs = []
        for i, (one, its) in enumerate(zip(images, masks, strict=True)):
            number = f" {i}" if several else ""
            picture = to_picture(one, value_range, f"image{number}")
            found = to_mask(its, picture.samples.shape[:2], f"mask{number}")
            if method is not None:
                require_mask(method.method, found, f"mask{number}")
            regions = plan(found > 0, sizes_of(self.model, options), size)
            of_samples = [jax.random.fold_in(keys[i], n) for n in range(num_samples)]
            jobs.append(Job(f"image{number}", one, picture, found, regions, of_samples))
        results = self._fill(jobs, every, batch_size, on_step, on_step_every)
        outputs = [
            [restored(job, each, value_range, output) for each in samples]
            for job, samples in zip(jobs, results, strict=True)
        ]
        ended = [x[0] if num_samples == 1 else stacked(x) for x in outputs]
        if not several:
            return ended[0]
        return ended if isinstance(image, list | tuple) else stacked(ended)

    def _fill(
        self,
        jobs: Sequence[Job],
        options: Sequence[SamplingOptions | Baseline],
        batch_size: int,
        on_step: OnStep | None,
        every: int,
    ) -> list[list[np.ndarray]]:
        """The samples of every picture, of its own kind."""
        results = [[job.picture.samples.copy() for _ in job.keys] for job in jobs]
        for own in dict.fromkeys(options):
            helps = NON_FINITE
            if isinstance(own, Baseline):
                helps = non_finite_help(own.method)
            requests = [
                request
                for i, job in enumerate(jobs)
                if options[i] == own
                for request in self._requests(i, job)
            ]

            def show(owner: Any, region: Region, generated: np.ndarray) -> np.ndarray:
                i, n = owner
                samples = results[i][n].copy()
                paste_region(jobs[i].picture, samples, region, generated)
                return as_bytes(samples)

            if on_step is None or isinstance(own, Baseline):
                fills = self._fills(own)
            else:
                model = require_diffusion(self.model, "on_step")
                fills = fill_in_steps(model, own, requests, on_step, every, show)
            native = sizes_of(self.model).native
            filled = fill_requests(fills, requests, native, batch_size)
            for (owner, region, *_), generated in filled:
                i, n = owner
                require_finite(generated[region.part], jobs[i].name, helps)
                paste_region(jobs[i].picture, results[i][n], region, generated)
        return results

    def _requests(self, i: int, job: Job) -> list[Request]:
        requests = []
        for sample, key in enumerate(job.keys):
            for number, region in enumerate(job.regions):
                read = functools.partial(
                    read_region, job.picture, job.mask, self.model.channels, region
                )
                own = key
                if region.strategy != "whole":
                    own = jax.random.fold_in(jax.random.fold_in(key, REGIONS), number)
                requests.append(Request((i, sample), region, read, own))
        return requests

    def _fills(self, options: SamplingOptions | Baseline) -> Fills:
        """What depends on model and options alone, kept from call to call."""
        if options not in self._prepared:
            if len(self._prepared) == MOST_PREPARED:
                self._prepared.clear()
            self._prepared[options] = Fills(
                self._prepare(options, tiled=False), self._prepare(options, tiled=True)
            )
        return self._prepared[options]

    def _prepare(self, options: SamplingOptions | Baseline, tiled: bool) -> RetryOnOOM:
        prepare = prepare_fill(self.model, options, tiled=tiled)
        return RetryOnOOM(
            lambda images, masks, keys: prepare(
                jnp.asarray(images), jnp.asarray(masks), keys
            )
        )
