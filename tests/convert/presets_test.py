"""Presets: exactly the published networks, and never the wrong one."""

import dataclasses
import math

import jax
import pytest
from flax.traverse_util import flatten_dict

from rad_jax.convert import adm
from rad_jax.convert.adm import config_from_adm_flags
from rad_jax.convert.choices import FILES, Choices
from rad_jax.convert.infer import DIFFUSERS, OPENAI, facts_of, infer
from rad_jax.convert.latent_presets import LATENT_PRESETS
from rad_jax.convert.presets import (
    PRESETS,
    choices_of,
    complete,
    config_of,
    fitting,
)
from rad_jax.convert.sde_presets import SDE_PRESETS
from rad_jax.errors import UserError
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import description

PUBLISHED = description("adm_published_state_dicts")
LSUN = ("lsun_bedroom", "lsun_cat", "lsun_horse")
NAMES = {name: name for name in PUBLISHED if name != "lsun256"} | dict.fromkeys(
    LSUN, "lsun256"
)
"""Presets of the networks whose keys are stored."""

ALIKE = ["imagenet256_uncond", *LSUN, "lsun_horse_nodropout"]
"""Of one architecture."""

STATED = Choices(
    image_size=256,
    num_head_channels=64,
    use_new_attention_order=False,
    noise_schedule="linear",
)


def test_presets_are_those_that_help_lists():
    assert [*PRESETS, *SDE_PRESETS, *LATENT_PRESETS] == list(FILES)


@pytest.mark.parametrize("name", NAMES)
def test_published_checkpoints_fit_their_presets(name):
    """Flags, number of parameters, keys in ADM's order, shapes; no weight is made."""
    published = PUBLISHED[NAMES[name]]
    layout, facts = infer(published["state_dict"])
    choices = complete(layout, facts, name, Choices())
    config = config_of(facts, choices)
    assert config == config_from_adm_flags(published["flags"])
    abstract = abstract_params(config)
    assert sum(x.size for x in jax.tree.leaves(abstract)) == published["params"]
    entries = adm.entries(config)
    assert {entry.path for entry in entries} == set(flatten_dict(abstract))
    shapes = name_table.file_shapes(entries, abstract)
    expected = {key: tuple(s) for key, s in published["state_dict"].items()}
    assert list(shapes.items()) == list(expected.items())
    cosine = name == "imagenet64_cond"
    assert choices.noise_schedule == ("cosine" if cosine else "linear")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_wrong_preset_is_refused(name):
    layout, facts = infer(PUBLISHED[name]["state_dict"])
    right = fitting(facts)
    assert right == (ALIKE if name in ("imagenet256_uncond", "lsun256") else [name])
    for wrong in set(PRESETS) - set(right):
        with pytest.raises(UserError) as error:
            complete(layout, facts, wrong, Choices())
        text = str(error.value)
        assert text.startswith(f"does not match preset {wrong}: ")
        expected = dataclasses.asdict(facts_of(PRESETS[wrong].config))
        for key, value in dataclasses.asdict(facts).items():
            line = f"{key} is {value}, the preset's {expected[key]}"
            assert (line in text) == (value != expected[key])
        assert text.endswith(f"presets that fit: {', '.join(right)}")


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("upsampler_64_256", 311_795_910),
        ("upsampler_128_512", 308_835_270),
        ("lsun_horse_nodropout", 552_814_086),
    ],
)
def test_sizes_of_networks_whose_keys_are_not_stored(name, parameters):
    leaves = jax.tree.leaves(abstract_params(PRESETS[name].config))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == parameters


def test_facts_that_no_key_list_has():
    """guided-diffusion's README, and its model cards."""
    adm = {k: each for k, each in PRESETS.items() if not k.startswith("iddpm_")}
    heads = {
        name: (preset.config.num_heads, preset.config.num_head_channels)
        for name, preset in adm.items()
    }
    by_number = ("imagenet128_cond", "upsampler_64_256")
    assert heads == {name: (4, -1 if name in by_number else 64) for name in adm}
    dropout = {name for name, preset in adm.items() if preset.config.dropout}
    assert dropout == {"imagenet64_cond", *LSUN}
    inputs = {name for name, preset in adm.items() if preset.config.in_channels > 3}
    assert inputs == {"upsampler_64_256", "upsampler_128_512"}
    assert PRESETS["upsampler_128_512"].config.attention_resolutions == (32, 16)


def facts(name="imagenet256_uncond"):
    return facts_of(PRESETS[name].config)


def test_choices_that_are_missing_are_listed():
    with pytest.raises(UserError) as error:
        complete(OPENAI, facts(), None, Choices(dropout=0.1))
    assert str(error.value) == (
        "not inferable from tensor shapes: --image_size, "
        "--use_new_attention_order, --noise_schedule, --num_head_channels or "
        "--num_heads; give them, or a preset; presets that fit: "
        f"{', '.join(ALIKE)}"
    )
    with pytest.raises(
        UserError, match=r"shapes: --noise_schedule; .* a preset; no pres"
    ):
        one = dataclasses.replace(facts(), num_classes=3)
        complete(OPENAI, one, None, dataclasses.replace(STATED, noise_schedule=None))


def test_stated_choices_are_those_of_the_preset():
    """Of the preset that has no dropout, which is also the default."""
    stated = complete(OPENAI, facts(), None, STATED)
    _, config, noise_schedule = PRESETS["imagenet256_uncond"]
    assert stated == choices_of(config, noise_schedule)
    assert config_of(facts(), stated) == config


def test_stated_choices_go_before_the_presets():
    given = Choices(image_size=512, dropout=0.2, noise_schedule="cosine")
    choices = complete(OPENAI, facts(), "lsun_cat", given)
    expected = dataclasses.replace(
        choices_of(*PRESETS["lsun_cat"][1:]),
        image_size=512,
        dropout=0.2,
        noise_schedule="cosine",
    )
    assert choices == expected
    # Attention stays where the file has it.
    assert config_of(facts(), choices).attention_resolutions == (64, 32, 16)


def test_a_number_of_heads_replaces_their_width():
    choices = complete(OPENAI, facts(), "lsun_cat", Choices(num_heads=8))
    assert (choices.num_heads, choices.num_head_channels) == (8, -1)
    choices = complete(
        OPENAI, facts("imagenet128_cond"), "imagenet128_cond",
        Choices(num_head_channels=32),
    )  # fmt: skip
    assert config_of(facts("imagenet128_cond"), choices).heads(512, up=True) == 16


def test_layouts_with_q_k_and_v_apart_need_no_order():
    choices = dataclasses.replace(STATED, use_new_attention_order=None)
    assert complete(DIFFUSERS, facts(), None, choices).use_new_attention_order
    with pytest.raises(UserError, match="shapes: --use_new_attention_order; give"):
        complete(OPENAI, facts(), None, choices)
    with_preset = complete(DIFFUSERS, facts(), "lsun_cat", Choices())
    assert with_preset.use_new_attention_order is False


def test_presets_that_there_are_not():
    with pytest.raises(UserError, match="'ffhq' is no preset; there are imagenet64_c"):
        complete(OPENAI, facts(), "ffhq", Choices())


def test_heads_that_do_not_fit_are_refused():
    choices = dataclasses.replace(STATED, num_head_channels=48)
    with pytest.raises(UserError, match="num_head_channels is 48"):
        config_of(facts(), complete(OPENAI, facts(), None, choices))
