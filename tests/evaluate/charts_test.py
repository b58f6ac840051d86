"""Charts: points where they belong, and a legend."""

import numpy as np
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
