"""LPIPS against numbers of the reference program, for weights that follow a rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics.image import mean_pairwise
from rad_jax.metrics.lpips import (
    SMALLEST,
    Convention,
    Net,
    abstract,
    distance,
    features,
    lpips,
    read_params,
)
from tests.metrics.metric_files import GOLDEN, backbone, heads, images, publish
from tests.models.adm_files import quick_jit

A, B = images("a"), images("b")


@functools.cache
def compiled(net: Net, convention: Convention = "standard"):
    return quick_jit(functools.partial(lpips, net=net, convention=convention))


def read(net, folder, **changes):
    """Parameters from files as they are published."""
    states = {net: backbone(net), f"{net}_heads": heads(net)} | changes
    files = {kind: publish(folder, state) for kind, state in states.items()}
    return read_params(net, folder, files)


@pytest.fixture(scope="module")
def alex(tmp_path_factory):
    return read("alex", tmp_path_factory.mktemp("alex"))


def test_alex_is_the_reference_program(alex):
    found = compiled("alex")(alex, A, B)
    np.testing.assert_allclose(found, GOLDEN["lpips_alex"], rtol=1e-4)
    np.testing.assert_array_equal(compiled("alex")(alex, B, A), found)
    np.testing.assert_array_equal(compiled("alex")(alex, A, A), 0)


def test_vgg_is_the_reference_program(tmp_path):
    found = compiled("vgg")(read("vgg", tmp_path), A, B)
    np.testing.assert_allclose(found, GOLDEN["lpips_vgg"], rtol=1e-4)


def test_unscaled_is_what_images_of_0_to_1_give(alex):
    found = compiled("alex", "unscaled")(alex, A, B)
    expected = compiled("alex")(alex, (A + 1) / 2, (B + 1) / 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (np.abs(found / compiled("alex")(alex, A, B) - 1) > 0.01).all()


@quick_jit
def diversity(params, samples):
    found = features(params, samples, net="alex")
    return mean_pairwise(found, functools.partial(distance, params))


def test_features_are_computed_once_for_many_pairs(alex):
    samples = jnp.concatenate([A, B])
    pairs = [(i, j) for i in range(4) for j in range(i)]
    firsts, seconds = (samples[jnp.array(k)] for k in zip(*pairs, strict=True))
    each = [compiled("alex")(alex, firsts[i:][:2], seconds[i:][:2]) for i in (0, 2, 4)]
    assert diversity(alex, samples) == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.parametrize("net", SMALLEST)
def test_images_that_are_too_small(net):
    least = SMALLEST[net]
    params = {"convs": {}, "heads": {}}
    with pytest.raises(
        UserError, match=f"of {least} x {least} .*; these have 64 x 15$"
    ):
        features(params, jnp.zeros((1, 15, 64, 3)), net=net)


@pytest.mark.parametrize("net", SMALLEST)
def test_smallest_grey_images_reach_the_last_layer(net):
    side = SMALLEST[net]
    shape = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
    found = jax.eval_shape(
        functools.partial(features, net=net), abstract(net)[1], shape
    )
    assert found[-1].shape[1:3] == (1, 1)


def test_files_of_another_network(tmp_path):
    state = backbone("alex")
    wrong = {"features.0.weight": state["features.0.weight"][:, :1]}
    missing = {key: x for key, x in state.items() if key != "features.10.bias"}
    for changed, error in (
        (missing, "lacks features.10.bias$"),
        (state | wrong, "has another shape of features.0.weight$"),
        (
            state | {"features.12.bias": np.zeros(1, "f")},
            "the unknown features.12.bias$",
        ),
    ):
        with pytest.raises(UserError, match=error):
            read("alex", tmp_path, alex=changed)
    with pytest.raises(UserError, match=r"of lin1\.model\.1\.weight and 3 more$"):
        read("alex", tmp_path, alex_heads=heads("vgg"))
