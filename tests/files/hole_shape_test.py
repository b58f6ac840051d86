"""Grown holes and soft rims against distances that are computed one by one."""

import numpy as np
import pytest

from rad_jax.files.hole_shape import dilated, feathered

H, W = 21, 26


def hole(*boxes):
    found = np.zeros((H, W), bool)
    for box in boxes:
        found[box] = True
    return found


HOLES = {
    "a box": hole(np.s_[6:14, 8:19]),
    "at the edges": hole(np.s_[:5, :4], np.s_[18:, 20:]),
    "a point": hole(np.s_[10:11, 12:13]),
    "a frame": ~hole(np.s_[3:17, 3:20]),
    "all but a point": ~hole(np.s_[0:1, 25:26]),
    "none": hole(),
    "all": ~hole(),
}


def distance_to(there):
    """Of every pixel to the nearest True one."""
    grid = np.moveaxis(np.indices((H, W)), 0, -1)
    apart = grid[:, :, None] - np.argwhere(there)
    return np.sqrt((apart**2).sum(-1)).min(-1)


@pytest.mark.parametrize("pixels", [0, 1, 3, 100])
@pytest.mark.parametrize("name", HOLES)
def test_holes_grow_by_a_disc(name, pixels):
    before = HOLES[name].copy()
    grown = dilated(HOLES[name], pixels)
    expected = distance_to(before) <= pixels if before.any() else before
    np.testing.assert_array_equal(grown, expected)
    np.testing.assert_array_equal(HOLES[name], before)


@pytest.mark.parametrize("pixels", [0, 1, 3, 100, 10_000])
@pytest.mark.parametrize("name", HOLES)
def test_rims_rise_within_the_hole(name, pixels):
    inside = HOLES[name]
    mask = feathered(inside, pixels)
    assert mask.dtype == np.float32 and ((mask > 0) == inside).all()
    expected = inside.astype(float)
    if inside.any() and not inside.all():
        expected = np.minimum(distance_to(~inside) / (pixels + 1), 1)
    np.testing.assert_allclose(mask, expected, rtol=1e-6)
    if name == "a box" and pixels == 3:
        np.testing.assert_allclose(mask[10, 7:13], [0, 0.25, 0.5, 0.75, 1, 1])
