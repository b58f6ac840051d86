import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.masks import perlin


def distance_to_uniform(sample, low, high):
    """Kolmogorov-Smirnov distance between a sample and the uniform distribution."""
    unit = (np.sort(np.asarray(sample, np.float64)) - low) / (high - low)
    steps = np.arange(len(unit) + 1) / len(unit)
    return max((steps[1:] - unit).max(), (unit - steps[:-1]).max())


def reference_noise(gradients, cell, phase):
    """Perlin noise, pixel by pixel, in float64."""
    gx, gy = np.asarray(gradients, np.float64).transpose(0, 2, 1)
    height, width = gx.shape[0] - 2, gx.shape[1] - 2

    def fade(s):
        return 6 * s**5 - 15 * s**4 + 10 * s**3

    noise = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y, x = row / cell + phase[0], column / cell + phase[1]
            for i in (int(y), int(y) + 1):
                for j in (int(x), int(x) + 1):
                    weight = fade(1 - abs(y - i)) * fade(1 - abs(x - j))
                    dot = gx[i, j] * (x - j) + gy[i, j] * (y - i)
                    noise[row, column] += weight * dot
    return noise


@pytest.mark.parametrize("shape", [(16, 16), (7, 9), (1, 1), (32, 50)])
@pytest.mark.parametrize("levels", [None, 1, 5], ids=["distinct", "equal", "ties"])
def test_lowest_values_as_numpy_finds_them(shape, levels):
    rng = np.random.default_rng(0)
    # Magnitudes from the smallest to the largest, of either sign.
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30, shape)
    if levels is not None:
        values = rng.integers(-levels // 2, levels // 2 + 1, shape) / levels
    values = values.astype(np.float32)
    mark = jax.jit(perlin.mark_lowest)
    for count in np.unique(np.linspace(1, values.size, 60).astype(int)):
        kth = np.partition(values, count - 1, axis=None)[count - 1]
        marked = np.asarray(mark(jnp.asarray(values), jnp.asarray(count)))
        np.testing.assert_array_equal(marked, values <= kth)
        if levels is None:
            assert marked.sum() == count
    assert not mark(jnp.asarray(values), jnp.asarray(0)).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_lowest_of_neighbouring_floats(sign):
    one = np.array(1, np.float32).view(np.int32)
    values = (one + np.arange(-32, 32, dtype=np.int32)).view(np.float32) * sign
    mark = jax.jit(perlin.mark_lowest)
    for count in range(65):
        marked = mark(jnp.asarray(values.reshape(8, 8)), jnp.asarray(count))
        expected = np.sort(values)[:count]
        np.testing.assert_array_equal(np.sort(values[marked.ravel() > 0]), expected)


@pytest.fixture(scope="module")
def gradients():
    draw = jax.jit(perlin.random_gradients, static_argnums=(1, 2))
    return draw(jax.random.key(1), 64, 30)


@pytest.mark.parametrize("cell", [1.0, 1.7, 5.0, 64.0])
@pytest.mark.parametrize("phase", [(0.25, 0.9), (0.0, 0.9999999)])
def test_noise_as_the_formula_says(gradients, cell, phase):
    phase = np.array(phase, np.float32)
    noise = jax.jit(perlin.perlin_noise)(gradients, np.float32(cell), phase)
    expected = reference_noise(gradients, cell, phase)
    assert noise.shape == (64, 30)
    np.testing.assert_allclose(noise, expected, atol=5e-5)


def test_noise_is_zero_on_the_lattice_only(gradients):
    noise = jax.jit(perlin.perlin_noise)(gradients, np.float32(4), np.zeros(2, "f"))
    noise = np.asarray(noise)
    on_lattice = np.zeros(noise.shape, bool)
    on_lattice[::4, ::4] = True
    assert (noise[on_lattice] == 0).all()
    assert (np.abs(noise[~on_lattice]) > 1e-6).mean() > 0.99


def test_gradients_are_unit_vectors_in_all_directions(gradients):
    x, y = np.asarray(gradients, np.float64)
    assert x.shape == (32, 66)
    np.testing.assert_allclose(x**2 + y**2, 1, atol=1e-6)
    angles = np.arctan2(y, x) % (2 * np.pi)
    assert len(np.unique(angles.round(3))) == 256
    assert distance_to_uniform(angles.ravel(), 0, 2 * np.pi) < 1.63 / x.size**0.5
    # Neighbours, also those drawn from the same word, are independent.
    for ahead in (1, 2, 3, 66):
        turned = angles.ravel()[ahead:] - angles.ravel()[:-ahead]
        assert abs(np.exp(1j * turned).mean()) < 3 / len(turned) ** 0.5


def test_share_of_the_hole_is_uniform(key):
    drawn = np.asarray(perlin.perlin_masks(jax.random.split(key, 2000), 24, 40))
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0, 1}
    share = drawn.mean((1, 2))
    assert distance_to_uniform(share, 0, 1) < 1.63 / 2000**0.5  # p = 0.01
    # Any place is as likely a hole as any other.
    assert np.abs(drawn.mean(0) - 0.5).max() < 5 * 0.5 / 2000**0.5


