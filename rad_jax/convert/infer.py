"""What the shapes in a file tell of the U-Net that it is of."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from rad_jax.convert import lama
from rad_jax.errors import UserError
from rad_jax.models.config import UNetConfig
from rad_jax.weight_files import score_sde

Shapes = Mapping[str, Sequence[int]]
"""Shape of each array of a file, by key."""

OPENAI = "openai"
"""Keys of guided-diffusion (`convert.adm`)."""

DIFFUSERS = "diffusers"
"""Keys of diffusers' `UNet2DModel` (`convert.diffusers`)."""

RAD = "rad"
"""The same, but the time-embedding layers are 1x1 convolutions."""


MAX_BLOCKS = 500

MARKERS = (
    ("time_embed.0.weight", "input_blocks.0.0.weight"),
    ("time_embedding.linear_1.weight",),
    lama.MARKERS,
    *score_sde.MARKERS,
)
"""Keys that every network has of guided-diffusion, diffusers, LaMa, and score_sde."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """The part of a `UNetConfig` that shapes tell; attributes are named as there.

    Attributes:
      model_channels: width at multiplier 1.
      channel_mult: width of each resolution over it, finest first.
      num_res_blocks: residual blocks of a resolution on the way down.
      attention_levels: resolutions with attention, 0 the finest.
      in_channels: channels of the input.
      out_channels: channels predicted.
      learn_sigma: whether as many more are predicted, for the variance.
      num_classes: number of labels, or None.
      use_scale_shift_norm: the embedding scales and shifts.
      resblock_updown: residual blocks change the resolution.
    """

    model_channels: int
    channel_mult: tuple[float | int, ...]
    num_res_blocks: int
    attention_levels: tuple[int, ...]
    in_channels: int
    out_channels: int
    learn_sigma: bool
    num_classes: int | None
    use_scale_shift_norm: bool
    resblock_updown: bool


def facts_of(config: UNetConfig) -> Facts:
    """What the shapes of this architecture would tell."""
    names = {field.name for field in dataclasses.fields(Facts)} - {"attention_levels"}
    levels = range(config.num_resolutions)
    return Facts(
        attention_levels=tuple(filter(config.has_attention, levels)),
        **{name: getattr(config, name) for name in names},
    )


def infer(shapes: Shapes) -> tuple[str, Facts]:
    """The layout of a file (`OPENAI`, `DIFFUSERS` or `RAD`), and its facts.

    Whether every other array fits is seen when they are converted.

    Raises:
      UserError: these are no arrays of such a U-Net.
    """
    if all(key in shapes for key in MARKERS[0]):
        return OPENAI, _openai(shapes)
    if "time_embedding.linear_1.weight" in shapes:
        # The kernel of a 1x1 convolution has four axes, of a linear layer two.
        pointwise = len(shapes["time_embedding.linear_1.weight"]) == 4
        return (RAD if pointwise else DIFFUSERS), _diffusers(shapes)
    if text := lama.other_kind(list(shapes)):
        raise UserError(text)
    raise UserError(
        "is of no network that can be converted: it has neither the keys of "
        "guided-diffusion (time_embed.0.weight) nor of diffusers' UNet2DModel "
        f"(time_embedding.linear_1.weight) nor of LaMa ({lama.FIRST}) nor of score_sde "
        f"({score_sde.FIRST[1]})"
    )


def _openai(shapes: Shapes) -> Facts:
    outputs = _count(shapes, "output_blocks.")
    if not outputs:
        raise UserError(
            "is of an encoder, such as guided-diffusion's classifiers; only U-Nets can "
            "be converted"
        )
    # On the way up, the last block of each resolution but the finest goes on to a
    # change of resolution; on the way down the names show it only sometimes.
    by_conv = [_has(shapes, f"output_blocks.{i}.", "conv.weight") for i in outputs]
    by_block = [
        _has(shapes, f"output_blocks.{i}.", "in_layers.0.weight") for i in outputs
    ]
    changes = [c or b for c, b in zip(by_conv, by_block, strict=True)]
    levels = sum(changes) + 1
    blocks, rest = divmod(len(outputs), levels)
    ends = [level * blocks - 1 for level in range(1, levels)]
    if rest or blocks < 2 or [i for i in outputs if changes[i]] != ends:
        raise UserError("output_blocks has resolutions of different numbers of blocks")
    # First block of each resolution, finest first.
    firsts = [f"output_blocks.{i * blocks}" for i in reversed(range(levels))]
    widths = [size_of(shapes, f"{key}.0.out_layers.3.weight", 0) for key in firsts]
    return _facts(
        shapes,
        time="time_embed.0.weight",
        conv_in="input_blocks.0.0.weight",
        conv_out="out.2.weight",
        labels="label_emb.weight",
        widths=widths,
        embedding=size_of(shapes, f"{firsts[0]}.0.emb_layers.1.weight", 0),
        num_res_blocks=blocks - 1,  # one more on the way up
        # All blocks of a resolution have it, or none.
        has_attention=lambda level: f"{firsts[level]}.1.qkv.weight" in shapes,
        resblock_updown=not any(by_conv),
    )


def _diffusers(shapes: Shapes) -> Facts:
    levels = _count(shapes, "down_blocks.")
    blocks = [f"down_blocks.{level}" for level in levels]
    if not blocks:
        raise UserError("lacks the keys down_blocks.0, ... of a U-Net")
    return _facts(
        shapes,
        time="time_embedding.linear_1.weight",
        conv_in="conv_in.weight",
        conv_out="conv_out.weight",
        labels="class_embedding.weight",
        widths=[size_of(shapes, f"{key}.resnets.0.conv2.weight", 0) for key in blocks],
        embedding=size_of(shapes, f"{blocks[0]}.resnets.0.time_emb_proj.weight", 0),
        num_res_blocks=len(_count(shapes, f"{blocks[0]}.resnets.")),
        has_attention=lambda level: (
            f"{blocks[level]}.attentions.0.to_q.weight" in shapes
        ),
        resblock_updown=f"{blocks[0]}.downsamplers.0.conv.weight" not in shapes,
    )


def _facts(
    shapes: Shapes,
    *,
    time: str,
    conv_in: str,
    conv_out: str,
    labels: str,
    widths: Sequence[int],
    embedding: int,
    num_res_blocks: int,
    has_attention: Callable[[int], bool],
    resblock_updown: bool,
) -> Facts:
    """Facts from keys of a layout, and the widths of resolutions, finest first."""
    model_channels = size_of(shapes, time, 1)
    in_channels = size_of(shapes, conv_in, 1)
    outputs = size_of(shapes, conv_out, 0)
    # ADM's upsamplers see a low-resolution image beside the noisy one.
    images = {6: 3}.get(in_channels, in_channels)
    if outputs not in (images, 2 * images):
        raise UserError(
            f"{conv_in} and {conv_out} make {outputs} channels of {in_channels}; it "
            f"must be as many or twice as many"
        )
    return Facts(
        model_channels=model_channels,
        channel_mult=tuple(multiplier(width, model_channels) for width in widths),
        num_res_blocks=num_res_blocks,
        attention_levels=tuple(filter(has_attention, range(len(widths)))),
        in_channels=in_channels,
        out_channels=images,
        learn_sigma=outputs == 2 * images,
        num_classes=size_of(shapes, labels, 0) if labels in shapes else None,
        # Scale and shift take a vector each, addition takes one.
        use_scale_shift_norm=embedding == 2 * widths[0],
        resblock_updown=resblock_updown,
    )


def multiplier(width: int, model_channels: int) -> float | int:
    """The multiplier m with int(m * model_channels) == width."""
    if width % model_channels == 0:
        return width // model_channels
    # The quotient may be rounded down, and int() would then cut a channel off.
    mult = width / model_channels
    return mult if int(mult * model_channels) == width else math.nextafter(mult, 2e9)


def size_of(shapes: Shapes, key: str, axis: int) -> int:
    """Size of an axis of an array that the network has.

    Raises:
      UserError: there is no such array, or no such axis, or it is empty.
    """
    if key not in shapes:
        raise UserError(f"lacks the key {key}, which such a network has")
    # The file is not trusted: sizes of zero would be divided by.
    shape = tuple(shapes[key])
    if len(shape) <= axis or 0 in shape:
        raise UserError(f"{key} has the shape {shape}, which no network has")
    return shape[axis]


def _count(shapes: Shapes, prefix: str) -> range:
    """Range of the numbers that follow a prefix of keys."""
    numbers = {
        key[len(prefix) :].partition(".")[0] for key in shapes if key.startswith(prefix)
    }
    count = len(numbers)
    if count > MAX_BLOCKS:  # to build such a network would take hours
        raise UserError(f"has {count} blocks {prefix}*, more than any such U-Net")
    if numbers != set(map(str, range(count))):
        raise UserError(f"the keys {prefix}* are not numbered from 0 on")
    return range(count)


def _has(shapes: Shapes, prefix: str, name: str) -> bool:
    """Whether a block has such an array in a module other than its first."""
    return any(f"{prefix}{i}.{name}" in shapes for i in (1, 2))
