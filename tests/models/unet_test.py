"""What the network promises, beyond the authors' numbers: on a tiny one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from rad_jax.errors import UserError
from rad_jax.models.apply import make_apply, make_rounding
from rad_jax.models.attention import Attention
from rad_jax.models.config import UNetConfig
from rad_jax.models.layers import draw_weights, dropout
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels, NoiseMap, membership
from rad_jax.models.unet import UNet
from tests.models.adm_files import (
    network,
    one_level,
    quick_jit,
    random_params,
    relative_error,
)

pytestmark = pytest.mark.usefixtures("quickly")

TINY = UNetConfig(
    image_size=16,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    num_head_channels=32,
    dropout=0.5,
)
SIZE = (8, 20)


@functools.cache
def params():
    return random_params(abstract_params(TINY))


def images(size=SIZE, channels=3):
    x = np.random.default_rng(1).standard_normal((2, *size, channels))
    return jnp.asarray(x, jnp.float32)


@functools.cache
def plain():
    """Plain ADM: inputs and output."""
    x, timesteps = images(), jnp.array([3.5, 800.0])
    return x, timesteps, network(TINY)(params(), x, one_level(timesteps))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_levels_equal_the_map(key, k):
    """(M2) through the whole network; K = 1 is its own program, plain ADM's."""
    index_key, level_key = jax.random.split(key)
    index = jax.random.randint(index_key, (2, *SIZE), 0, k)
    timesteps = jax.random.uniform(level_key, (2, k), minval=-1, maxval=999)
    weights = membership(jax.nn.one_hot(index, k), 2) if k > 1 else None
    pixels = jnp.take_along_axis(timesteps, index.reshape(2, -1), axis=1)
    noise_map = NoiseMap(pixels.reshape(index.shape))
    output = network(TINY)(params(), images(), NoiseLevels(timesteps, weights))
    expected = network(TINY)(params(), images(), noise_map)
    assert relative_error(output, expected) < 1e-5


def test_uniform_noise_is_plain_adm():
    x, timesteps, expected = plain()
    whole = membership(jnp.ones((2, *SIZE, 1)), 2)
    output = network(TINY)(params(), x, NoiseLevels(timesteps[:, None], whole))
    np.testing.assert_array_equal(output, expected)
    everywhere = jnp.broadcast_to(timesteps[:, None, None], (2, *SIZE))
    output = network(TINY)(params(), x, NoiseMap(everywhere))
    assert relative_error(output, expected) < 1e-5


def test_images_do_not_see_each_other():
    x, timesteps, expected = plain()
    other = x.at[0].set(0)
    output = network(TINY)(params(), other, one_level(timesteps.at[0].set(-1)))
    np.testing.assert_array_equal(output[1], expected[1])
    assert relative_error(output[0], expected[0]) > 0.1


def test_timesteps_matter_in_their_fractions():
    x, timesteps, expected = plain()
    output = network(TINY)(params(), x, one_level(timesteps + 0.25))
    assert 1e-4 < relative_error(output, expected) < 0.5


def test_sizes_must_be_multiples_of_the_stride():
    with pytest.raises(UserError, match="stride 2, not 8 x 9"):
        network(TINY)(params(), images(size=(8, 9)), one_level(jnp.zeros(2)))


@functools.cache
def fresh():
    return UNet(TINY, rngs=nnx.Rngs(0))


def test_fresh_network_predicts_zero():
    """ADM's zero initialisation: the output, and every block is its shortcut."""
    weights = nnx.to_pure_dict(nnx.state(fresh()))
    blocks = [weights["middle"]["res1"]["conv2"], weights["middle"]["attn"]["proj"]]
    for zero in [weights["conv_out"], *blocks]:
        assert not any(np.any(x) for x in jax.tree.leaves(zero))
    assert not np.any(network(TINY)(weights, images(), one_level(jnp.zeros(2))))


def test_initial_weights_are_pytorchs():
    """Uniform within 1 / sqrt(fan_in), weights and biases, all different."""
    weights = nnx.to_pure_dict(nnx.state(fresh()))
    conv, middle = weights["encoder"][0]["res"]["conv1"], weights["middle"]
    for values, fan_in in [
        (conv["kernel"], 9 * 32),
        (conv["bias"], 9 * 32),
        (weights["time_embed"]["linear2"]["kernel"], 128),
        (middle["attn"]["qkv"]["kernel"], 64),
        (middle["attn"]["qkv"]["bias"], 64),
    ]:
        scaled = np.asarray(values) * np.sqrt(fan_in)
        assert 0.9 < np.abs(scaled).max() <= 1 + 1e-6
        np.testing.assert_allclose(scaled.std(), 3**-0.5, rtol=0.15)
    one, other = middle["res1"]["conv1"]["kernel"], middle["res2"]["conv1"]["kernel"]
    assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 0.05


