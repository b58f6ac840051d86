"""CLIP's text transformer against states of transformers' `CLIPTextModel`.

Both compute in float32 and add in different orders.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.models.clip import abstract_params, make_encode
from rad_jax.models.clip_config import CLIPConfig
from tests.models.adm_files import quick_jit, random_params, relative_error
from tests.models.clip_files import clip, clip_numbers

pytestmark = pytest.mark.usefixtures("quickly")

GOLDEN = ("clip_tiny_quick_gelu", "clip_tiny_gelu")
TOLERANCE = 2e-5
"""In shares of the largest state."""


@functools.cache
def encoder(config):
    return quick_jit(make_encode(config))


def cut(config, params, num_layers):
    """The encoder of the first layers."""
    blocks = {i: params["blocks"][i] for i in range(num_layers)}
    config = dataclasses.replace(config, num_layers=num_layers)
    return config, params | {"blocks": blocks}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    """Of all layers, and of all but the last, as Stable Diffusion 2.x has it."""
    (config, params), data = clip(name), clip_numbers(name)
    states = encoder(config)(params, data["input_ids"])
    assert states.dtype == jnp.float32
    assert relative_error(states, data["last_hidden_state"]) < TOLERANCE
    config, params = cut(config, params, config.num_layers - 1)
    states = encoder(config)(params, data["input_ids"])
    assert relative_error(states, data["penultimate_normed"]) < TOLERANCE


def test_shorter_texts_are_beginnings():
    """No position sees those behind it."""
    (config, params), data = clip(GOLDEN[0]), clip_numbers(GOLDEN[0])
    tokens = data["input_ids"][:, :5]
    states = encoder(config)(params, tokens)
    expected = data["last_hidden_state"][:, :5]
    assert relative_error(states, expected) < TOLERANCE


def test_longer_texts_are_refused():
    config, params = clip(GOLDEN[0])
    with pytest.raises(ValueError, match="have 17 tokens, the network takes 16"):
        make_encode(config)(params, jnp.zeros((1, 17), jnp.int32))


def test_bfloat16_stays_close():
    config, params = clip(GOLDEN[1])
    tokens = clip_numbers(GOLDEN[1])["input_ids"]
    expected = encoder(config)(params, tokens)
    half = dataclasses.replace(config, dtype="bfloat16")
    states = encoder(half)(params, tokens)
    assert states.dtype == jnp.float32
    assert 1e-4 < relative_error(states, expected) < 3e-2


def test_what_is_compiled_is_a_function_of_the_weights():
    config, params = clip(GOLDEN[1])
    tokens = clip_numbers(GOLDEN[1])["input_ids"]
    other = random_params(abstract_params(config))
    assert jax.tree.structure(other) == jax.tree.structure(params)
    one, two = (encoder(config)(x, tokens) for x in (params, other))
    assert relative_error(one, two) > 0.1 and np.all(np.isfinite(two))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0; it must be positive"),
        ({"num_heads": 5}, "num_heads is 5; it must divide the width 32"),
        ({"activation": "relu"}, "activation is 'relu'; use quick_gelu or gelu"),
        ({"dtype": "float16"}, "dtype is 'float16'; use float32 or bfloat16"),
    ],
)
def test_wrong_configurations(changes, message):
    block = {"width": 32, "mlp_width": 64, "num_heads": 4, "num_layers": 2}
    with pytest.raises(UserError, match=message):
        CLIPConfig(**{**block, **changes})
