"""Score-based SDE's networks against outputs of the authors' program, and as RAD's.

Both compute in float32 and add in different orders. Angles of the Fourier embedding are
hundreds, so that their sines are good to 1e-5. Observed differences are 2e-6 of the
largest output.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.models.apply import init_params, make_apply, make_rounding
from rad_jax.models.config import ADAPTABLE, LoRAConfig
from rad_jax.models.lora import (
    adapted_params,
    combine,
    draw_adapters,
    merge,
    partition,
    unmerge,
)
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels, NoiseMap, membership
from tests.models.adm_files import (
    description,
    flat,
    network,
    one_level,
    quick_jit,
    random_params,
    relative_error,
)
from tests.models.ncsnpp_files import given, ncsnpp, numbers, told

pytestmark = pytest.mark.usefixtures("quickly")

GOLDEN = (
    "ncsnpp_tiny_256",
    "ncsnpp_tiny_cifar",
    "ncsnpp_tiny_residual",
    "ddpmpp_tiny_vp",
    "ddpm_tiny_vp",
)
TOLERANCE = 1e-5
"""In shares of the largest output."""

MAPS = ("ncsnpp_tiny_256", "ddpmpp_tiny_vp")

_SMALL = (8, 8, (1, 2), 1, (4,))
SMALL = {
    "skips": NCSNppConfig(
        *_SMALL, progressive="output_skip", progressive_input="input_skip"
    ),
    "residual": NCSNppConfig(
        *_SMALL, progressive="residual", progressive_input="residual"
    ),
    "ddpm": NCSNppConfig(
        *_SMALL, embedding="positional", block="ddpm", fir=False, skip_rescale=False
    ),
}
"""One of each kind, for what needs no numbers of others."""

LORA = LoRAConfig(2, alpha=2.0, targets=ADAPTABLE)


def images(size=(8, 8)):
    return jax.random.normal(jax.random.key(5), (2, *size, 3))


LEVELS = np.array([0.5, 2.0], np.float32)


@functools.cache
def small(name):
    """Configuration, parameters, and the output for `images` and `LEVELS`."""
    config = SMALL[name]
    params = random_params(abstract_params(config))
    return config, params, network(config)(params, images(), one_level(LEVELS))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    config, params = ncsnpp(name)
    data, meta = numbers(name), description(f"bases/{name}")
    x, noise = given(config, data["x"]), one_level(told(config, data["t"]))
    output = network(config)(params, jnp.asarray(x), noise)
    # The reference divides by sigma itself.
    by = data["t"] if meta["model"]["scale_by_sigma"] else np.ones(2, np.float32)
    output = output / by[:, None, None, None]
    assert output.dtype == jnp.float32
    assert relative_error(output, data["out"]) < TOLERANCE


@pytest.mark.parametrize("name", MAPS)
def test_golden_by_levels(name):
    """A binary mask is two levels."""
    config, params = ncsnpp(name)
    data = numbers(f"{name}_map")
    weights = membership(jnp.asarray(data["mask"]), config.num_resolutions)
    noise = NoiseLevels(jnp.asarray(told(config, data["levels"])), weights)
    x = jnp.asarray(given(config, data["x"]))
    assert (
        relative_error(network(config)(params, x, noise), data["out_binary"])
        < TOLERANCE
    )


@pytest.mark.parametrize("name", MAPS)
def test_golden_by_pixels(name):
    config, params = ncsnpp(name)
    data = numbers(f"{name}_map")
    noise = NoiseMap(jnp.asarray(told(config, data["dense"])))
    x = jnp.asarray(given(config, data["x"]))
    assert (
        relative_error(network(config)(params, x, noise), data["out_dense"]) < TOLERANCE
    )


@pytest.mark.parametrize("name", [*MAPS, "ddpm"])
def test_levels_are_a_map_of_them(name):
    """(M2) where the embedding is added; a uniform map is the plain network."""
    # Of the shapes of the other tests, for which the networks are compiled.
    side = 16 if name in MAPS else 8
    config, params = ncsnpp(name) if name in MAPS else small(name)[:2]
    x, pixels = images((side, side)), np.ones((2, side, side), np.float32)
    run = functools.partial(network(config), params, x)
    plain = run(one_level(LEVELS))
    uniform = NoiseMap(jnp.asarray(LEVELS[:, None, None] * pixels))
    assert relative_error(run(uniform), plain) < TOLERANCE
    mask = np.float32(np.arange(side) > 2) * pixels
    weights = membership(jnp.asarray(mask), config.num_resolutions)
    levels = jnp.asarray(np.stack([LEVELS, LEVELS + 1], axis=1))
    by_levels = run(NoiseLevels(levels, weights))
    dense = NoiseMap(jnp.asarray(LEVELS[:, None, None] + mask))
    assert relative_error(by_levels, run(dense)) < TOLERANCE
    assert relative_error(by_levels, plain) > 1e-3


def test_other_sizes_and_wrong_calls():
    """Attention is at a resolution of the network, whatever the size of the image."""
    config, params, _ = small("skips")
    apply, noise = make_apply(config), one_level(jnp.zeros(2))
    out = jax.eval_shape(apply, params, images((4, 12)), noise)
    assert out.shape == (2, 4, 12, 3)
    with pytest.raises(ValueError, match="num_classes None"):
        apply(params, images(), noise, jnp.zeros(2, jnp.int32))
    with pytest.raises(UserError, match="divisible by its stride 2"):
        apply(params, images((5, 8)), noise)


@pytest.mark.parametrize("name", ["skips", "ddpm"])
def test_a_new_network_predicts_zero(key, name):
    """Its residual branches are zero, too, as in the reference but for 1e-10."""
    config = SMALL[name]
    params = jax.jit(functools.partial(init_params, config))(key)
    output = network(config)(params, images(), one_level(LEVELS))
    np.testing.assert_array_equal(output, np.zeros((2, 8, 8, 3)))
    zeros = [path.split(".") for path, leaf in flat(params).items() if not np.any(leaf)]
    kernels = {path[-2] for path in zeros if path[-1] == "kernel"}
    last = {"skips": "layer", "ddpm": "conv_out"}[name]
    assert kernels == {"conv2", "proj", last}
    if name == "skips":
        frequencies = np.asarray(params["time_embed"]["frequencies"])
        assert frequencies.shape == (8,) and 4 < frequencies.std() < 32
        slower = dataclasses.replace(config, fourier_scale=4.0)
        again = jax.jit(functools.partial(init_params, slower))(key)["time_embed"]
        np.testing.assert_allclose(again["frequencies"], frequencies / 4, rtol=1e-6)


def test_concatenated_images():
    """Of which no network is published: the shapes fit, the images have an effect."""
    config = dataclasses.replace(
        SMALL["skips"], progressive="none", progressive_combine="cat"
    )
    params = random_params(abstract_params(config))
    run = network(config)
    one = run(params, images(), one_level(LEVELS))
    params["encoder"][1]["pyramid"]["layer"]["kernel"] *= 2
    assert relative_error(run(params, images(), one_level(LEVELS)), one) > 1e-3


def test_dropout_is_by_image_and_key(key):
    config, params, expected = small("residual")
    config = dataclasses.replace(config, dropout=0.5)
    keys = jax.random.split(key, 2)
    run = functools.partial(network(config), params, images(), one_level(LEVELS))
    one, other = run(None, keys), run(None, keys[::-1])
    np.testing.assert_array_equal(run(None, keys), one)
    assert relative_error(one, expected) > 0.01 and relative_error(one, other) > 0.01
    two = run(None, jnp.stack([keys[0], keys[0]]))
    np.testing.assert_allclose(two[0], one[0], atol=1e-5)


def test_gradients_with_remat_and_no_training_of_frequencies():
    """Against differences of the network without remat, along themselves."""
    config, params, expected = small("skips")
    rematted = make_apply(dataclasses.replace(config, use_remat=True))

    def loss(params):
        output = rematted(params, images(), one_level(LEVELS))
        return jnp.square(output).mean(), output

    gradient = jax.value_and_grad(loss, has_aux=True)
    traced = jax.jit(gradient).trace(params)
    names = re.findall(r"\b(?:remat2|checkpoint)\b", str(traced.jaxpr))
    assert len(names) >= 8  # a block each, and the attention
    quick: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
    (_, output), gradients = traced.lower().compile(compiler_options=quick)(params)
    assert relative_error(output, expected) < 1e-6
    for path, leaf in flat(gradients).items():
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf) == (path != "time_embed.frequencies"), path
    square = sum(np.square(leaf).sum() for leaf in flat(gradients).values())

    def moved(step):
        there = jax.tree.map(lambda p, g: p + step / square * g, params, gradients)
        output = network(config)(there, images(), one_level(LEVELS))
        return float(jnp.square(output).mean())

    step = 0.01 * float(jnp.square(expected).mean())
    assert abs((moved(step) - moved(-step)) / (2 * step) - 1) < 0.01


def test_bfloat16_stays_close():
    """Also of parameters that are rounded before, bit for bit."""
    config, params, expected = small("skips")
    config = dataclasses.replace(config, dtype="bfloat16")
    apply, noise = network(config), one_level(LEVELS)
    output = apply(params, images(), noise)
    assert output.dtype == jnp.float32
    assert 1e-4 < relative_error(output, expected) < 5e-2
    half = make_rounding(config)(params)
    assert half["encoder"][0]["res"]["conv1"]["kernel"].dtype == jnp.bfloat16
    assert half["time_embed"]["linear1"]["kernel"].dtype == jnp.float32
    np.testing.assert_array_equal(apply(half, images(), noise), output)


@pytest.mark.parametrize("name", ["residual", "ddpm"])
def test_adapters(name):
    """New ones add nothing; merged the network is the same; unmerged it is the base."""
    config, base, expected = small(name)
    run = quick_jit(make_apply(config, LORA))
    x, noise = images(), one_level(LEVELS)
    new = draw_adapters(config, LORA, jax.random.key(3))
    assert relative_error(run(combine(new, base), x, noise), expected) < 1e-6
    adapters = jax.tree.map(lambda a: 0.3 * a, random_params(new))
    params = combine(adapters, base)
    merged = quick_jit(functools.partial(merge, config, LORA))(params)
    adapted = run(params, x, noise)
    assert relative_error(network(config)(merged, x, noise), adapted) < 1e-5
    assert relative_error(expected, adapted) > 1e-3
    back = quick_jit(functools.partial(unmerge, config, LORA))(merged, adapters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), back, base)


def test_what_has_adapters():
    """All that RAD adapts, and what changes the resolution; no layer of a pyramid."""
    for name, missing in {"residual": {"conv"}, "ddpm": set()}.items():
        params = adapted_params(SMALL[name], LORA)
        paths = [path.split(".") for path in flat(params)]
        adapted = {path[-2] for path in paths if path[-1] == "lora_a"}
        assert adapted == set(ADAPTABLE) - missing
        trainable, frozen = partition(SMALL[name], LORA, params)
        assert not [p for p in flat(frozen) if "time_embed" in p or "lora" in p]
        ours = [p for p in flat(trainable) if "lora" not in p]
        assert ours and all("time_embed" in p for p in ours)
