"""LaMa's generator against outputs of the authors' code (tests/golden).

Both compute in float32 and add in different orders: observed differences are 4e-7.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rad_jax.convert.lama import entries, infer_lama
from rad_jax.errors import UserError
from rad_jax.models.lama import Lama, abstract_params, make_apply
from rad_jax.models.lama_config import LamaConfig
from rad_jax.weight_files import name_table
from tests.models.lama_files import generator, outputs

TOLERANCE = 1e-5


def network(name):
    """Architecture and parameters of a golden generator."""
    state = generator(name)
    config = infer_lama({key: array.shape for key, array in state.items()})
    return config, name_table.read(entries(config), abstract_params(config), state)


def module(config, params):
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Lama(config)))
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, params), copy=True)


def parts(name):
    """What `model.N` gives of a golden image, and what it should."""
    config, params = network(name)
    for expected in outputs(name).values():
        model = module(config, params)
        hole = expected["mask"]
        known = jnp.asarray(expected["image"] * (1 - hole))
        x = model.conv_in(jnp.concatenate([known, jnp.asarray(hole)], axis=-1))
        yield expected, "model_1_l", x
        for layer in model.down:
            x = layer(x)
        near, far = model.to_local(x), model.to_global(x)
        for number, block in enumerate([None, *model.blocks], start=4):
            if block is not None:
                near, far = block(near, far)
            yield expected, f"model_{number}_l", near
            yield expected, f"model_{number}_g", far


def test_layers_are_the_authors():
    seen = []
    for expected, name, found in parts("tiny"):
        np.testing.assert_allclose(found, expected[name], atol=TOLERANCE)
        seen.append(name)
    assert len(seen) == 2 * 7


def filled(name, size):
    """A golden image filled, and what it should be."""
    config, params = network(name)
    expected = outputs(name)[size]
    image, mask = (jnp.asarray(expected[name]) for name in ("image", "mask"))
    return jax.jit(make_apply(config))(params, image, mask[..., 0]), expected


@pytest.mark.parametrize("size", ["32x32", "48x40"])  # the second: an odd spectrum
def test_output_is_the_authors(size):
    output, expected = filled("tiny", size)
    np.testing.assert_allclose(output, expected["predicted"], atol=TOLERANCE)


@pytest.mark.slow
def test_big_lama_is_the_authors():
    output, expected = filled("big_lama", "64x48")
    np.testing.assert_allclose(output, expected["predicted"], atol=TOLERANCE)
    for theirs, name, found in parts("big_lama"):
        if f"{name}_mean" in theirs:
            np.testing.assert_allclose(
                found.mean((0, 1, 2)), theirs[f"{name}_mean"], atol=TOLERANCE
            )
            np.testing.assert_allclose(
                found.std((0, 1, 2), ddof=1), theirs[f"{name}_std"], atol=TOLERANCE
            )


@pytest.mark.parametrize(
    ("blocks", "count"), [(9, 27_048_835), (18, 50_975_875)], ids=["fourier", "big"]
)
def test_published_models_have_as_many_parameters(blocks, count):
    model = nnx.eval_shape(lambda: Lama(LamaConfig(blocks)))
    found = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(math.prod(leaf.shape) for leaf in found) == count


def test_what_is_in_the_hole_is_not_seen():
    config, params = network("tiny")
    image, mask = np.full((1, 16, 24, 3), 0.3, np.float32), np.zeros((1, 16, 24))
    mask[:, 4:9, 5:20] = 1
    apply = jax.jit(make_apply(config))
    with_nan = np.where(mask[..., None] > 0, np.nan, image).astype(np.float32)
    masks = jnp.asarray(mask, jnp.float32)
    expected = apply(params, jnp.asarray(image), masks)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(apply(params, jnp.asarray(with_nan), masks), expected)


def test_bfloat16_is_near():
    config, params = network("tiny")
    low = jax.jit(make_apply(LamaConfig(**{**vars(config), "dtype": "bfloat16"})))
    expected = outputs("tiny")["32x32"]
    image, mask = (jnp.asarray(expected[name]) for name in ("image", "mask"))
    output = low(params, image, mask[..., 0])
    assert output.dtype == jnp.float32
    error = np.abs(output - expected["predicted"]).max()
    assert TOLERANCE < error < 0.02  # it is another type, and it does not break


@pytest.mark.parametrize(
    "wrong",
    [{"num_blocks": 0}, {"base_channels": 3}, {"image_size": 0}, {"dtype": "float16"}],
)
def test_config_refuses(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        LamaConfig(**{"num_blocks": 2, **wrong})
