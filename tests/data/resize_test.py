"""ADM's rule, restated by hand: every size that an image goes through is listed."""

import numpy as np
import pytest
from PIL import Image

from rad_jax.data.resize import center_crop, scale

BOX, BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC

# size wanted, size of the image, sizes after halving, scaled size, left and top
STEPS = [
    (16, (16, 16), [], (16, 16), (0, 0)),
    (16, (31, 31), [], (16, 16), (0, 0)),  # 31 < 32: no halving
    (16, (32, 32), [(16, 16)], (16, 16), (0, 0)),
    (16, (33, 32), [(16, 16)], (16, 16), (0, 0)),  # 33 // 2
    (16, (64, 80), [(32, 40), (16, 20)], (16, 20), (0, 2)),
    (16, (129, 97), [(64, 48), (32, 24)], (21, 16), (2, 0)),  # 32 * 16 / 24 = 21.3
    (16, (24, 37), [], (16, 25), (0, 4)),  # 37 * 16 / 24 = 24.7; (25 - 16) // 2
    (16, (10, 7), [], (23, 16), (3, 0)),  # enlarged; 10 * 16 / 7 = 22.9
    (5, (1, 9), [], (5, 45), (0, 20)),
]


def picture(size, mode="RGB"):
    width, height = size
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("wanted", "size", "halved", "scaled", "corner"), STEPS)
def test_each_step_is_the_one_of_the_rule(wanted, size, halved, scaled, corner, mode):
    expected = picture(size, mode)
    for half in halved:
        expected = expected.resize(half, BOX)
    expected = np.asarray(expected.resize(scaled, BICUBIC))
    left, top = corner
    cropped = center_crop(picture(size, mode), wanted)
    np.testing.assert_array_equal(
        np.asarray(cropped), expected[top : top + wanted, left : left + wanted]
    )
    assert cropped.size == (wanted, wanted)
    assert scale(picture(size, mode), wanted).size == scaled


def test_twice_the_size_is_the_mean_of_four_pixels():
    image = picture((64, 64))
    means = np.asarray(image, float).reshape(32, 2, 32, 2, 3).mean((1, 3))
    # Pillow rounds after each direction.
    np.testing.assert_allclose(np.asarray(center_crop(image, 32)), means, atol=1)


def test_the_wanted_size_is_left_alone():
    image = picture((32, 32))
    assert center_crop(image, 32).tobytes() == image.tobytes()


def test_long_thin_image_does_not_fill_the_memory():
    with pytest.raises(ValueError, match="3000x1 pixels are too long and thin"):
        center_crop(Image.new("L", (3000, 1)), 256)
    assert center_crop(Image.new("L", (2000, 1)), 256).size == (256, 256)