def test_weights_depend_on_the_key(key):
    attention = Attention(32, 1, new_order=False, dtype=jnp.float32)
    kernels = []
    for seed in (key, key, jax.random.key(1)):
        draw_weights(attention, seed)
        kernels.append(np.asarray(attention.qkv.kernel[...]))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.mean(kernels[0] == kernels[2]) < 0.01


def test_dropout_needs_a_key_and_repeats_with_it(key):
    x, timesteps, without = plain()
    run = functools.partial(network(TINY), params(), x, one_level(timesteps))
    keys = jax.random.split(key, len(x))
    one, again = run(dropout_keys=keys), run(dropout_keys=keys)
    other = run(dropout_keys=jax.random.split(jax.random.key(1), len(x)))
    np.testing.assert_array_equal(one, again)
    assert relative_error(one, without) > 0.01
    assert relative_error(one, other) > 0.01


def test_dropout_keeps_the_mean(key):
    x = jnp.ones((1, 64, 64, 8))
    dropped = dropout(x, 0.25, key[None])
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
    np.testing.assert_allclose(dropped.mean(), 1, atol=0.02)


def test_each_image_is_dropped_by_its_own_key(key):
    """It does not matter which images it is computed with, or where."""
    x, keys = jnp.ones((4, 8, 8, 8)), jax.random.split(key, 4)
    whole = dropout(x, 0.5, keys)
    halves = [dropout(x[part], 0.5, keys[part]) for part in (slice(2), slice(2, 4))]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    assert len({image.tobytes() for image in np.asarray(whole)}) == 4


def test_labels():
    config = dataclasses.replace(TINY, num_classes=3)
    weights = random_params(abstract_params(config))
    x, noise = images(), one_level(jnp.array([3.5, 800.0]))
    run = functools.partial(network(config), weights, x, noise)
    one, other = run(jnp.array([0, 2])), run(jnp.array([1, 2]))
    assert relative_error(other[0], one[0]) > 0.01
    np.testing.assert_array_equal(other[1], one[1])
    with pytest.raises(ValueError, match="num_classes 3"):
        run()
    with pytest.raises(ValueError, match="num_classes None"):
        network(TINY)(params(), x, noise, jnp.array([0, 2]))


def test_attention_orders_differ_by_a_permutation():
    heads, channels = 2, 64
    x = images((4, 6), channels)
    old, new = (
        Attention(channels, heads, new_order=order, dtype=jnp.float32)
        for order in (False, True)
    )
    place = np.arange(3 * channels).reshape(heads, 3, -1).swapaxes(0, 1).ravel()
    weights = random_params(nnx.to_pure_dict(nnx.state(old)))
    nnx.update(old, weights)
    nnx.update(new, weights)
    assert relative_error(new(x), old(x)) > 0.01
    nnx.update(new.qkv, {name: x[..., place] for name, x in weights["qkv"].items()})
    assert relative_error(new(x), old(x)) < 1e-6


