"""Score-based SDE's networks against outputs of the authors' program, and as RAD's.

Both compute in float32 and add in different orders. Angles of the Fourier embedding are
hundreds, so that their sines are good to 1e-5. Observed differences are 2e-6 of the
largest output.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

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

GOLDEN = {
    "ncsnpp_tiny_256": 1e-5,
    "ncsnpp_tiny_cifar": 1e-5,
    "ncsnpp_tiny_residual": 1e-5,
    "ddpmpp_tiny_vp": 1e-5,
    "ddpm_tiny_vp": 1e-5,
}
"""Names, and the largest difference in shares of the largest output."""

MAPS = ("ncsnpp_tiny_256", "ddpmpp_tiny_vp")

LORA = LoRAConfig(2, alpha=2.0, targets=ADAPTABLE)


def images(size=(16, 16)):
    return jax.random.normal(jax.random.key(5), (2, *size, 3))


@functools.cache
def plain(name):
    """Output for images and a level each, and these."""
    config, params = ncsnpp(name)
    timesteps = np.float32([-1.5, 2.0]) if "ncsnpp" in name else np.float32([3, 800])
    return network(config)(params, images(), one_level(timesteps)), timesteps


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
    assert relative_error(output, data["out"]) < GOLDEN[name]


@pytest.mark.parametrize("name", MAPS)
def test_golden_by_levels(name):
    """A binary mask is two levels."""
    config, params = ncsnpp(name)
    data = numbers(f"{name}_map")
    weights = membership(jnp.asarray(data["mask"]), config.num_resolutions)
    noise = NoiseLevels(jnp.asarray(told(config, data["levels"])), weights)
    x = jnp.asarray(given(config, data["x"]))
    assert relative_error(network(config)(params, x, noise), data["out_binary"]) < 2e-5


@pytest.mark.parametrize("name", MAPS)
def test_golden_by_pixels(name):
    config, params = ncsnpp(name)
    data = numbers(f"{name}_map")
    noise = NoiseMap(jnp.asarray(told(config, data["dense"])))
    x = jnp.asarray(given(config, data["x"]))
    assert relative_error(network(config)(params, x, noise), data["out_dense"]) < 2e-5


@pytest.mark.parametrize("name", [*MAPS, "ddpm_tiny_vp"])
def test_levels_are_a_map_of_them(name):
    """(M2) where the embedding is added; a uniform map is the plain network."""
    config, params = ncsnpp(name)
    expected, timesteps = plain(name)
    apply = network(config)
    uniform = np.broadcast_to(timesteps[:, None, None], (2, 16, 16))
    found = apply(params, images(), NoiseMap(jnp.asarray(uniform)))
    assert relative_error(found, expected) < 1e-5
    mask = np.float32(np.arange(16) > 6) * np.ones((2, 16, 1), np.float32)
    levels = np.stack([timesteps, timesteps + 0.5], axis=1)
    weights = membership(jnp.asarray(mask), config.num_resolutions)
    by_levels = apply(params, images(), NoiseLevels(jnp.asarray(levels), weights))
    dense = np.where(mask, levels[:, 1, None, None], levels[:, :1, None])
    by_pixels = apply(params, images(), NoiseMap(jnp.asarray(dense, jnp.float32)))
    assert relative_error(by_levels, by_pixels) < 1e-5
    assert relative_error(by_levels, expected) > 1e-4


def test_other_sizes_and_wrong_calls():
    """Attention is at a resolution of the network, whatever the size of the image."""
    config, params = ncsnpp("ddpm_tiny_vp")
    apply = make_apply(config)
    noise = one_level(jnp.zeros(2))
    out = jax.eval_shape(apply, params, images((8, 24)), noise)
    assert out.shape == (2, 8, 24, 3)
    with pytest.raises(ValueError, match="num_classes None"):
        apply(params, images(), noise, jnp.zeros(2, jnp.int32))
    with pytest.raises(Exception, match="divisible by its stride 4"):
        apply(params, images((10, 16)), noise)


def test_a_new_network_predicts_zero_and_has_its_frequencies(key):
    for progressive in ("none", "output_skip"):
        config = NCSNppConfig(8, 8, (1, 2), 1, (4,), progressive=progressive)
        params = init_params(config, key)
        frequencies = np.asarray(params["time_embed"]["frequencies"])
        assert frequencies.shape == (8,) and 4 < frequencies.std() < 32
        output = network(config)(params, images((8, 8)), one_level(jnp.zeros(2)))
        np.testing.assert_array_equal(output, np.zeros((2, 8, 8, 3)))
        zeros = {path for path, leaf in flat(params).items() if not np.any(leaf)}
        kernels = {path.split(".")[-2] for path in zeros if path.endswith("kernel")}
        last = "conv_out" if progressive == "none" else "layer"
        assert kernels == {"conv2", "proj", last}


def test_concatenated_images():
    """Has no published network: its shapes fit, and the images reach the output."""
    config = NCSNppConfig(
        *(8, 8, (1, 2), 1, ()),
        progressive_input="input_skip",
        progressive_combine="cat",
    )
    params = random_params(abstract_params(config))
    run = functools.partial(network(config), x=images((8, 8)), noise=one_level([0, 1]))
    one = run(params)
    params["encoder"][1]["pyramid"]["layer"]["kernel"] *= 2
    assert relative_error(run(params), one) > 1e-3


def test_dropout_is_by_image_and_key(key):
    config, params = ncsnpp("ncsnpp_tiny_cifar")
    config = dataclasses.replace(config, dropout=0.5)
    expected, timesteps = plain("ncsnpp_tiny_cifar")
    keys = jax.random.split(key, 2)
    run = functools.partial(network(config), params, images(), one_level(timesteps))
    one, other = run(None, keys), run(None, keys[::-1])
    np.testing.assert_array_equal(run(None, keys), one)
    assert relative_error(one, expected) > 0.01 and relative_error(one, other) > 0.01
    two = run(None, jnp.stack([keys[0], keys[0]]))
    np.testing.assert_allclose(two[0], one[0], atol=1e-5)


@pytest.mark.parametrize("name", ["ncsnpp_tiny_256", "ncsnpp_tiny_residual"])
def test_remat_changes_nothing_and_frequencies_do_not_train(name):
    config, params = ncsnpp(name)
    noise = one_level(plain(name)[1])

    def gradient(config):
        def loss(params):
            return jnp.square(make_apply(config)(params, images(), noise)).mean()

        return quick_jit(jax.value_and_grad(loss))(params)

    loss, gradients = gradient(config)
    again, same = gradient(dataclasses.replace(config, use_remat=True))
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    for path, leaf in flat(gradients).items():
        scale = np.abs(leaf).max()
        np.testing.assert_allclose(flat(same)[path], leaf, atol=1e-4 * scale + 1e-7)
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf) == (path != "time_embed.frequencies"), path


@pytest.mark.parametrize("name", ["ncsnpp_tiny_256", "ddpm_tiny_vp"])
def test_bfloat16_stays_close(name):
    """Also of parameters that are rounded before, bit for bit."""
    config, params = ncsnpp(name)
    config = dataclasses.replace(config, dtype="bfloat16")
    expected, timesteps = plain(name)
    apply = network(config)
    output = apply(params, images(), one_level(timesteps))
    assert output.dtype == jnp.float32
    assert 1e-4 < relative_error(output, expected) < 5e-2
    half = make_rounding(config)(jax.tree.map(jnp.asarray, params))
    assert half["encoder"][0]["res"]["conv1"]["kernel"].dtype == jnp.bfloat16
    assert half["time_embed"]["linear1"]["kernel"].dtype == jnp.float32
    np.testing.assert_array_equal(apply(half, images(), one_level(timesteps)), output)


@pytest.mark.parametrize("name", ["ncsnpp_tiny_residual", "ddpm_tiny_vp"])
def test_adapters(name):
    """New ones add nothing; merged the network is the same; unmerged it is the base."""
    config, base = ncsnpp(name)
    expected, timesteps = plain(name)
    run = quick_jit(make_apply(config, LORA))
    x, noise = images(), one_level(timesteps)
    new = draw_adapters(config, LORA, jax.random.key(3))
    np.testing.assert_allclose(
        run(combine(new, base), x, noise), expected, rtol=1e-5, atol=1e-5
    )
    adapters = jax.tree.map(lambda a: 0.1 * a, random_params(new))
    params = combine(adapters, base)
    merged = quick_jit(functools.partial(merge, config, LORA))(params)
    adapted = run(params, x, noise)
    assert relative_error(network(config)(merged, x, noise), adapted) < 1e-5
    assert relative_error(expected, adapted) > 1e-3
    back = quick_jit(functools.partial(unmerge, config, LORA))(merged, adapters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), back, base)


def test_what_has_adapters():
    """All that RAD adapts, and what changes the resolution; no layer of a pyramid."""
    config, _ = ncsnpp("ncsnpp_tiny_residual")
    paths = [path.split(".") for path in flat(adapted_params(config, LORA))]
    adapted = {path[-2] for path in paths if path[-1] == "lora_a"}
    assert adapted == set(ADAPTABLE) - {"conv"}
    ddpm, _ = ncsnpp("ddpm_tiny_vp")
    paths = [path.split(".") for path in flat(adapted_params(ddpm, LORA))]
    assert {path[-2] for path in paths if path[-1] == "lora_a"} == set(ADAPTABLE)
    trainable, frozen = partition(config, LORA, adapted_params(config, LORA))
    assert not [p for p in flat(frozen) if "time_embed" in p or "lora" in p]
    ours = [p for p in flat(trainable) if "lora" not in p]
    assert ours and all("time_embed" in p for p in ours)
    whole = flatten_dict(combine(trainable, frozen))
    assert unflatten_dict(whole) == adapted_params(config, LORA)
