"""Stable Diffusion's U-Net against outputs of two other programs, and as RAD's.

All compute in float32 and add in different orders. Observed differences are 2e-6 of the
largest output.
"""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.models.apply import init_params, make_apply, make_rounding
from rad_jax.models.config import ADAPTABLE, LoRAConfig, UNetConfig
from rad_jax.models.lora import (
    adapted_params,
    combine,
    draw_adapters,
    merge,
    partition,
    unmerge,
)
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels, NoiseMap, membership
from rad_jax.models.sd_config import SDConfig
from rad_jax.models.sd_layers import Transformer
from tests.models.adm_files import (
    flat,
    network,
    one_level,
    quick_jit,
    random_params,
    relative_error,
)
from tests.models.sd_files import COMPVIS, numbers, sd

pytestmark = pytest.mark.usefixtures("quickly")

V1 = "sd_unet_tiny_v1"
GOLDEN = (V1, "sd_unet_tiny_v2", COMPVIS)
TOLERANCE = 2e-5
"""In shares of the largest output."""

BLOCK = {
    "image_size": 8,
    "model_channels": 64,
    "channel_mult": (1,),
    "num_res_blocks": 1,
    "attention_resolutions": (8,),
    "num_heads": 2,
    "context_channels": 12,
}
SMALL = SDConfig(**BLOCK)
LORA = LoRAConfig(2, alpha=2.0, targets=ADAPTABLE)
LEVELS = np.array([3.0, 700.0], np.float32)


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


LATENTS, TEXTS = draw(5, 2, 8, 8, 4), draw(6, 2, 5, 12)


def call(apply, params, x=LATENTS, noise=None, keys=None, context: Any = TEXTS):
    noise = one_level(LEVELS) if noise is None else noise
    return apply(params, x, noise, None, keys, context)


@functools.cache
def small():
    """Parameters, and the output for `LATENTS`, `LEVELS` and `TEXTS`."""
    params = random_params(abstract_params(SMALL))
    return params, call(network(SMALL), params)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    config, params = sd(name)
    data = numbers(name)
    noise = one_level(data["t"])
    output = call(network(config), params, data["x"], noise, context=data["context"])
    assert output.dtype == jnp.float32
    assert relative_error(output, data["out"]) < TOLERANCE


def test_epsilon_of_the_transformers_is_not_that_of_the_blocks():
    """Numbers of usual size hardly tell; those of its own size do."""
    norm = Transformer(32, 12, 2, dtype=jnp.float32).norm
    z = jnp.where(jnp.arange(64).reshape(1, 8, 8, 1) % 2 == 0, 1e-3, -1e-3)
    z = jnp.broadcast_to(z, (1, 8, 8, 32))
    np.testing.assert_allclose(jnp.abs(norm(z)), 0.5**0.5, rtol=1e-4)


def test_golden_by_levels():
    """A binary mask is two levels."""
    config, params = sd(V1)
    data = numbers(f"{V1}_map")
    weights = membership(data["mask"], config.num_resolutions)
    noise = NoiseLevels(data["levels"], weights)
    output = call(network(config), params, data["x"], noise, context=data["context"])
    assert relative_error(output, data["out_binary"]) < TOLERANCE


@pytest.mark.slow
def test_golden_by_pixels():
    config, params = sd(V1)
    data = numbers(f"{V1}_map")
    noise = NoiseMap(data["dense"])
    output = call(network(config), params, data["x"], noise, context=data["context"])
    assert relative_error(output, data["out_dense"]) < TOLERANCE


def test_levels_are_a_map_of_them():
    """(M2) in all residual blocks; a uniform map is the plain network."""
    params, plain = small()
    run = functools.partial(call, network(SMALL), params, LATENTS)
    pixels = np.ones((2, 8, 8), np.float32)
    uniform = NoiseMap(jnp.asarray(LEVELS[:, None, None] * pixels))
    assert relative_error(run(uniform), plain) < TOLERANCE
    masks = np.float32(np.arange(8) > 2) * pixels, np.float32(np.arange(8) > 5) * pixels
    maps = np.stack([1 - masks[0], masks[0] - masks[1], masks[1]], axis=-1)
    levels = LEVELS[:, None] + np.array([0, 100, 250], np.float32)
    weights = membership(jnp.asarray(maps), SMALL.num_resolutions)
    by_levels = run(NoiseLevels(jnp.asarray(levels), weights))
    dense = NoiseMap(jnp.asarray((levels[:, None, None] * maps).sum(-1)))
    assert relative_error(by_levels, run(dense)) < TOLERANCE
    assert relative_error(by_levels, plain) > 1e-3


