"""Adapters: what they add, what trains with them, and merging."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from rad_jax.convert.diffusers import params_to_diffusers
from rad_jax.convert.presets import PRESETS
from rad_jax.errors import UserError
from rad_jax.models.apply import make_apply
from rad_jax.models.config import ADAPTABLE, LoRAConfig, UNetConfig
from rad_jax.models.layers import Linear
from rad_jax.models.lora import (
    AdaptedLinear,
    adapted_params,
    combine,
    draw_adapters,
    merge,
    partition,
    unmerge,
)
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels
from tests.models.adm_files import FOLDER, flat, quick_jit, relative_error

pytestmark = pytest.mark.usefixtures("quickly")

RANK = 3
# All kinds of layers there are: shortcuts, convolutions that change the resolution.
NETWORKS = {
    "legacy order": UNetConfig(16, 32, (1, 2), 1, (8,), num_heads=2),
    "new order": UNetConfig(
        16, 32, (1, 2), 1, (8,), num_heads=2, use_new_attention_order=True
    ),
    "convolutions": UNetConfig(16, 32, (1, 2), 1, (16,), resblock_updown=False),
}
LORA = LoRAConfig(RANK, alpha=2.0, targets=ADAPTABLE)


def random_like(shapes, seed, scale=0.1):
    """NumPy numbers where zeros would hide mistakes."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        return np.float32(scale) * random.standard_normal(leaf.shape, np.float32)

    return jax.tree.map(draw, shapes)


def random_network(config, seed=0):
    """Parameters of a base, and adapters that add something."""
    flat = flatten_dict(random_like(adapted_params(config, LORA), seed))
    parts = ({}, {})
    for path, leaf in flat.items():
        parts[path[-1].startswith("lora_")][path] = leaf
    return unflatten_dict(parts[0]), unflatten_dict(parts[1])


@functools.cache
def merged_by(config):
    """``merge`` for this architecture, compiled."""
    return quick_jit(functools.partial(merge, config, LORA))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """Config, parameters of a base and adapters that add something."""
    config = NETWORKS[request.param]
    return config, *random_network(config)


def output(config, params, lora=None):
    apply = make_apply(config, lora) if lora else make_apply(config)
    x = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    noise = NoiseLevels(jnp.asarray([[10.0], [700.0]]))
    return np.asarray(quick_jit(apply)(params, x, noise))


def test_new_adapters_add_nothing(network):
    config, base, _ = network
    adapters = draw_adapters(config, LORA, jax.random.key(3))
    adapted = output(config, combine(adapters, base), LORA)
    np.testing.assert_array_equal(adapted, output(config, base))


def test_merged_network_computes_the_same(network):
    """To the rounding of float32 sums in another order."""
    config, base, adapters = network
    params = combine(adapters, base)
    adapted = output(config, params, LORA)
    assert relative_error(output(config, merged_by(config)(params)), adapted) < 1e-5
    assert relative_error(output(config, base), adapted) > 0.1


def test_adapters_are_added_before_kernels_are_rounded():
    """In bfloat16 the network is the merged one, bit for bit: it is rounded once."""
    config = dataclasses.replace(NETWORKS["legacy order"], dtype="bfloat16")
    base, adapters = random_network(config)
    params = combine(adapters, base)
    found = output(config, params, LORA)
    merged = merge(config, LORA, params)
    np.testing.assert_array_equal(found, output(config, merged))
    assert relative_error(output(config, base), found) > 0.01


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_no_update_of_a_base_in_bfloat16_is_too_small(kind):
    """Added to a kernel of such numbers it would be rounded away."""
    layer = AdaptedLinear(Linear(2, 1, dtype=jnp.bfloat16), LoRAConfig(1, alpha=1.0))
    layer.kernel = nnx.Param(jnp.asarray([[1], [-1]], kind))
    layer.lora_a[...] = jnp.float32([[1], [0]])
    layer.lora_b[...] = jnp.float32([[2**-10]])
    found = float(layer(jnp.ones((1, 2)))[0, 0])
    assert found == (2**-10 if kind == "bfloat16" else 0)


def test_unmerge_is_the_inverse_of_merge(network):
    config, base, adapters = network
    merged = merged_by(config)(combine(adapters, base))
    back = quick_jit(functools.partial(unmerge, config, LORA))(merged, adapters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), back, base)


