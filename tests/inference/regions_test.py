"""Pictures larger than the model are divided into regions, by rules that are stated."""

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.inference.regions import denoiser_sizes, described, plan
from rad_jax.inference.scaling import region_input, region_output
from rad_jax.inference.strategy import STRATEGIES, StrategyOptions

NATIVE, STRIDE = 64, 8
SIZES = denoiser_sizes(NATIVE, STRIDE)
RANDOM = np.random.default_rng(0)


def holes(size, *boxes):
    hole = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def planned(hole, strategy="auto", context=0.5):
    return plan(hole, SIZES, StrategyOptions(strategy, context))


def kinds(regions):
    return [region.strategy for region in regions]


PICTURES = {
    "small": holes((50, 64), (3, 4, 40, 50)),
    "odd": holes((65, 61), (3, 4, 40, 50)),
    "two speck": holes((300, 200), (5, 5, 6, 6), (290, 190, 291, 191)),
    "near": holes((300, 200), (100, 100, 110, 110), (120, 115, 125, 130)),
    "long": holes((300, 200), (100, 0, 104, 200)),
    "large": holes((300, 400), (50, 50, 250, 300)),
    "everything": holes((300, 400), (0, 0, 300, 400)),
    "corner": holes((300, 400), (280, 370, 300, 400)),
    "thin picture": holes((20, 900), (5, 400, 15, 420)),
    "diagonal": np.eye(200, dtype=bool),
    "noise": RANDOM.random((300, 300)) < 0.02,
    "ring": holes((300, 300), (50, 50, 200, 200))
    & ~holes((300, 300), (60, 60, 190, 190)),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", PICTURES)
def test_every_pixel_of_the_hole_is_filled_once(name, strategy):
    hole = PICTURES[name]
    seen = np.zeros(hole.shape, int)
    for region in planned(hole, strategy):
        seen[region.pixels] += region.part
        h, w = region.part.shape
        top, left, bottom, right = region.box
        assert 0 <= top < bottom <= hole.shape[0] and 0 <= left < right <= hole.shape[1]
        assert (bottom - top, right - left) == (h, w)
        assert all(a <= b for a, b in zip(region.size, region.canvas, strict=True))
        assert region.scale <= 1 and all(x % STRIDE == 0 for x in region.canvas)
        if region.strategy in ("crop", "resize"):
            assert region.canvas == (NATIVE, NATIVE)
        if region.strategy == "tile":
            assert all(x >= NATIVE and x % (NATIVE // 2) == 0 for x in region.canvas)
            assert max(region.canvas) <= 3.5 * NATIVE
    np.testing.assert_array_equal(seen, hole)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small", ["whole"]),
        ("odd", ["whole"]),  # no more than twice the network's pixels
        ("two speck", ["crop", "crop"]),
        ("near", ["crop"]),
        ("long", ["tile"]),  # 200 wide: with its context 400, of 64
        ("large", ["tile"]),
        ("everything", ["tile"]),
        ("corner", ["crop"]),
        ("thin picture", ["crop"]),
    ],
)
def test_rules_of_auto(name, expected):
    """As docs/inpainting.md states them."""
    assert kinds(planned(PICTURES[name])) == expected


def test_limits_of_auto():
    side = int((2 * NATIVE**2) ** 0.5)  # LARGEST_WHOLE
    corner = (0, 0, 10, 10)
    assert kinds(planned(holes((side, side), corner))) == ["whole"]
    assert kinds(planned(holes((side, side + 2), corner))) == ["crop"]
    # A part of 80 with its context is 160, of which 64 is 0.4: SMALLEST_SCALE.
    assert kinds(planned(holes((300, 300), (90, 90, 170, 100)))) == ["crop"]
    assert kinds(planned(holes((300, 300), (90, 90, 171, 100)))) == ["tile"]


def test_crops_are_never_enlarged_and_have_their_context():
    (region,) = planned(PICTURES["corner"])
    assert region.box == (236, 336, 300, 400) and region.scale == 1
    (region,) = planned(holes((500, 500), (200, 200, 240, 250)), "crop")
    assert region.box == (170, 175, 270, 275)  # 50 wide, 25 to each side
    assert region.scale == NATIVE / 100
    (region,) = planned(holes((500, 500), (200, 200, 240, 250)), "crop", context=2.0)
    assert region.box == (95, 100, 345, 350)


def test_without_a_hole_there_is_nothing_to_do():
    for strategy in STRATEGIES:
        assert planned(np.zeros((300, 300), bool), strategy) == []


def test_many_specks_take_few_crops_and_little_time():
    hole = RANDOM.random((600, 900)) < 0.003  # 1600 parts
    regions = planned(hole, "crop")
    assert len(regions) <= 1.5 * 600 * 900 / (NATIVE / 2) ** 2
    assert sum(region.part.sum() for region in regions) == hole.sum()


def test_described():
    assert described(planned(PICTURES["small"])) == ""
    assert described(planned(PICTURES["two speck"])) == "filled by 2 x crop at scale 1"
    text = described(planned(PICTURES["everything"], "resize"))
    assert text == "filled by 1 x resize at scale 0.16"


@pytest.mark.parametrize("strategy", ["whole", "crop", "resize", "tile"])
def test_the_hole_goes_nowhere(strategy):
    """What lies in it, NaN here, is not in what the network sees as known."""
    hole = PICTURES["large"]
    image = RANDOM.uniform(-1, 1, (*hole.shape, 3)).astype(np.float32)
    for region in planned(hole, strategy):
        before = image.copy()
        before[hole] = np.nan
        mask = hole[region.pixels].astype(np.float32)
        seen, seen_mask = region_input(before[region.pixels], mask, region)
        assert seen.shape == (*region.canvas, 3) and seen_mask.shape == region.canvas
        assert np.isfinite(seen[seen_mask == 0]).all()
        assert set(np.unique(seen_mask)) == {0, 1}
        h, w = region.size
        assert not seen_mask[h:].any() and not seen_mask[:, w:].any()
        # Each pixel that has something of the hole is one of the hole.
        rows = np.arange(mask.shape[0]) * h // mask.shape[0]
        columns = np.arange(mask.shape[1]) * w // mask.shape[1]
        assert (seen_mask[np.ix_(rows, columns)] >= mask).all()
        filled = region_output(seen, region)
        assert filled.shape == (*mask.shape, 3)


def test_scaling_keeps_smooth_pictures():
    y, x = np.mgrid[:300, :400].astype(np.float32) / 200 - 1
    image = np.stack([y, x, np.full_like(x, 0.3)], axis=-1)
    hole = PICTURES["large"]
    (region,) = planned(hole, "resize")
    seen, mask = region_input(np.clip(image, -1, 1), hole.astype(np.float32), region)
    back = region_output(np.where(mask[..., None] > 0, 0, seen), region)
    near = ~hole
    near[40:260, 40:310] = False
    assert np.abs(back - np.clip(image, -1, 1))[near].max() < 0.05


def test_soft_masks_stay_soft():
    hole = PICTURES["large"]
    soft = hole * np.float32(0.5)
    (region,) = planned(hole, "resize")
    image = np.zeros((*hole.shape, 3), np.float32)
    _, mask = region_input(image, soft, region)
    inside = mask[15:38, 12:45]
    assert (inside == 0.5).mean() > 0.9 and mask.max() <= 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "crops"}, "strategy is 'crops'; use one of auto, whole, crop"),
        ({"context": 0.0}, r"context is 0.0; it must lie in \(0, 100\]"),
        ({"context": float("nan")}, "context is nan"),
    ],
)
def test_options_without_sense(options, message):
    with pytest.raises(UserError, match=message):
        StrategyOptions(**options)
