"""Which attention is computed where: cuDNN's is lowered here, not run."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from rad_jax.models.attention import attend
from rad_jax.models.target import compute_capability, tracing_for

pytestmark = pytest.mark.usefixtures("quickly")

SHAPES = {"b, 64, 4, 64": (2, 64, 4, 64), "b, 1024, 8, 64": (2, 1024, 8, 64)}
FLASH = "__cudnn$fmha"


def gpu(monkeypatch, capability):
    device = types.SimpleNamespace(platform="gpu", compute_capability=capability)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])


def draw(shape, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, shape, dtype) for key in keys]


def lowered(platform, shape, dtype, function=attend):
    """The program for a platform that need not be here."""
    traced = jax.jit(lambda *qkv: function(*qkv)).trace(*draw(shape, dtype))
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.fixture
def hopper(monkeypatch):
    """A GPU as JAX sees it while it traces."""
    gpu(monkeypatch, "9.0")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91500)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bfloat16_on_a_gpu_is_cudnns(hopper, shape):
    assert FLASH in lowered("cuda", shape, jnp.bfloat16)

    def loss(*qkv):
        return attend(*qkv).astype(jnp.float32).sum()

    backward = lowered("cuda", shape, jnp.bfloat16, jax.grad(loss))
    assert FLASH in backward and "Backward" in backward


@pytest.mark.parametrize(("capability", "flash"), [(9, True), (8, True), (7, False)])
def test_what_counts_is_the_gpu_that_it_is_traced_for(monkeypatch, capability, flash):
    """Not that of this machine, which has none."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91500)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)
    shape = SHAPES["b, 64, 4, 64"]
    with tracing_for(capability):
        assert (FLASH in lowered("cuda", shape, jnp.bfloat16)) == flash
    assert FLASH not in lowered("cuda", shape, jnp.bfloat16)


def test_a_target_hides_the_gpu_that_is_here(hopper):
    assert compute_capability() == 9
    with tracing_for(0):
        assert compute_capability() == 0
        with tracing_for(8):
            assert compute_capability() == 8
        assert compute_capability() == 0
    assert compute_capability() == 9


def test_other_programs_are_plain(hopper):
    shape = SHAPES["b, 64, 4, 64"]
    assert FLASH not in lowered("tpu", shape, jnp.bfloat16)
    assert FLASH not in lowered("cuda", shape, jnp.float32)


NOT_ABLE = {"Volta": "7.0", "AMD's": "gfx90a"}


@pytest.mark.parametrize("name", ("none here", "heads too wide", *NOT_ABLE))
def test_without_cudnn_it_is_plain(hopper, monkeypatch, name):
    shape = (2, 64, 4, 264 if name == "heads too wide" else 64)
    if name == "none here":
        monkeypatch.setattr(cudnn, "check_cudnn_version", cudnn_is_missing)
    if name in NOT_ABLE:
        gpu(monkeypatch, NOT_ABLE[name])
    assert FLASH not in lowered("cuda", shape, jnp.bfloat16)


@pytest.mark.parametrize(
    ("length", "causal", "flash"),
    [(76, False, True), (64, True, True), (77, False, False)],
)
def test_other_lengths(hopper, length, causal, flash):
    """JAX has no gradient of cuDNN's where one is odd, as a text's of 77 tokens."""

    def loss(q, k, v):
        attended = attend(q, k[:, :length], v[:, :length], causal=causal)
        return attended.astype(jnp.float32).sum()

    shape = SHAPES["b, 1024, 8, 64"]
    backward = jax.grad(jax.checkpoint(loss))
    assert (FLASH in lowered("cuda", shape, jnp.bfloat16, backward)) == flash


def cudnn_is_missing():
    raise RuntimeError("cuDNN is not detected.")


@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
def test_agrees_with_its_definition(dtype):
    q, k, v = draw((2, 12, 3, 8), dtype)
    tolerance = {"float32": 1e-6, "bfloat16": 0.02}[dtype]
    np.testing.assert_allclose(attend(q, k, v), plain(q, k, v), atol=tolerance)
    fewer = k[:, :7], v[:, :7]
    np.testing.assert_allclose(attend(q, *fewer), plain(q, *fewer), atol=tolerance)
    causal = attend(q, k, v, causal=True)
    expected = [plain(q[:, i : i + 1], k[:, : i + 1], v[:, : i + 1]) for i in range(12)]
    np.testing.assert_allclose(causal, np.concatenate(expected, 1), atol=tolerance)


def plain(q, k, v):
    """In float64."""
    wide = [np.asarray(x, np.float64) for x in (q, k, v)]
    logits = np.einsum("bqhd,bkhd->bhqk", *wide[:2]) / np.sqrt(8)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, wide[2])
