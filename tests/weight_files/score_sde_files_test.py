"""Checkpoints of score-based SDE networks, of PyTorch (a list of averages) and Flax."""

import numpy as np
import pytest
from flax import serialization

from rad_jax.convert.infer import MARKERS as ALL
from rad_jax.errors import UserError
from rad_jax.weight_files import find
from rad_jax.weight_files.network import read_network
from rad_jax.weight_files.score_sde import MARKERS
from tests.weight_files.pickles import Raw, program, saved, text, zipped
from tests.weight_files.sde_samples import (
    FREQUENCIES,
    described,
    file_bytes,
    flax_averages,
    torch_weights,
)

W = np.arange(4, dtype=np.float32)
DENSE = np.arange(6, dtype=np.float32).reshape(3, 2)
BIAS = np.arange(3, dtype=np.float32)
SIGMAS = np.arange(5, dtype=np.float64)

OTHERS = [each for each in ALL if each not in MARKERS]


@pytest.fixture
def pth(tmp_path):
    path = tmp_path / "checkpoint_8.pth"
    path.write_bytes(file_bytes("torch_pth"))
    return path


@pytest.fixture
def flax(tmp_path):
    path = tmp_path / "checkpoint_8"
    path.write_bytes(file_bytes("flax_msgpack"))
    return path


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        assert arrays[key].dtype == array.dtype
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


def refused(path, match, name=None):
    with pytest.raises(UserError, match=match) as error:
        read_network(path, MARKERS, name)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


# The samples.


@pytest.mark.parametrize("name", [None, "ema", "ema.shadow_params"])
def test_the_averages_of_the_pth(pth, name):
    """All of them, and the frequencies, which have none; not the table of sigmas."""
    network = read_network(pth, MARKERS, name)
    assert_same(network.arrays, torch_weights("ema."))
    assert network.notes == [
        "weights: ema.shadow_params, averaged ones; --key takes others: model.module"
    ]


def test_the_sample_lists_the_averages_in_this_order():
    keys = [key for key in torch_weights() if key != FREQUENCIES]
    assert keys == described()["shadow_params_order"]


@pytest.mark.parametrize("name", ["model", "model.module"])
def test_the_weights_of_the_pth_that_are_not_averaged(pth, name):
    network = read_network(pth, MARKERS, name)
    assert_same(network.arrays, torch_weights())
    assert network.notes == [
        "weights: model.module, without the prefix module.; --key takes others: "
        "ema.shadow_params",
        "left out: sigmas, which are no weights",
    ]


@pytest.mark.parametrize("name", [None, "params_ema"])
def test_the_averages_of_the_msgpack(flax, name):
    network = read_network(flax, MARKERS, name)
    expected = flax_averages()
    assert set(network.arrays) == set(expected)
    assert_same(network.arrays, {key: expected[key] for key in network.arrays})
    assert network.notes == [
        "weights: params_ema, averaged ones; --key takes others: optimizer.target"
    ]


def test_the_weights_of_the_msgpack_that_are_not_averaged(flax):
    """In the sample they are 0.5, all of them."""
    arrays = read_network(flax, MARKERS, "optimizer.target").arrays
    shapes = {key: array.shape for key, array in flax_averages().items()}
    assert {key: span.shape for key, span in arrays.spans.items()} == shapes
    assert all((array == 0.5).all() for array in arrays.values())


def test_other_names_are_refused(pth, flax):
    refused(pth, "no weights at --key x; it has them at model.module, ema.sh", "x")
    refused(flax, "no weights at --key rng; it has them at params_ema, opt", "rng")


def test_markers_of_other_networks_do_not_find_them(pth, flax):
    with pytest.raises(UserError, match="holds no arrays by name"):
        read_network(pth, OTHERS)
    assert list(read_network(flax, OTHERS).arrays) == ["rng"]


# Lists of averages that do not fit.


def written(tmp_path, averages, model=None, **others):
    if model is None:
        model = {"sigmas": SIGMAS, FREQUENCIES: W, "all_modules.1.weight": DENSE}
        model["all_modules.1.bias"] = BIAS
    tree = {"model": model, "ema": {"shadow_params": averages}, **others}
    return saved(tmp_path / "a.pth", tree)


def test_a_list_gets_the_names_of_the_model(tmp_path):
    path = written(tmp_path, [DENSE + 1, BIAS + 1])
    expected = {"all_modules.1.weight": DENSE + 1, "all_modules.1.bias": BIAS + 1}
    assert_same(read_network(path, MARKERS).arrays, {FREQUENCIES: W, **expected})


def test_a_network_without_fourier_features_has_averages_of_all(tmp_path):
    model = {
        "sigmas": SIGMAS,
        "all_modules.0.weight": DENSE,
        "all_modules.0.bias": BIAS,
    }
    path = written(tmp_path, [DENSE + 1, BIAS + 1], model)
    expected = {"all_modules.0.weight": DENSE + 1, "all_modules.0.bias": BIAS + 1}
    assert_same(read_network(path, MARKERS).arrays, expected)