def test_what_the_text_does():
    """Each image has its own; its order does not count, its states do."""
    params, expected = small()
    run = functools.partial(call, network(SMALL), params)
    again = run(context=TEXTS[:, ::-1])
    assert relative_error(again, expected) < TOLERANCE
    other = run(context=TEXTS.at[1, 0].add(1.0))
    np.testing.assert_array_equal(other[0], expected[0])
    assert relative_error(other, expected) > 1e-4


def test_other_sizes_and_wrong_calls():
    apply, (params, _) = make_apply(SMALL), small()
    out = jax.eval_shape(functools.partial(call, apply), params, draw(1, 2, 5, 12, 4))
    assert out.shape == (2, 5, 12, 4)
    for context in (None, TEXTS[..., :7]):
        with pytest.raises(ValueError, match="needs a context of 12 channels"):
            call(apply, params, context=context)
    with pytest.raises(ValueError, match="num_classes None"):
        apply(params, LATENTS, one_level(LEVELS), jnp.zeros(2, int), context=TEXTS)
    config, params = sd(V1)
    with pytest.raises(UserError, match="divisible by its stride 4"):
        call(make_apply(config), params, draw(1, 2, 8, 6, 4), context=draw(2, 2, 7, 24))


def test_a_new_network_predicts_zero(key):
    """Its residual branches are zero, too, as in the reference."""
    params = jax.jit(functools.partial(init_params, SMALL))(key)
    output = call(network(SMALL), params)
    np.testing.assert_array_equal(output, np.zeros((2, 8, 8, 4)))
    kernels = {
        path.split(".")[-2]: np.any(leaf)
        for path, leaf in flat(params).items()
        if path.endswith("kernel")
    }
    zeros = {name for name, drawn in kernels.items() if not drawn}
    assert zeros == {"conv2", "proj", "contract", "leave", "conv_out"}
    assert {"qkv", "q", "k", "v", "expand", "enter"} <= kernels.keys()


@pytest.mark.slow
def test_dropout_is_by_image_and_key(key):
    params, expected = small()
    apply = network(dataclasses.replace(SMALL, dropout=0.5))
    keys = jax.random.split(key, 2)
    one, other = (call(apply, params, keys=k) for k in (keys, keys[::-1]))
    assert relative_error(one, expected) > 0.01 and relative_error(one, other) > 0.01


def test_gradients_with_remat():
    """Against differences of the network without remat, along themselves."""
    params, expected = small()
    rematted = make_apply(dataclasses.replace(SMALL, use_remat=True))

    def loss(params, context):
        output = call(rematted, params, context=context)
        return jnp.square(output).mean(), output

    traced = jax.jit(jax.grad(loss, (0, 1), has_aux=True)).trace(params, TEXTS)
    names = re.findall(r"\b(?:remat2|checkpoint)\b", str(traced.jaxpr))
    assert len(names) >= 9  # five residual blocks, four transformers
    quick: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
    gradients, output = traced.lower().compile(compiler_options=quick)(params, TEXTS)
    assert relative_error(output, expected) < 1e-6
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf)) and np.any(leaf)
    square = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradients))

    def moved(step):
        there, context = jax.tree.map(
            lambda p, g: p + step / square * g, (params, TEXTS), gradients
        )
        output = call(network(SMALL), there, context=context)
        return float(jnp.square(output).mean())

    step = 0.01 * float(jnp.square(expected).mean())
    assert abs((moved(step) - moved(-step)) / (2 * step) - 1) < 0.01


def test_bfloat16_stays_close():
    """Its layers round their kernels; the text's are among them."""
    params, expected = small()
    config = dataclasses.replace(SMALL, dtype="bfloat16")
    output = call(network(config), params)
    assert output.dtype == jnp.float32
    assert 1e-4 < relative_error(output, expected) < 5e-2
    half = make_rounding(config)(params)
    cross = half["encoder"][0]["attn"]["cross"]
    assert cross["k"]["kernel"].dtype == jnp.bfloat16
    assert cross["norm"]["scale"].dtype == jnp.float32
    assert half["time_embed"]["linear1"]["kernel"].dtype == jnp.float32


