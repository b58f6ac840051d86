"""Texts that say what is to be seen, for models that are told texts.

With guidance the network is asked twice, in one call: once with the prompt and once
with the negative one. What it says of the first is taken further away from the second,
``e_n + g (e_p - e_n)`` (Ho & Salimans 2022).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rad_jax.checkpoints.model import AnyModel, Model, batch_labels
from rad_jax.diffusion.options import Sampling
from rad_jax.errors import UserError
from rad_jax.models.apply import Params
from rad_jax.models.clip import make_encode
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.text.tokenizer import Tokens
from rad_jax.typing import Labels


class Prompts(NamedTuple):
    """What each image of a batch is to show, as numbers of tokens.

    Attributes:
      tokens: of the prompts.
      negative: of what is not to be seen; None where guidance is 1.
      guidance: of each; None where it is 1.
    """

    tokens: Int[Array, "b n"]
    negative: Int[Array, "b n"] | None
    guidance: Float[Array, " b"] | None


Shown = Labels | Prompts
"""What images show."""


class Told(NamedTuple):
    """The same as the network is told it: states of the texts."""

    context: Float[Array, "b n d"]
    negative: Float[Array, "b n d"] | None
    guidance: Float[Array, " b"] | None


def shown(
    model: Model, options: Sampling, count: int, given: Shown | None = None
) -> Shown | None:
    """What so many images show: their classes or their prompts, if the model has any.

    Args:
      model: which may be told either, or nothing.
      options: what all of them show, where nothing else is given.
      count: images.
      given: what each shows.

    Raises:
      UserError: the model is not told such, or needs some.
    """
    if isinstance(given, Prompts):
        return given
    if not require_prompt(model, options):
        return batch_labels(model.config, count, given, options.label)
    one = options.guidance == 1
    texts = [options.prompt or ""] + ([] if one else [options.negative_prompt])
    ids = [jnp.tile(x[None], (count, 1)) for x in _tokens(model, texts).ids]
    if one:
        return Prompts(ids[0], None, None)
    return Prompts(ids[0], ids[1], jnp.full(count, options.guidance, jnp.float32))


def require_prompt(model: AnyModel, options: Sampling) -> bool:
    """Whether a model is told texts, and so has a prompt.

    Raises:
      UserError: there is no prompt and it needs one, or the reverse.
    """
    told = isinstance(model, Model) and model.text is not None
    if told and options.prompt is None:
        raise UserError("the model is told texts; give a prompt, which may be empty")
    if not told and options.prompt is not None:
        raise UserError("the model is told no texts; leave the prompt out")
    return told


def cut_note(model: AnyModel, options: Sampling) -> str | None:
    """A line on what of a prompt the model does not see."""
    if not require_prompt(model, options):
        return None
    assert isinstance(model, Model)
    cut = _tokens(model, [options.prompt or "", options.negative_prompt]).cut
    names = "prompt", "negative prompt"
    length = len(_tokens(model, [""]).ids[0])
    lines = [
        f"the {name} is too long for {length} tokens: its last {count} are left out"
        for name, count in zip(names, cut, strict=True)
        if count
    ]
    return "; ".join(lines) or None


def _tokens(model: Model, texts: list[str]) -> Tokens:
    assert model.text is not None and model.text.tokenizer is not None
    return model.text.tokenizer(texts)


def told(config: CLIPConfig, params: Params, prompts: Prompts) -> Told:
    """The states of prompts; to be used inside ``jax.jit``."""
    encode = make_encode(config)
    negative = prompts.negative
    unlike = None if negative is None else encode(params, negative)
    return Told(encode(params, prompts.tokens), unlike, prompts.guidance)


def guided(
    output: Float[Array, "twice h w channels"],
    channels: int,
    guidance: Float[Array, " images"],
) -> Float[Array, "images h w channels"]:
    """What a batch that was asked twice says, the second time of what it is not to be.

    Args:
      output: (2b, h, w, channels), and a variance behind it, which is the first's.
      channels: of the prediction.
      guidance: of each image.
    """
    like, unlike = jnp.split(output, 2)
    prediction, other = like[..., :channels], unlike[..., :channels]
    further = other + guidance[:, None, None, None] * (prediction - other)
    return jnp.concatenate([further, like[..., channels:]], axis=-1)


def joined(a: np.ndarray | Array) -> Array:
    """A batch twice, one after the other."""
    return jnp.concatenate([a, a])
