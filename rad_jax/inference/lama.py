"""Filling holes with LaMa, in one pass of its network (Suvorov et al., WACV 2022).

Images are padded below and to the right by their mirror image, edge included, to
multiples of the network's stride, as its authors do, and cut back. A mask has a hole
where it is not zero. What is known is written back bit for bit.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.model import LamaModel, check_labels
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference.regions import Sizes
from rad_jax.models.lama import SMALLEST_SIDE, make_apply
from rad_jax.models.lama_config import LamaConfig
from rad_jax.runtime.memory import Call
from rad_jax.runtime.sharding import on_all_devices
from rad_jax.typing import Images, Labels, Masks, PRNGKeys

SIZES = Sizes(native=1024, stride=1, largest=2048, whole=2048**2, tiled=False)
"""It was trained at 256 pixels per side, and its authors show fillings of up to 2000;
its memory grows with the pixels. Padding is its own, so the stride is 1."""

SAMPLING = ("steps", "sampler", "grid", "eta", "snr")
IDLE = (*SAMPLING, "times", "nfe", "seed", "feather", "noise_embedding")
"""Flags that change nothing of a filling, even with values that are the defaults."""

ONE_PASS = "LaMa, one pass"
"""How a picture was filled, in its file."""


def require_one_pass(
    options: SamplingOptions | None = None,
    *,
    num_samples: int = 1,
    feather: int = 0,
    strategy: str = "",
    on_step: Any = None,
    given: Collection[str] = (),
) -> None:
    """Refuses options that LaMa would silently do nothing with.

    Args:
      options: of the sampler, which there is not; those that are the defaults pass.
      num_samples: results for each picture: all would be the same.
      feather: of the hole's rim, which is either hole or not.
      strategy: there are no steps in which tiles could be blended.
      on_step: there are none to call it after.
      given: names of options that somebody has written, whatever their values.

    Raises:
      UserError: naming all of these.
    """
    default = SamplingOptions().for_model()
    chosen = default if options is None else options.for_model()
    asked = {
        **{name: getattr(chosen, name) != getattr(default, name) for name in SAMPLING},
        "num_samples": num_samples > 1,
        "feather": feather > 0,
        "strategy tile": strategy == "tile",
        "on_step": on_step is not None,
    }
    names = [name for name, wrong in asked.items() if wrong]
    names += [name for name in IDLE if name in given and name not in names]
    if names:
        raise UserError(
            f"the model is a LaMa, which fills a hole in one pass and always alike; "
            f"leave out {', '.join(names)}"
        )


def prepare_lama(
    model: LamaModel, options: SamplingOptions, *, tiled: bool = False
) -> Callable[..., Call]:
    """`inpaint.prepare_fill` of a LaMa.

    Args:
      model: from ``load``.
      options: the defaults, since there are no steps.
      tiled: must not be called; see `SIZES`.

    Returns:
      ``prepare(images, masks, keys, labels=None)``: images of any size, of a mask what
      is not 0 is hole, and keys change nothing.

    Raises:
      UserError: there are options; ``prepare`` raises it where there are labels.
    """
    require_one_pass(options)
    if options.label is not None:
        check_labels(model.config, np.array([options.label]))
    run = compiled_lama(model.config)

    def prepare(
        images: Images, masks: Masks, keys: PRNGKeys, labels: Labels | None = None
    ) -> Call:
        check_labels(model.config, None if labels is None else np.asarray(labels))
        _, h, w, _ = images.shape
        pad = [(0, 0), *(_margin(side, model.config.stride) for side in (h, w))]
        # By NumPy: to pad on the device is a program for each size of a picture.
        holes = np.pad(np.asarray(masks) > 0, pad, mode="symmetric")
        padded = np.pad(np.asarray(images), [*pad, (0, 0)], mode="symmetric")
        batch, params = on_all_devices(
            (jnp.asarray(padded), jnp.asarray(holes, jnp.float32)), model.params
        )
        return Call(run, (params, *batch), len(images), lambda x: x[:, :h, :w])

    return prepare


def _margin(side: int, stride: int) -> tuple[int, int]:
    """Pixels before and behind that make a side one that the network takes."""
    return 0, max(side + -side % stride, SMALLEST_SIDE) - side


@functools.cache
def compiled_lama(config: LamaConfig) -> Callable[..., Images]:
    """``fill(params, images, holes)``, compiled: images in [-1, 1], binary masks."""
    apply = make_apply(config)

    def fill(params, images: Images, holes: Masks) -> Images:
        filled = 2 * apply(params, (images + 1) / 2, holes) - 1
        return jnp.where(holes[..., None] > 0, filled, images)

    return jax.jit(fill)
