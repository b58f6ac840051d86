"""The PyTorch peer against outputs of the authors' programs, and against itself."""

import numpy as np
import pytest

from rad_jax.convert.adm import config_from_adm_flags, params_to_adm
from rad_jax.convert.diffusers import config_from_diffusers, diffusers_to_params
from rad_jax.models.config import UNetConfig
from tests.models.adm_files import (
    arrays,
    description,
    golden_weights,
    relative_error,
)

torch = pytest.importorskip("torch")

from benchmarks import torch_peer  # noqa: E402

# That of unet_golden_test.py; observed are 2e-6.
TOLERANCE = 2e-5
PUBLISHED = description("adm_published_state_dicts")


def channels_first(images):
    return torch.tensor(np.moveaxis(images, -1, 1))


def error(output, expected):
    return relative_error(output.numpy(), expected.numpy())


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_are_those_of_the_published_files(name):
    config = config_from_adm_flags(PUBLISHED[name]["flags"])
    state = torch_peer.build(config, device="meta").state_dict()
    shapes = [(key, list(tensor.shape)) for key, tensor in state.items()]
    assert shapes == list(PUBLISHED[name]["state_dict"].items())


@pytest.mark.parametrize("name", ["tiny_adm", "tiny_cond_heads", "tiny_neworder"])
def test_adm(name):
    meta, data = description(name), arrays(name)
    weights = golden_weights(meta["state_dict"])
    model = torch_peer.build(config_from_adm_flags(meta["flags"]), weights)
    labels = torch.tensor(data["y"]) if "y" in data else None
    with torch.inference_mode():
        output = model(channels_first(data["x"]), torch.tensor(data["t"]), labels)
    assert error(output, channels_first(data["out"])) < TOLERANCE


@pytest.mark.parametrize("kind", ["binary", "dense"])
def test_rad(kind):
    meta, data = description("rad_unet"), arrays("rad_unet")
    config = config_from_diffusers(meta["config"])
    params = diffusers_to_params(config, golden_weights(meta["state_dict"]))
    model = torch_peer.build(config, params_to_adm(config, params))
    timesteps = torch.tensor(data[f"timestep_map_{kind}"][..., 0])
    with torch.inference_mode():
        output = model(channels_first(data["x"]), timesteps)
    assert error(output, channels_first(data[f"out_{kind}"])) < TOLERANCE


def small(size, **changes):
    """A network, images and timesteps of two images."""
    generator = torch.Generator().manual_seed(0)
    config = UNetConfig(size, 32, (1, 2), 1, (), num_head_channels=32, **changes)
    torch.manual_seed(0)
    model = torch_peer.build(config)
    x = torch.randn(2, 3, size, size, generator=generator)
    return model, x, torch.tensor([3.0, 800.0])


@pytest.mark.parametrize("scale_shift", [True, False])
def test_a_map_of_one_timestep_is_that_timestep(scale_shift):
    model, x, timesteps = small(16, use_scale_shift_norm=scale_shift)
    maps = timesteps[:, None, None].expand(-1, 16, 16)
    with torch.inference_mode():
        assert error(model(x, maps), model(x, timesteps)) < TOLERANCE


@pytest.mark.parametrize("dense", [False, True])
def test_ways_that_do_not_compile_compute_the_same(dense):
    check_ways(["eager", "channels_last"], 16, dense)


@pytest.mark.slow
# Of PyTorch's compiler, about itself.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.parametrize("dense", [False, True])
def test_compiled_ways_compute_the_same(dense):
    # Maps of 64x64 take the normalisation that is there for the compiler.
    check_ways(["channels_last, compiled"], 64, dense)


def check_ways(names, size, dense):
    model, x, timesteps = small(size)
    if dense:
        timesteps = torch.linspace(-1, 999, 2 * size**2).reshape(2, size, size)
    with torch.inference_mode():
        expected = model(x, timesteps)
    ways = torch_peer.ways(model)
    for name in names:
        assert error(ways[name](x, timesteps), expected) < TOLERANCE


def test_normalisation_for_the_compiler():
    layer = torch_peer.GroupNorm(64)
    x = 3 + torch.randn(2, 64, 32, 64, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    with torch.inference_mode():
        assert error(torch_peer.group_norm(x, layer), layer(x)) < TOLERANCE


def test_bfloat16_is_near():
    model, x, timesteps = small(16)
    weights = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    rounded = torch_peer.build(model.config, weights, dtype=torch.bfloat16)
    with torch.inference_mode():
        output = rounded(x, timesteps)
        assert output.dtype == torch.float32
        assert 1e-4 < error(output, model(x, timesteps)) < 3e-2
        cast = torch_peer.ways(rounded)["channels_last, autocast"](x, timesteps)
        assert cast.dtype == torch.float32
        assert 1e-4 < error(cast, model(x, timesteps)) < 3e-2
        # Not the rounded weights alone: it computes in bfloat16.
        weights = {k: w.float().numpy() for k, w in rounded.state_dict().items()}
        in_float32 = torch_peer.build(model.config, weights)(x, timesteps)
        assert 1e-4 < error(cast, in_float32) < 3e-2
        assert "channels_last, autocast" not in torch_peer.ways(model)
