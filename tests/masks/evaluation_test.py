import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.masks import evaluation
from rad_jax.masks.evaluation import evaluation_mask
from rad_jax.masks.kinds import KINDS


def draw(kind, size, count, **options):
    options = {"seed": 0, **options}
    return np.stack(
        [evaluation_mask(kind, size, index=index, **options) for index in range(count)]
    )


def bounding_box(hole):
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@pytest.fixture
def strokes(monkeypatch):
    """For each mask drawn, for each stroke, its segments: (start, end, reach)."""
    drawn = []
    draw_segment = evaluation.draw_segment

    def spy(hole, ends, reach):
        if not hole.any():
            drawn.append([])  # a new mask
        start, end = ends
        last = drawn[-1][-1][-1] if drawn[-1] else None
        if last is None or not np.array_equal(last[1], start):
            drawn[-1].append([])
        drawn[-1][-1].append((start, end, reach))
        draw_segment(hole, ends, reach)

    monkeypatch.setattr(evaluation, "draw_segment", spy)
    return drawn


@pytest.mark.parametrize(("size", "side"), [(32, 16), (33, 16), (256, 128)])
def test_box_is_half_the_side_anywhere(size, side):
    boxes = [bounding_box(hole) for hole in draw("box", size, 300)]
    tops, bottoms, lefts, rights = np.array(boxes).T
    for low, high in ((tops, bottoms), (lefts, rights)):
        assert (high - low == side).all()
        room = size - side
        assert abs(low.mean() - room / 2) < 4 * room / np.sqrt(12 * 300)
        if size < 256:
            assert set(low) == set(range(room + 1))
    assert (draw("box", size, 20).sum((1, 2)) == side**2).all()


