"""Charts on logarithmic axes or in rows, drawn by Pillow, with no plotting library."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00")  # Okabe & Ito
MARKERS = ("circle", "square", "triangle")
WIDTH, HEIGHT = 460, 330  # of a panel, pixels
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 46  # of its frame, from its border
LINE, LEGEND = 18, 48
SCALE = 3  # drawn larger, then scaled down to smooth edges

Number = float | int
Point = tuple[Number, Number]
Ticks = Sequence[Number]


class Series(NamedTuple):
    """A line; what has the same colour or marker shares a name in the legend.

    Its own name, if it has one, stands beside its last point.
    """

    colour: int
    marker: int
    points: Sequence[Point]
    name: str = ""


class Panel(NamedTuple):
    """One chart: title, names of the axes, where they have ticks, and lines.

    With a number of rows for `y_ticks`, y of a point is its row, 0 at the top.
    """

    title: str
    x_name: str
    y_name: str
    x_ticks: Ticks
    y_ticks: Ticks | int
    series: Sequence[Series]


def draw(
    panels: Sequence[Panel], colours: Sequence[str], markers: Sequence[str]
) -> np.ndarray:
    """Panels side by side under a legend, uint8 (h, w, 3).

    Args:
      panels: what to draw.
      colours: names of `COLOURS` in the legend.
      markers: names of `MARKERS` in the legend.
    """
    size = (WIDTH * len(panels), HEIGHT + LEGEND)
    canvas = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), "white")
    pen = ImageDraw.Draw(canvas)
    _legend(pen, colours, markers)
    for i, panel in enumerate(panels):
        _panel(canvas, panel, WIDTH * i)
    return np.asarray(canvas.resize(size, Image.Resampling.LANCZOS))


def _legend(
    pen: ImageDraw.ImageDraw, colours: Sequence[str], markers: Sequence[str]
) -> None:
    x, y = 16.0, 15
    for colour, name in zip(COLOURS, colours, strict=False):
        pen.line(_scaled((x, y), (x + 24, y)), colour, 3 * SCALE)
        _text(pen, (x + 30, y), name, "lm")
        x += 54 + _width(name)
    x = 16.0
    for marker, name in zip(MARKERS, markers, strict=False):
        _marker(pen, marker, (x + 12, y + LINE), "black")
        _text(pen, (x + 30, y + LINE), name, "lm")
        x += 54 + _width(name)


def _panel(canvas: Image.Image, panel: Panel, left: int) -> None:
    pen = ImageDraw.Draw(canvas)
    low = (left + LEFT, LEGEND + HEIGHT - BOTTOM)
    high = (left + WIDTH - RIGHT, LEGEND + TOP)

    def across(x: Number) -> float:
        """Pixels of a point from the left."""
        return low[0] + _share(x, panel.x_ticks) * (high[0] - low[0])

    def down(y: Number) -> float:
        """Pixels of a point from above."""
        return low[1] + _share(y, panel.y_ticks) * (high[1] - low[1])

    for tick in panel.x_ticks:
        x = across(tick)
        pen.line(_scaled((x, low[1]), (x, high[1])), "#dddddd", SCALE)
        _text(pen, (x, low[1] + 6), f"{tick:g}", "ma")
    for tick in () if isinstance(panel.y_ticks, int) else panel.y_ticks:
        y = down(tick)
        pen.line(_scaled((low[0], y), (high[0], y)), "#dddddd", SCALE)
        _text(pen, (low[0] - 6, y), f"{tick:g}", "rm")
    for series in panel.series:
        points = [(across(x), down(y)) for x, y in series.points]
        pen.line(_scaled(*points), COLOURS[series.colour], 2 * SCALE, joint="curve")
        for point in points:
            _marker(pen, MARKERS[series.marker], point, COLOURS[series.colour])
        # To the side that has room.
        right = points[-1][0] + _width(series.name) + 8 < high[0]
        beside = (points[-1][0] + (8 if right else -8), points[-1][1])
        _text(pen, beside, series.name, "lm" if right else "rm", size=10)
    middle = (low[0] + high[0]) / 2
    _text(pen, (middle, LEGEND + 14), panel.title, "mm", size=14)
    _text(pen, (middle, LEGEND + HEIGHT - 12), panel.x_name, "mm")
    _sideways(canvas, (left + 12, (low[1] + high[1]) / 2), panel.y_name)


def _share(value: Number, ticks: Ticks | int) -> float:
    """Where on an axis: 0 at its beginning, the first tick or below the last row."""
    if isinstance(ticks, int):
        return 1 - (value + 0.5) / ticks
    return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])


def _marker(
    pen: ImageDraw.ImageDraw, kind: str, centre: Point, colour: str, radius: float = 4
) -> None:
    x, y = centre
    if kind == "triangle":
        corners = ((x, y - radius), (x + radius, y + radius), (x - radius, y + radius))
        pen.polygon(_scaled(*corners), colour)
        return
    box = _scaled((x - radius, y - radius), (x + radius, y + radius))
    (pen.ellipse if kind == "circle" else pen.rectangle)(box, colour)


def _text(
    pen: ImageDraw.ImageDraw, place: Point, text: str, anchor: str, size: int = 12
) -> None:
    """Writes text; ``anchor`` is Pillow's."""
    font = ImageFont.load_default(size * SCALE)
    pen.text(_scaled(place)[0], text, "black", font, anchor)


def _sideways(canvas: Image.Image, centre: Point, text: str) -> None:
    """Writes text from below to above."""
    line = Image.new("RGB", (_scaled((_width(text), LINE)))[0], "white")
    _text(ImageDraw.Draw(line), (0, LINE / 2), text, "lm")
    turned = line.rotate(90, expand=True)
    x, y = _scaled(centre)[0]
    canvas.paste(turned, (x - turned.width // 2, y - turned.height // 2))


def _width(text: str) -> int:
    return math.ceil(ImageFont.load_default(12).getlength(text)) + 2


def _scaled(*points: Point) -> list[tuple[int, int]]:
    return [(round(x * SCALE), round(y * SCALE)) for x, y in points]
