"""Charts: points where they belong, and a legend."""

import numpy as np
import pytest
from PIL import Image

from rad_jax.evaluate.charts import COLOURS, Panel, Series, figure, save_figure


def test_chart_puts_points_where_they_belong(tmp_path):
    points = [(1, 1), (10**0.5, 10), (10, 100)]
    panel = Panel("t", "x", "y", [Series(2, 1, points, "last")], x_ticks=(1, 10))
    chart = figure([panel, panel], ["a"], ["u", "v"])  # another colour in the legend
    save_figure(chart, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    colour = np.array([int(COLOURS[2][i : i + 2], 16) for i in (1, 3, 5)])
    near = np.abs(drawn - colour).max(-1) < 40
    y, x = np.nonzero(near[:, : near.shape[1] // 2])
    assert x.max() - x.min() > 300
    ends = y[x == x.min()].mean(), y[x == x.max()].mean()
    assert ends[0] - ends[1] > 180
    # A straight line, on logarithmic axes, through the middle of both.
    middle = np.abs(x - (x.min() + x.max()) / 2) < 3
    assert middle.any() and abs(y[middle].mean() - np.mean(ends)) < 5
    names = [text.get_text() for text in chart.legends[0].get_texts()]
    assert names == ["a", "u", "v"]
    left, right = chart.axes
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "10"]
    assert [text.get_text() for text in right.texts] == ["last"]


def test_names_and_ticks_are_within_the_frame():
    """Of points at either side, and of values that lie close together."""
    series = [Series(0, 0, [(1, 0.062)], "left"), Series(1, 0, [(9, 0.079)], "right")]
    chart = figure([Panel("t", "x", "y", series)])
    chart.draw_without_rendering()
    (axes,) = chart.axes
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 < box.x0 and box.x1 < frame.x1, text.get_text()
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert ticks == pytest.approx([0.065, 0.07, 0.075])
    assert axes.yaxis.get_major_formatter()(0.065, 0) == "0.065"


def test_colours_and_markers_have_a_row_each_in_the_legend():
    panel = Panel("t", "x", "y", [Series(0, 0, [(1, 1), (2, 2)])])
    chart = figure([panel], ["a", "b", "c"], ["u", "v"])
    chart.draw_without_rendering()
    rows = {
        text.get_text(): round(text.get_window_extent().y0 / 10)
        for text in chart.legends[0].get_texts()
    }
    assert rows["a"] == rows["b"] == rows["c"] > rows["u"] == rows["v"]