def test_adapters():
    """New ones add nothing; merged the network is the same; unmerged it is the base."""
    base, expected = small()
    run = quick_jit(make_apply(SMALL, LORA))
    new = draw_adapters(SMALL, LORA, jax.random.key(3))
    assert relative_error(call(run, combine(new, base)), expected) < 1e-6
    adapters = jax.tree.map(lambda a: 0.3 * a, random_params(new))
    params = combine(adapters, base)
    merged = quick_jit(functools.partial(merge, SMALL, LORA))(params)
    adapted = call(run, params)
    assert relative_error(call(network(SMALL), merged), adapted) < 1e-5
    assert relative_error(expected, adapted) > 1e-3
    back = quick_jit(functools.partial(unmerge, SMALL, LORA))(merged, adapters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), back, base)


@pytest.mark.slow
def test_adapters_beside_a_kernel_in_bfloat16():
    """They are two layers there, of the same sum but for rounding of the base."""
    base, expected = small()
    lora = dataclasses.replace(LORA, targets=("qkv",))
    new = draw_adapters(SMALL, lora, jax.random.key(3))
    adapters = jax.tree.map(lambda a: 0.3 * a, random_params(new))
    run = quick_jit(make_apply(SMALL, lora))
    added = call(run, combine(adapters, base))
    half = jax.tree.map_with_path(
        lambda path, x: x.astype(jnp.bfloat16) if path[-1].key == "kernel" else x, base
    )
    beside = call(run, combine(adapters, half)) - call(run, combine(new, half))
    assert relative_error(beside, added - expected) < 0.05


def test_what_has_adapters():
    """By default what the paper adapts: attention to the text, too."""
    default = adapted_layers(LoRAConfig(2))
    names = {path[-1] for path in default}
    assert names == {"conv_in", "conv_out", "conv1", "conv2", "qkv", "proj"} | set(
        "qkv"
    )
    attn = {path[-2:] for path in default if "attn" in path}
    assert attn == {("attn", "qkv"), ("attn", "proj")} | {
        ("cross", name) for name in ("q", "k", "v", "proj")
    }
    every = {path[-1] for path in adapted_layers(LORA)}
    assert every == names | {"shortcut"}  # it has no change of resolution
    assert {path[-1] for path in adapted_layers(LoRAConfig(2, targets=("qkv",)))} == {
        *("qkv", "q", "k", "v")
    }


def adapted_layers(lora):
    """Paths of the layers with adapters; what else trains is checked."""
    trainable, frozen = partition(SMALL, lora, adapted_params(SMALL, lora))
    assert not [path for path in flat(frozen) if "time_embed" in path or "lora" in path]
    paths = [tuple(path.split(".")) for path in flat(trainable)]
    ours = [path for path in paths if not path[-1].startswith("lora")]
    assert ours and all("time_embed" in path for path in ours)
    return {path[:-1] for path in paths if path[-1] == "lora_a"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_channels": 0}, "context_channels is 0; it must be positive"),
        ({"num_heads": 3}, "num_heads is 3; it must divide the width 64"),
        ({"num_head_channels": 24}, "num_head_channels is 24; it must divide"),
        ({"model_channels": 48}, "a width of 48; it must be a multiple of 32"),
        ({"attention_resolutions": (16,)}, "attention_resolutions has 16"),
        ({"architecture": "adm"}, "architecture is 'adm'; use sd"),
        ({"dtype": "float16"}, "dtype is 'float16'; use float32 or bfloat16"),
    ],
)
def test_wrong_configurations(changes, message):
    with pytest.raises(UserError, match=message):
        SDConfig(**{**BLOCK, **changes})


def test_networks_that_are_the_same():
    """How heads are counted is no other network where the numbers are not read."""
    config = dataclasses.replace(SMALL, num_head_channels=16)
    assert not config.differences(dataclasses.replace(config, num_heads=5))
    wider = dataclasses.replace(config, context_channels=5)
    assert config.differences(wider) == {"context_channels": (12, 5)}


def test_others_take_no_text():
    config = UNetConfig(8, 32, (1,), 1, ())
    apply, params = make_apply(config), random_params(abstract_params(config))
    with pytest.raises(ValueError, match="a network adm takes no context"):
        call(apply, params, draw(1, 2, 8, 8, 3))