def test_updates_are_those_of_peft(network):
    """W + alpha / rank * B A of each of q, k, v, and of a convolution's taps."""
    config, base, adapters = network
    merged = merged_by(config)(combine(adapters, base))
    before, after = (
        params_to_diffusers(config, p, pointwise_time=False) for p in (base, merged)
    )
    attn = adapters["middle"]["attn"]
    conv = adapters["middle"]["res1"]["conv1"]
    updates = {
        f"mid_block.attentions.0.to_{part}": np.einsum(
            "cr,ro->oc", attn["qkv"]["lora_a"][i], attn["qkv"]["lora_b"][i]
        )
        for i, part in enumerate("qkv")
    }
    updates["mid_block.resnets.0.conv1"] = np.einsum(
        "hwir,ro->oihw", conv["lora_a"], conv["lora_b"]
    )
    for name, update in updates.items():
        key = f"{name}.weight"
        expected = before[key] + LORA.alpha / RANK * update
        np.testing.assert_allclose(after[key], expected, atol=1e-6)
        assert np.abs(update).max() > 0.01


def test_what_trains_is_adapters_and_time_layers():
    """Counted from the keys of the published state dict, at the paper's rank."""
    published = json.loads((FOLDER / "adm_published_state_dicts.json").read_text())
    (shapes,) = [
        entry["state_dict"] for name, entry in published.items() if "ffhq" in name
    ]
    ends = ("input_blocks.0.0", "out.2", "in_layers.2", "out_layers.3", "proj_out")
    expected = 0
    for key, shape in shapes.items():
        name, _, kind = key.rpartition(".")
        if "emb" in key:
            expected += np.prod(shape)
        elif kind == "weight" and name.endswith("qkv"):
            expected += 16 * (3 * shape[1] + shape[0])
        elif kind == "weight" and name.endswith(ends):
            expected += 16 * (np.prod(shape[1:]) + shape[0])
    config, lora = PRESETS["ffhq256"].config, LoRAConfig(16)
    trainable, frozen = partition(config, lora, adapted_params(config, lora))
    assert sum(leaf.size for leaf in jax.tree.leaves(trainable)) == expected
    assert not [p for p in flat(frozen) if "lora" in p or "time_embed" in p]


def test_without_a_rank_everything_trains():
    config, none = NETWORKS["new order"], LoRAConfig()
    params = abstract_params(config)
    trainable, frozen = partition(config, none, params)
    assert frozen == {} and jax.tree.leaves(trainable) == jax.tree.leaves(params)


def test_parts_combine_to_the_whole(network):
    config, base, adapters = network
    params = combine(adapters, base)
    parts = partition(config, LORA, params)
    again = combine(*parts)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_adapters_are_drawn_as_peft_does():
    config = NETWORKS["new order"]
    drawn = flat(draw_adapters(config, LORA, jax.random.key(0)))
    a = np.concatenate([np.ravel(x) for p, x in drawn.items() if "lora_a" in p])
    assert abs(a.std() * RANK - 1) < 0.03 and abs(a.mean() * RANK) < 0.03
    assert all(np.all(x == 0) for p, x in drawn.items() if "lora_b" in p)


def test_only_targets_are_adapted():
    config, lora = NETWORKS["new order"], LoRAConfig(2, targets=("qkv", "conv_in"))
    paths = [p for p in flat(adapted_params(config, lora)) if "lora_a" in p]
    assert paths and {path.split(".")[-2] for path in paths} == {"qkv", "conv_in"}


def test_a_base_in_bfloat16_is_merged_in_float32():
    config = NETWORKS["legacy order"]
    base, adapters = random_network(config)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base)
    rounded = jax.tree.map(lambda x: x.astype(np.float32), half)
    merged = merged_by(config)(combine(adapters, half))
    expected = merged_by(config)(combine(adapters, rounded))
    jax.tree.map(np.testing.assert_array_equal, merged, expected)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"rank": -1}, "lora.rank must be >= 0 and lora.alpha > 0"),
        ({"alpha": 0}, "lora.rank must be >= 0 and lora.alpha > 0"),
        ({"targets": ("qkv", "norm1")}, "name some of conv_in, conv_out, conv1"),
        ({"targets": ()}, "name some of conv_in"),
        ({"base_dtype": "float16"}, "use one of float32, bfloat16"),
    ],
)
def test_bad_settings_are_explained(values, message):
    with pytest.raises(UserError, match=message):
        LoRAConfig(**values)
