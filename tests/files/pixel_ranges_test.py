import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.files import pixel_ranges

ALL_BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("asarray", [np.asarray, jnp.asarray])
def test_every_byte_survives_the_way_there_and_back(asarray):
    floats = pixel_ranges.to_float(asarray(ALL_BYTES))
    assert type(floats) is type(asarray(ALL_BYTES))
    assert floats.dtype == np.float32
    assert (floats[0, 0], floats[-1, -1]) == (-1, 1)
    back = pixel_ranges.to_bytes(floats)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, ALL_BYTES)


def test_to_bytes_rounds_to_nearest_and_clips():
    step = 2 / 255
    values = [-7, -1 + 0.49 * step, -1 + 0.51 * step, 1 - 0.49 * step, 7]
    got = pixel_ranges.to_bytes(np.array(values, np.float32))
    np.testing.assert_array_equal(got, [0, 0, 1, 255, 255])


def test_low_precision_is_rounded_from_its_own_value():
    values = jnp.asarray([0.95703125, 0.98828125], jnp.bfloat16)  # exact in bfloat16
    np.testing.assert_array_equal(
        pixel_ranges.to_bytes(values), [250, 254]
    )  # 249.5, 253.5


@pytest.mark.parametrize("asarray", [np.asarray, jnp.asarray])
def test_samples_are_cut_off_as_by_guided_diffusion(asarray):
    """uint8(clip((x + 1) * 127.5, 0, 255))."""
    levels = np.array([-7, 0.2, 0.99, 1.01, 127.9, 254.99, 255, 300], np.float32)
    got = pixel_ranges.to_truncated_bytes(asarray(levels / 127.5 - 1))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, [0, 0, 0, 1, 127, 254, 255, 255])
