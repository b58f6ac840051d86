"""What shapes tell, for every published ADM and for small ones of each kind."""

import pytest

from rad_jax.convert import adm, diffusers
from rad_jax.convert.infer import DIFFUSERS, OPENAI, RAD, facts_of, infer
from rad_jax.errors import UserError
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import description

PUBLISHED = description("adm_published_state_dicts")
TINY = ("tiny_adm", "tiny_cond_heads", "tiny_neworder")
SMALL = {
    "image_size": 32,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_resolutions": (16,),
}


def shapes_of(config, layout=OPENAI):
    """Of a file of this architecture."""
    entries = diffusers.entries if layout == DIFFUSERS else adm.entries
    return name_table.file_shapes(entries(config), abstract_params(config))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints(name):
    """From their keys and shapes, what their flags say."""
    config = adm.config_from_adm_flags(PUBLISHED[name]["flags"])
    layout, facts = infer(PUBLISHED[name]["state_dict"])
    assert (layout, facts) == (OPENAI, facts_of(config))
    assert facts.resblock_updown and facts.use_scale_shift_norm and facts.learn_sigma


@pytest.mark.parametrize("name", TINY)
def test_small_golden_networks(name):
    """Convolutions that change the resolution, added embeddings, fixed sigma."""
    meta = description(name)
    config = adm.config_from_adm_flags(meta["flags"])
    assert infer(meta["state_dict"]) == (OPENAI, facts_of(config))


@pytest.mark.parametrize("layout", [OPENAI, DIFFUSERS])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resblock_updown": False, "use_scale_shift_norm": False},
        {"learn_sigma": False, "num_classes": 7, "attention_resolutions": ()},
        {"channel_mult": (1,), "attention_resolutions": (32,), "num_res_blocks": 3},
        {"channel_mult": (0.5, 1, 1.5), "model_channels": 64, "num_res_blocks": 2},
        {"in_channels": 6, "num_classes": 2},
        {"in_channels": 6, "learn_sigma": False},
        {"in_channels": 1, "out_channels": 1},
    ],
)
def test_every_fact(layout, changes):
    config = UNetConfig(**{**SMALL, **changes})
    assert infer(shapes_of(config, layout)) == (layout, facts_of(config))


def test_the_authors_network():
    """Time-embedding layers are convolutions in RAD's own code."""
    layout, facts = infer(description("rad_unet")["state_dict"])
    config = diffusers.config_from_diffusers(description("rad_unet")["config"])
    assert (layout, facts) == (RAD, facts_of(config))


def test_multipliers_give_back_every_width():
    """int(mult * channels) is the width, though mult is rounded."""
    shapes = dict(SHAPES)
    for channels in range(32, 520, 4):
        shapes["time_embed.0.weight"] = (4 * channels, channels)
        for width in range(32, 1056, 32):
            shapes["output_blocks.0.0.out_layers.3.weight"] = (width, 1)
            mult = infer(shapes)[1].channel_mult[-1]
            assert int(mult * channels) == width


SHAPES = shapes_of(UNetConfig(**SMALL))


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"time_embed.0.weight": None}, "is of no network that can be converted"),
        ({"input_blocks.0.0.weight": None}, "is of no network that can be converted"),
        ({"out.2.weight": None}, "lacks the key out.2.weight"),
        ({"out.2.weight": ()}, r"out.2.weight has the shape \(\), which no network"),
        ({"time_embed.0.weight": (0, 2**40)}, "has the shape"),
        ({"out.2.weight": (5, 32, 3, 3)}, "make 5 channels of 3"),
        ({"output_blocks.7.0.weight": (1,)}, r"output_blocks\.\* are not numbered"),
        ({"output_blocks.x.0.weight": (1,)}, r"output_blocks\.\* are not numbered"),
        ({"output_blocks.4.0.weight": (1,)}, "resolutions of different numbers"),
        ({"output_blocks.2.1.conv.weight": (1,)}, "resolutions of different numbers"),
    ],
)
def test_files_of_other_networks(changes, match):
    shapes = {k: v for k, v in {**SHAPES, **changes}.items() if v is not None}
    with pytest.raises(UserError, match=match):
        infer(shapes)


def test_classifiers_are_told():
    shapes = {k: v for k, v in SHAPES.items() if not k.startswith("output_blocks")}
    with pytest.raises(UserError, match="is of an encoder, such as"):
        infer(shapes)


def test_diffusers_files_of_other_networks():
    shapes = shapes_of(UNetConfig(**SMALL), DIFFUSERS)
    rest = {k: v for k, v in shapes.items() if not k.startswith("down_blocks")}
    with pytest.raises(UserError, match="lacks the keys down_blocks"):
        infer(rest)
    del shapes["down_blocks.1.resnets.0.conv2.weight"]
    with pytest.raises(UserError, match=r"lacks the key down_blocks\.1\.resnets\.0"):
        infer(shapes)