@pytest.mark.parametrize(("height", "width"), [(16, None), (8, 32)])
def test_cell_count_and_phase_are_uniform(key, monkeypatch, height, width):
    seen = {}

    def noise(gradients, cell, phase):
        seen["cell"], seen["phase"] = cell, phase
        return jnp.zeros((height, width or height))

    def lowest(values, count):
        seen["count"] = count
        return values

    monkeypatch.setattr(perlin, "perlin_noise", noise)
    monkeypatch.setattr(perlin, "mark_lowest", lowest)

    def draw(key):
        perlin.perlin_mask(key, height, width)
        return seen["cell"], seen["phase"], seen["count"]

    cell, phase, count = jax.jit(jax.vmap(draw))(jax.random.split(key, 5000))
    pixels, bound = height * (width or height), 1.63 / 5000**0.5
    assert distance_to_uniform(cell, 1, width or height) < bound
    assert distance_to_uniform(phase[:, 0], 0, 1) < bound
    assert distance_to_uniform(phase[:, 1], 0, 1) < bound
    assert np.abs(np.corrcoef(np.stack([cell, *phase.T, count]))[0, 1:]).max() < 0.05
    assert set(np.unique(count)) == set(range(pixels + 1))
    assert distance_to_uniform(count, 0, pixels) < bound + 1 / pixels


def test_a_key_decides_its_mask(key):
    keys = jax.random.split(key, 12)
    drawn = np.asarray(perlin.perlin_masks(keys, 40, 24))
    again = np.asarray(perlin.perlin_masks(keys[::-1], 40, 24))[::-1]
    np.testing.assert_array_equal(drawn, again)
    assert len(np.unique(drawn.reshape(12, -1), axis=0)) == 12

    traces = []

    @jax.jit
    def one(key):
        traces.append(None)
        return perlin.perlin_mask(key, 40, 24)

    np.testing.assert_array_equal(drawn, np.stack([one(key) for key in keys]))
    assert len(traces) == 1


@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_soft_mask_is_a_gaussian_blur(key, sigma):
    mask = np.asarray(jax.random.bernoulli(key, 0.3, (20, 31)), np.float32)
    soft = np.asarray(jax.jit(perlin.soft_mask, static_argnums=1)(mask, sigma))
    reach = int(np.ceil(3 * sigma))
    square = np.arange(-reach, reach + 1) ** 2
    kernel = np.exp(-(square[:, None] + square[None, :]) / (2 * sigma**2))
    padded = np.pad(mask, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    expected = (windows * kernel).sum((2, 3)) / kernel.sum()
    np.testing.assert_allclose(soft, expected, atol=1e-6)
    assert soft.min() >= 0
    assert soft.max() <= 1


def test_soft_mask_leaves_one_colour_alone():
    blur = jax.jit(lambda mask: perlin.soft_mask(mask, 4.0))
    np.testing.assert_allclose(blur(np.ones((5, 8), np.float32)), 1, atol=1e-6)
    assert not blur(np.zeros((5, 8), np.float32)).any()