def equations(jaxpr):
    """All equations, also of jaxprs inside."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_bfloat16_is_where_it_should_be():
    """Convolutions and attention; not the embedding, statistics or output layer."""
    config = dataclasses.replace(TINY, dtype="bfloat16")
    noise = NoiseLevels(jnp.zeros((2, 2)), membership(jnp.zeros((2, *SIZE)), 2))
    jaxpr = jax.make_jaxpr(make_apply(config))(params(), images(), noise).jaxpr
    dtypes = {}
    for equation in equations(jaxpr):
        if not equation.invars:  # which platform it is
            continue
        dtypes.setdefault(equation.primitive.name, []).append(
            (equation.invars[0].aval.dtype, equation.outvars[0].aval)
        )
    convolutions = [str(dtype) for dtype, _ in dtypes["conv_general_dilated"]]
    assert convolutions == ["bfloat16"] * (len(convolutions) - 1) + ["float32"]
    for dtype, out in dtypes["dot_general"]:
        # Two-level vectors are the embedding, all else is attention and shortcuts.
        embedding = out.shape[:2] == (2, 2) and len(out.shape) == 3
        resized = dtype == jnp.float32 and out.shape[-1] == 2
        assert dtype == ("float32" if embedding or resized else "bfloat16"), out
    for name in ("exp", "rsqrt", "cos"):
        assert {str(dtype) for dtype, _ in dtypes[name]} == {"float32"}


def test_parameters_may_be_rounded_before():
    """The network computes the same of them, bit for bit."""
    config = dataclasses.replace(TINY, dtype="bfloat16", resblock_updown=False)
    weights = random_params(abstract_params(config))
    half = make_rounding(config)(weights)
    noise = NoiseLevels(jnp.zeros((2, 2)), membership(jnp.zeros((2, *SIZE)), 2))
    apply = jax.jit(make_apply(config))
    expected = apply(weights, images(), noise)
    np.testing.assert_array_equal(apply(half, images(), noise), expected)
    kept = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(half)
        if leaf.dtype == jnp.float32 and "norm" not in jax.tree_util.keystr(path)
    }
    # Of the output, of the embedding, and of what is upsampled.
    parts = ("conv_out", "time_embed", "decoder'][1]['resample")
    assert kept and all(any(part in name for part in parts) for name in kept), kept
    assert make_rounding(TINY)(weights) is weights


def test_bfloat16_stays_close_and_keeps_float32_weights():
    x, timesteps, expected = plain()
    config = dataclasses.replace(TINY, dtype="bfloat16")
    output = network(config)(params(), x, one_level(timesteps))
    assert output.dtype == jnp.float32
    # Eight bits of mantissa in a dozen layers.
    assert 1e-4 < relative_error(output, expected) < 5e-2
    leaves = jax.tree.leaves(abstract_params(config))
    assert {str(leaf.dtype) for leaf in leaves} == {"float32"}


def gradient(config, *inputs):
    """Of a loss to all parameters; and how many blocks are recomputed for it."""

    def loss(weights, x, noise, keys):
        output = make_apply(config)(weights, x, noise, dropout_keys=keys)
        return jnp.square(output).mean()

    weights = random_params(abstract_params(config))
    traced = quick_jit(jax.grad(loss)).trace(weights, *inputs)
    names = [equation.primitive.name for equation in equations(traced.jaxpr.jaxpr)]
    recomputed = sum(name in ("remat2", "checkpoint") for name in names)
    return traced.lower().compile()(weights, *inputs), recomputed


def test_gradients_are_finite_and_the_same_with_remat(key):
    """Every parameter has one; remat recomputes the blocks, dropout included."""
    masks = jnp.zeros((2, *SIZE)).at[:, :4].set(1)
    keys = jax.random.split(key, 2)
    noise = NoiseLevels(jnp.array([[-1, 300.0], [0, 999]]), membership(masks, 1))
    config = dataclasses.replace(TINY, channel_mult=(1,), attention_resolutions=())
    expected, none = gradient(config, images(), noise, keys)
    rematted = dataclasses.replace(config, use_remat=True)
    output, blocks = gradient(rematted, images(), noise, keys)
    assert none == 0
    assert blocks == 1 + 3 + 2  # of the encoder, the middle and the decoder
    leaves = jax.tree.leaves(expected), jax.tree.leaves(output)
    scale = max(np.abs(leaf).max() for leaf in leaves[0])
    for one, other in zip(*leaves, strict=True):
        assert np.all(np.isfinite(one)) and np.any(one)
        # Some biases come before a normalisation: their gradients are rounding errors.
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-6 * scale)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("resblock_updown", [True, False])
def test_in_bfloat16_the_last_convolution_alone_is_float32(platform, resblock_updown):
    """There, and back to its input and its kernel; of 3x3 convolutions."""
    config = dataclasses.replace(
        TINY, dtype="bfloat16", dropout=0.0, resblock_updown=resblock_updown
    )
    apply = make_apply(config)
    given = images((16, 16)), one_level(jnp.array([3.5, 800.0]))

    def loss(params):
        return jnp.sum(jnp.square(apply(params, *given)))

    def float32(function):
        traced = jax.jit(function).trace(abstract_params(config))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        found = [x for x in text.splitlines() if "stablehlo.convolution" in x]
        assert len(found) > 10
        return [x for x in found if "xbf16>" not in x]

    assert len(float32(loss)) == 1
    assert len(float32(jax.grad(loss))) == 3
