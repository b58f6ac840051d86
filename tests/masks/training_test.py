"""Masks of training other than Perlin's: where holes lie, and how large they are."""

import jax
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.masks import evaluation, training
from rad_jax.masks.perlin import perlin_mask, soft_mask
from rad_jax.masks.training import MaskConfig, training_mask
from tests.masks.perlin_test import distance_to_uniform
from tests.train.step_test import QUICKLY

pytestmark = pytest.mark.usefixtures("quickly")

COUNT, SIZE = 2400, 16
KINDS = ("perlin", "box", "extreme", "stroke")


@pytest.fixture(scope="module")
def drawn():
    """Masks from the same keys, (COUNT, SIZE, SIZE): of all kinds, mixed and soft.

    One program: what compiles is most of the time.
    """

    def draw(key):
        _, mask_key = jax.random.split(key)  # as a mixed mask draws one of the kinds
        kinds = (
            perlin_mask,
            training.box_mask,
            training.extreme_mask,
            training.stroke_mask,
        )
        masks = {
            name: draw(mask_key, SIZE, SIZE)
            for name, draw in zip(KINDS, kinds, strict=True)
        }
        return masks | {
            "mixed": training_mask(MaskConfig("mixed"), key, SIZE, SIZE),
            "soft": training_mask(MaskConfig(blur=1.0), mask_key, SIZE, SIZE),
            "blurred": soft_mask(masks["perlin"], 1.0),
            "wide box": training.box_mask(key, 9, 14),
        }

    keys = jax.random.split(jax.random.key(0), COUNT)
    program = jax.jit(jax.vmap(draw)).lower(keys).compile(QUICKLY)
    return jax.tree.map(np.asarray, program(keys))


def test_box_is_half_the_side_anywhere(drawn):
    boxes = drawn["wide box"]
    assert boxes.dtype == np.float32 and set(np.unique(boxes)) == {0, 1}
    assert (boxes.sum((1, 2)) == 4 * 7).all()
    places = []
    for axis, half in ((2, 4), (1, 7)):
        inside = boxes.any(axis)
        assert (inside.sum(1) == half).all()
        places.append(inside.argmax(1))
        assert (np.diff(inside, axis=1).sum(1) <= 2).all()  # in one piece
    # Each of 6 x 8 places as often as any other, to the edges.
    counts = np.bincount(places[0] * 8 + places[1], minlength=48)
    assert len(counts) == 48
    expected = COUNT / 48
    assert ((counts - expected) ** 2 / expected).sum() < 75.7  # p = 0.005, 47 free


def test_strokes_are_those_of_the_evaluation(drawn):
    """They cover as much, in the same places, and each comes from its own key."""
    strokes = drawn["stroke"]
    assert set(np.unique(strokes)) == {0, 1}
    random = np.random.default_rng(0)
    expected = np.zeros((800, SIZE, SIZE), bool)
    for hole in expected:
        lama = evaluation._LAMA["wide", 256]
        evaluation._draw_strokes(random, lama, 256, hole)
    noise = np.sqrt(1 / COUNT + 1 / len(expected))
    shares = [np.sort(x.mean((1, 2))) for x in (strokes, expected)]
    everywhere = np.concatenate(shares)
    below = [np.searchsorted(x, everywhere, "right") / len(x) for x in shares]
    assert np.abs(below[0] - below[1]).max() < 1.63 * noise  # p = 0.01
    where = np.abs(strokes.mean(0) - expected.mean(0))
    assert where.max() < 4.5 * 0.5 * noise
    assert len(np.unique(strokes.reshape(COUNT, -1), axis=0)) > 0.8 * COUNT


def test_mixed_masks_are_of_four_kinds_at_equal_odds(drawn):
    each = np.stack([drawn[kind] for kind in KINDS], 1)
    is_kind = (drawn["mixed"][:, None] == each).all((2, 3))
    once = is_kind.sum(1) == 1  # a whole hole or none is of several kinds
    assert once.mean() > 0.98 and is_kind.any(1).all()
    odds = is_kind[once].mean(0)
    assert np.abs(odds - 1 / 4).max() < 4 * np.sqrt(3 / 16 / COUNT) + 0.01
    # The pick says nothing about the mask: Perlin's are still of all sizes.
    share = drawn["mixed"][is_kind[:, 0]].mean((1, 2))
    assert distance_to_uniform(share, 0, 1) < 1.63 / np.sqrt(len(share)) + 1 / SIZE**2
    np.testing.assert_array_equal(drawn["extreme"], 1 - drawn["box"])


def test_blur_softens_each_mask_by_itself(drawn):
    soft = drawn["soft"]
    np.testing.assert_allclose(soft, drawn["blurred"], atol=1e-6)
    assert soft.min() >= 0 and soft.max() <= 1
    between = ((soft > 0.01) & (soft < 0.99)).mean((1, 2))
    assert np.median(between) > 0.3
    # It moves no mass: holes are as large as before, but for what lies at the edge.
    shares = soft.mean((1, 2)) - drawn["perlin"].mean((1, 2))
    assert abs(shares.mean()) < 0.01 and np.abs(shares).max() < 0.1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "circle"}, "mask.kind is 'circle'; use one of perlin, box, mixed, f"),
        ({"blur": -1.0}, r"mask.blur is -1.0; it must lie in \[0, 32\] pixels"),
        ({"blur": float("nan")}, "mask.blur is nan; it must lie in"),
        ({"blur": 33.0}, "mask.blur is 33.0; it must lie in"),
        (
            {"kind": "full", "blur": 1.0},
            "mask.blur softens edges, and mask.kind 'full'",
        ),
    ],
)
def test_masks_that_cannot_be_drawn_are_named(options, message):
    with pytest.raises(UserError, match=message):
        MaskConfig(**options)
