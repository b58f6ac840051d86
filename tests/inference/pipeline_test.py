"""Pictures through threads and a device."""

import functools

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.files.pairing import Pair
from rad_jax.inference.canvas import Item
from rad_jax.inference.device import Device
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.picture_fill import FillSettings
from rad_jax.inference.pipeline import fill_items
from rad_jax.inference.regions import denoiser_sizes
from rad_jax.inference.strategy import StrategyOptions
from tests.jobs.files_test import mask, noise, picture


@pytest.mark.parametrize("bad", [0, 3, 11])
def test_what_was_written_is_told_once_when_a_write_fails(bad, tmp_path):
    """A row for a result that is there, and no second one."""
    for i in range(12):
        picture(tmp_path / f"{i}.png", (16, 16), i)
    mask(tmp_path / "m.png", (16, 16), np.s_[3:9])
    written = []

    def write(item, pair, encoded):
        if item.tag == bad:
            raise UserError("the disk is full")
        written.append(item.tag)

    def pair(i):
        return Pair(
            str(i), tmp_path / f"{i}.png", tmp_path / "m.png", (tmp_path / "o",)
        )

    items = [Item(functools.partial(pair, i), str(i), i) for i in range(12)]
    fills = Fills(noise, noise)
    options = FileOptions(batch_size=4)
    sizes = denoiser_sizes(16, 4)
    settings = FillSettings(fills, 3, sizes, options, StrategyOptions(), {})
    told = []
    with pytest.raises(UserError, match="the disk is full"):
        for outcome in fill_items(items, settings, write, Device(fills), length=4):
            told.append(outcome.item.tag)
    assert sorted(told) == sorted(written)
