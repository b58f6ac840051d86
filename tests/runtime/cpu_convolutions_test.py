"""Convolutions by Eigen: which programs ask for it, and where XLA refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rad_jax
from rad_jax.checkpoints.model import Model
from rad_jax.inference.compiled import compiled_fill, compiled_parts
from rad_jax.inference.generate import compiled_generate
from rad_jax.models.network import abstract_params
from rad_jax.runtime import cpu_convolutions
from rad_jax.runtime.cpu_convolutions import EIGEN, LARGE, convolution_options
from tests.models.adm_files import random_params

CACHES = (compiled_fill, compiled_parts, compiled_generate)


@pytest.fixture
def any_size(monkeypatch):
    """The smallest networks are large ones, and programs are compiled anew."""
    for cache in CACHES:
        cache.cache_clear()
    monkeypatch.setattr(cpu_convolutions, "LARGE", 1)
    yield
    for cache in CACHES:
        cache.cache_clear()


def test_large_networks_ask_for_it_on_a_cpu(monkeypatch):
    assert convolution_options(LARGE) == EIGEN
    assert convolution_options(LARGE - 1) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert convolution_options(LARGE) is None


@pytest.mark.parametrize(
    "options", [{"xla_no_such_option": "1"}, dict.fromkeys(EIGEN, "NO_SUCH_VALUE")]
)
def test_what_xla_refuses_is_not_asked_for(monkeypatch, options):
    monkeypatch.setattr(cpu_convolutions, "EIGEN", options)
    assert convolution_options(LARGE) is None


def test_a_program_with_it_has_no_convolution_by_ynn():
    def program(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=dimensions
        )

    shapes = jnp.zeros((1, 32, 32, 64)), jnp.zeros((3, 3, 64, 64))
    texts = [
        jax.jit(program, compiler_options=options).lower(*shapes).compile().as_text()
        for options in (None, convolution_options(LARGE))
    ]
    assert ["__ynn_fusion" in (text or "") for text in texts] == [True, False]


@pytest.mark.usefixtures("quickly", "any_size")
def test_a_filling_is_the_same_with_it_and_where_it_is_refused(
    tiny_experiment, monkeypatch
):
    experiment, random = tiny_experiment(), np.random.default_rng(0)
    params = random_params(abstract_params(experiment.model))
    model = Model(experiment.model, experiment.schedule, "eps", params)
    image = random.integers(0, 256, (16, 16, 1), np.uint8)
    hole = np.zeros((16, 16), bool)
    hole[4:12, 4:12] = True

    def filled():
        compiled_fill.cache_clear()
        key = jax.random.key(0)
        return rad_jax.inpaint(model, image, hole, key=key, steps=3).astype(int)

    asked = filled()
    monkeypatch.setattr(cpu_convolutions, "EIGEN", {"xla_no_such_option": "1"})
    refused = filled()
    assert np.abs(asked - refused).max() <= 1 and len(np.unique(refused)) > 3
