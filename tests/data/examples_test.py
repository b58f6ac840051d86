import io

import numpy as np
import pytest
from PIL import Image

from rad_jax.data.examples import ToExample, decode, random_crop
from rad_jax.errors import UserError

RAMP = np.arange(256, dtype=np.uint8)


def record(image, kind="PNG", **more):
    file = io.BytesIO()
    image.save(file, kind)
    return {"image": file.getvalue(), "name": "d/x.png", "data_set": "d", **more}


def noise(width, height):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def rng():
    return np.random.default_rng(1)


def coordinates(width, height):
    """Red tells the column, green the row, as a share of 240."""
    x = np.linspace(0, 240, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 240, height)[:, None].repeat(width, 1)
    pixels = np.stack([x, y, 0 * x], axis=-1)
    return Image.fromarray(pixels.round().astype(np.uint8))


def test_colour_and_grey_are_converted():
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    np.testing.assert_array_equal(decode(record(red), 3), np.asarray(red))
    np.testing.assert_array_equal(decode(record(red), 1), np.full((2, 3), 76))
    levels = Image.fromarray(RAMP.reshape(16, 16))  # must survive, whatever the way
    np.testing.assert_array_equal(decode(record(levels), 1), RAMP.reshape(16, 16))


def test_image_of_the_size_is_untouched():
    image = noise(16, 16)
    options = {"random_crop": True, "random_flip": False}
    example = ToExample(3, 16, **options)(record(image, label=5), rng())
    np.testing.assert_array_equal(example["image"], np.asarray(image))
    assert (example["label"], example["label"].dtype) == (5, np.int32)


def test_data_set_without_classes_has_label_0():
    assert ToExample(1, 2)(record(noise(2, 2)), rng())["label"] == 0


def test_flip_mirrors_left_and_right():
    image = noise(4, 4)
    seen = {
        ToExample(3, 4, random_flip=True)(record(image), np.random.default_rng(i))[
            "image"
        ].tobytes()
        for i in range(20)
    }
    pixels = np.asarray(image)
    assert seen == {pixels.tobytes(), pixels[:, ::-1].tobytes()}


def test_without_random_crop_it_is_the_centre():
    image = noise(12, 8)
    example = ToExample(3, 8)(record(image), rng())
    np.testing.assert_array_equal(example["image"], np.asarray(image)[:, 2:10])


def test_random_crops_are_those_of_adm():
    """Where a crop lies is read from its pixels: their colours are coordinates."""
    size, width, height = 40, 300, 200
    image, generator = coordinates(width, height), rng()
    found = []
    for _ in range(300):
        pixels = np.asarray(random_crop(image, size, generator)).astype(float)
        assert pixels.shape == (size, size, 3)
        # Columns and rows of the picture that the crop's pixels 1 and 38 stem from.
        x = pixels[:, [1, 38], 0].mean(0) / 240 * (width - 1) + 0.5
        y = pixels[[1, 38], :, 1].mean(1) / 240 * (height - 1) + 0.5
        x_scale, y_scale = 37 / (x[1] - x[0]), 37 / (y[1] - y[0])
        assert x_scale == pytest.approx(y_scale, rel=0.03)
        found.append((height * y_scale, x[0] * x_scale - 1.5, y[0] * y_scale - 1.5))
    sides, lefts, tops = np.array(found).T
    assert sides.min() == pytest.approx(size, abs=1)
    assert sides.max() == pytest.approx(50, abs=1)
    assert sides.mean() == pytest.approx(45, abs=1)
    assert lefts.min() == pytest.approx(0, abs=1)
    assert (lefts / (1.5 * sides - size)).mean() == pytest.approx(0.5, abs=0.05)
    assert (lefts / (1.5 * sides - size)).max() == pytest.approx(1, abs=0.06)
    assert tops.min() == pytest.approx(0, abs=1)
    assert tops.max() == pytest.approx(10, abs=1)


def test_random_crop_halves_by_box_filter():
    """Stripes of one pixel are grey after the first halving, whatever comes next."""
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200
    image = Image.fromarray(stripes)
    pixels = np.asarray(random_crop(image, 16, rng()))  # 16 to 20: halved once
    np.testing.assert_array_equal(pixels, np.full((16, 16), 100))


def test_smaller_images_are_refused():
    line = r"^d/x\.png: the images of d have 20x15 pixels, image_size is 16; make"
    for options in ({}, {"random_crop": True}):
        with pytest.raises(UserError, match=line):
            ToExample(3, 16, **options)(record(noise(20, 15)), rng())


def test_turned_photo_is_upright():
    image = noise(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    turned = {"image": file.getvalue(), "name": "x", "data_set": "d"}
    expected = np.rot90(np.asarray(image), -1)
    np.testing.assert_array_equal(decode(turned, 3), expected)


def test_broken_image_is_one_line():
    broken = record(noise(64, 64))
    broken["image"] = broken["image"][:1000]
    with pytest.raises(UserError, match=r"^d/x\.png: .*; take it out") as caught:
        ToExample(3, 64)(broken, rng())
    assert "\n" not in str(caught.value)