def test_names_of_wrappers_are_taken_off(tmp_path):
    names = ("sigmas", FREQUENCIES, "all_modules.1.weight")
    keys = [f"module._orig_mod.{name}" for name in names]
    model = dict(zip(keys, (SIGMAS, W, DENSE), strict=True))
    path = written(tmp_path, [DENSE + 1], model)
    expected = {FREQUENCIES: W, "all_modules.1.weight": DENSE + 1}
    assert_same(read_network(path, MARKERS).arrays, expected)


@pytest.mark.parametrize(
    "averages, match",
    [
        ([], "has 0 averages in ema.shadow_params, but 2 trained parameters in model"),
        ([DENSE], "has 1 averages in ema.shadow_params, but 2"),
        ([W, DENSE, BIAS], "has 3 averages in ema.shadow_params, but 2"),
        (
            [DENSE.T, BIAS],
            r"the shape \(2, 3\) in ema.shadow_params for all_modules.1.weight, whose "
            r"shape is \(3, 2\); --key model takes the weights that are not averaged$",
        ),
        ([BIAS, DENSE], r"the shape \(3,\) in ema.shadow_params for all_modules.1.we"),
        ([DENSE, "x"], "has no array in ema.shadow_params for all_modules.1.bias"),
        ([DENSE, {"w": BIAS}], "has no array in ema.shadow_params"),
    ],
)
def test_a_list_that_does_not_fit(tmp_path, averages, match):
    path = written(tmp_path, averages)
    refused(path, match)
    refused(path, match, "ema")
    # What the line advises.
    assert_same(
        read_network(path, MARKERS, "model").arrays,
        {FREQUENCIES: W, "all_modules.1.weight": DENSE, "all_modules.1.bias": BIAS},
    )


def test_a_list_beside_another_network_stays_as_it_is(tmp_path):
    """Other programs have such lists, too, in an order that only they know."""
    model = {"conv_in.weight": DENSE, "time_embedding.linear_1.weight": DENSE}
    path = written(tmp_path, [DENSE + 1, DENSE + 2], model)
    network = read_network(path, ALL)
    assert_same(network.arrays, model)
    assert network.notes == ["weights: model"]


def test_a_table_of_this_name_in_another_network_is_kept(tmp_path):
    model = {"sigmas": SIGMAS, "time_embedding.linear_1.weight": DENSE}
    path = saved(tmp_path / "a.pth", model)
    assert_same(read_network(path, ALL).arrays, model)


# Networks as dictionaries within dictionaries.


def nested(**others):
    return {"Conv_0": {"kernel": DENSE}, "Dense_0": {"kernel": DENSE}, **others}


def test_a_nested_network_is_one(tmp_path):
    """Its blocks have the markers, too."""
    path = tmp_path / "a"
    path.write_bytes(serialization.to_bytes(nested(Block_0=nested(), W=W)))
    network = read_network(path, MARKERS)
    assert set(network.arrays) == {
        *("Conv_0/kernel", "Dense_0/kernel", "W"),
        *("Block_0/Conv_0/kernel", "Block_0/Dense_0/kernel"),
    }
    assert network.notes == []


def test_keys_that_are_twice_in_a_nested_network(tmp_path):
    tree = nested(**{"Block_0": {"a/b": W, "a": {"b": W}}})
    path = tmp_path / "a"
    path.write_bytes(serialization.to_bytes(tree))
    refused(path, "has the array Block_0/a/b twice")
    refused(saved(path, tree), "has the array Block_0/a/b twice")


def test_unusable_names_in_a_nested_network_are_passed_over(tmp_path):
    tree = nested(**{"\x1b": W, "x" * 501: W, "": W, "x" * 300: {"y" * 300: W}})
    path = saved(tmp_path / "a", tree)
    assert list(read_network(path, MARKERS).arrays) == list(
        read_network(saved(path, nested()), MARKERS).arrays
    )


def test_names_of_nested_networks_that_are_too_long_together(tmp_path, monkeypatch):
    """Each of a few letters, below one of hundreds."""
    path, tree = tmp_path / "a", {}
    for i in range(2):
        tree[f"Net_{i}"] = nested(Block_0={"x" * 480: {str(i): W for i in range(9)}})
    path.write_bytes(serialization.to_bytes(tree))
    monkeypatch.setattr(find, "MAX_LETTERS", 9000)
    assert len(read_network(path, MARKERS).arrays) == 11
    monkeypatch.setattr(find, "MAX_LETTERS", 7000)
    refused(path, "has longer names than any network")


def test_a_nested_network_that_contains_itself(tmp_path):
    """A pickle can say so; each dictionary is gone through once."""
    inner = Raw(program(nested(), storages := []) + b"q\0" + text("self") + b"h\0s")
    data = b"\x80\x02}(" + text("params") + inner + b"u."
    members = {f"data/{i}": array.tobytes() for i, array in enumerate(storages)}
    path = zipped(tmp_path / "a.pth", data, **members)
    keys = ["Conv_0/kernel", "Dense_0/kernel"]
    assert list(read_network(path, MARKERS).arrays) == keys