@pytest.mark.parametrize("size", [33, 256])
def test_extreme_keeps_a_box(size):
    holes = draw("extreme", size, 20)
    assert (holes.sum((1, 2)) == size**2 - (size // 2) ** 2).all()
    for hole in holes:
        top, bottom, left, right = bounding_box(~hole)
        assert bottom - top == right - left == size // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [8, 33])
def test_any_kind_at_any_size(kind, size):
    holes = draw(kind, size, 30)
    assert holes.shape == (30, size, size)
    assert holes.dtype == bool
    assert len(np.unique(holes.reshape(30, -1), axis=0)) > 5
    assert 0.05 < holes.mean() < 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_depends_on_seed_kind_and_index_only(kind):
    first = evaluation_mask(kind, 33, seed=3, index=5)
    holes = draw(kind, 33, 6, seed=3)
    np.testing.assert_array_equal(holes[5], first)
    assert (draw(kind, 33, 6, seed=4) != holes).any((1, 2)).all()


SLOW = pytest.mark.slow


# Mean share of the hole as drawn; of those up to a half; share of larger ones: measured
# by running LaMa's generator, 4000 masks each.
@pytest.mark.parametrize(
    ("kind", "size", "count", "mean", "mean_of_small", "large"),
    [
        pytest.param(*("thin", 256, 250, 0.294, 0.287, 0.029), marks=SLOW),
        pytest.param(*("medium", 256, 1000, 0.240, 0.237, 0.010), marks=SLOW),
        ("wide", 256, 1000, 0.402, 0.267, 0.35),
        pytest.param(*("thin", 512, 100, 0.294, 0.285, None), marks=SLOW),
        pytest.param(*("medium", 512, 400, 0.304, 0.273, 0.11), marks=SLOW),
        pytest.param(*("wide", 512, 400, 0.458, 0.265, 0.44), marks=SLOW),
    ],
)
def test_coverage_is_that_of_lama(kind, size, count, mean, mean_of_small, large):
    shares = draw(kind, size, count, max_coverage=None).mean((1, 2))
    small = shares[shares <= 0.5]

    def error(sample):
        return 3 * sample.std() * np.sqrt(1 / len(sample) + 1 / 4000)

    assert abs(shares.mean() - mean) < error(shares)
    assert abs(small.mean() - mean_of_small) < error(small)
    if large is not None:
        assert abs((shares > 0.5).mean() - large) < error(shares > 0.5) + 0.005


def test_large_masks_are_redrawn_unless_switched_off():
    raw = draw("wide", 64, 60, max_coverage=None)
    small = draw("wide", 64, 60)
    too_large = raw.mean((1, 2)) > 0.5
    assert 10 < too_large.sum() < 35
    assert (small.mean((1, 2)) <= 0.5).all()
    np.testing.assert_array_equal(small[~too_large], raw[~too_large])
    assert draw("wide", 64, 20, max_coverage=0.2).mean((1, 2)).max() <= 0.2
    # Not for the others, whose area is given.
    assert evaluation_mask("extreme", 64, seed=0, index=0).mean() == 0.75
    perlin = draw("perlin", 33, 20, max_coverage=0.01)
    np.testing.assert_array_equal(perlin, draw("perlin", 33, 20, max_coverage=None))
    with pytest.raises(UserError, match="raise max_coverage"):
        evaluation_mask("wide", 64, seed=0, index=0, max_coverage=1e-4)


def test_strokes_follow_the_rules_of_lama(strokes):
    masks = draw("wide", 256, 400, max_coverage=None)
    # Boxes instead of strokes in 0.3 of 1.3 masks.
    assert abs(1 - len(strokes) / len(masks) - 0.3 / 1.3) < 0.06
    assert {len(mask) for mask in strokes} == set(range(1, 7))
    segments = [stroke for mask in strokes for stroke in mask]
    assert {len(stroke) for stroke in segments} == set(range(1, 6))
    reaches = {reach for stroke in segments for _, _, reach in stroke}
    assert reaches == {half + 0.3 for half in range(3, 53)}  # widths of 5 to 104

    seen = set()
    for mask in strokes:
        for number, stroke in enumerate(mask):
            assert (stroke[0][0] < 256).all()
            for start, end, _ in stroke:
                assert (end >= 0).all()
                assert (end <= 256).all()
                dx, dy = end - start
                length = np.hypot(dx, dy)
                assert length < 210
                if length > 100 and (end > 0).all() and (end < 256).all():  # not cut
                    angle = np.arctan2(dx, dy) * (1 if number % 2 else -1)
                    nearest = np.round(angle - 0.01)
                    assert abs(angle - 0.01 - nearest) < 0.02
                    seen.add(int(nearest))
    assert seen == {0, 1, 2, 3}


def test_boxes_follow_the_rules_of_lama(monkeypatch):
    monkeypatch.setattr(evaluation, "_BOX_SHARE", 1.0)
    holes = draw("wide", 256, 400, max_coverage=None)
    edges = np.array([bounding_box(hole) for hole in holes])
    assert edges.min() == 10
    assert edges.max() == 246
    single = [
        (bottom - top, right - left)
        for hole, (top, bottom, left, right) in zip(holes, edges, strict=True)
        if hole[top:bottom, left:right].all()
    ]
    assert len(single) > 400 / 4  # one box of 1 to 3, or one inside another
    assert (np.min(single), np.max(single)) == (30, 150)
    # Height and width are drawn apart.
    assert abs(np.corrcoef(np.transpose(single))[0, 1]) < 0.3


@pytest.mark.parametrize("kind", ["wide", "medium", "thin"])
def test_other_sizes_are_those_for_256_scaled(kind):
    full = draw(kind, 256, 20, max_coverage=None)
    for size in (64, 128, 200, 768):
        holes = draw(kind, size, 20 if size < 256 else 3, max_coverage=None)
        # Where the centre of each pixel lies among those of 256.
        at = ((np.arange(size) + 0.5) * 256 / size).astype(int)
        different = holes != full[: len(holes), at[:, None], at[None, :]]
        assert different.mean() < (0.04 if kind == "thin" else 0.02)
    # LaMa's own parameters for 512 are not the scaled ones.
    differ = draw(kind, 512, 3, max_coverage=None)[:, ::2, ::2] != full[:3]
    assert differ.mean() > 0.05


def test_lines_have_a_pixel_at_least(strokes):
    draw("thin", 8, 3, max_coverage=None)
    reaches = [segment[2] for mask in strokes for stroke in mask for segment in stroke]
    assert set(reaches) == {0.5}


@pytest.mark.parametrize("reach", [0.5, 1.3, 3.3, 9.3])
@pytest.mark.parametrize(
    "ends",
    [
        ((9, 12), (25, 12)),
        ((9, 12), (9, 12)),
        ((3.2, 28), (22, 5.7)),
        ((0, 4), (34, 32)),
    ],
)
def test_a_segment_is_what_lies_near_it(ends, reach):
    ends = np.array(ends, np.float64)
    hole = np.zeros((30, 34), bool)
    hole[29, 0] = True  # what was set before stays
    evaluation.draw_segment(hole, ends, reach)
    points = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 2001)[:, None]
    pixels = np.moveaxis(np.mgrid[:30, :34][::-1], 0, -1)
    distance = np.linalg.norm(pixels[:, :, None] - points, axis=-1).min(-1)
    expected = distance <= reach
    expected[29, 0] = True
    np.testing.assert_array_equal(hole, expected)
    assert expected.sum() > 1


def test_thickness_of_strokes_is_that_of_opencv():
    # Rows that OpenCV's horizontal lines cover, by their thickness.
    for width, rows in ((5, 7), (6, 7), (7, 9), (8, 9), (13, 15), (41, 43), (42, 43)):
        hole = np.zeros((64, 64), bool)
        ends = np.array([[20.0, 32.0], [40.0, 32.0]])
        evaluation.draw_segment(hole, ends, evaluation.stroke_reach(width))
        assert hole[:, 30].sum() == rows


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "wyde"}, "did you mean 'wide'"),
        ({"kind": ""}, "unknown"),
        ({"size": 7}, "from 8 to"),
        ({"size": 10**6}, "from 8 to"),
        ({"seed": -1}, "seed is -1"),
        ({"index": -1}, "index is -1"),
        ({"max_coverage": 0.0}, "max_coverage is 0"),
        ({"max_coverage": 1.5}, "max_coverage is 1.5"),
        ({"max_coverage": float("nan")}, "max_coverage is nan"),
    ],
)
def test_refuses_nonsense(changed, message):
    with pytest.raises(UserError, match=message):
        evaluation_mask(
            **{"kind": "wide", "size": 64, "seed": 0, "index": 0, **changed}
        )
