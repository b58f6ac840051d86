"""Line charts by Matplotlib, which comes with the extra ``report``."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00"),  # Okabe & Ito
    *("#56b4e9", "#000000", "#cc79a7", "#999999"),  # of theirs, and grey for yellow
)
MARKERS = ("o", "s", "^")
WIDTH, HEIGHT, DPI = 4.6, 3.8, 100  # of a panel, inches

Point = tuple[float, float]


class Series(NamedTuple):
    """A line; what has the same colour or marker shares a name in the legend.

    Attributes:
      colour: index of `COLOURS`.
      marker: index of `MARKERS`.
      points: x and y.
      name: stands beside its last point, or in rows beside its row.
      ranges: the least and the greatest y of each point; none for no ranges.
    """

    colour: int
    marker: int
    points: Sequence[Point]
    name: str = ""
    ranges: Sequence[Point] = ()


class Panel(NamedTuple):
    """One chart on logarithmic axes.

    Attributes:
      title: above it.
      x_name: of the axis.
      y_name: of the axis.
      series: its lines.
      x_ticks: where x has ticks; none for Matplotlib's choice.
      in_rows: y is the number of a row, 0 at the top, with its series' name.
    """

    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]
    x_ticks: Sequence[float] = ()
    in_rows: bool = False


def require_matplotlib() -> None:
    """Refuses to go on without it.

    Raises:
      UserError: saying how to install it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UserError(
            "charts need Matplotlib; pip install 'rad-jax[report]'"
        ) from error


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG file whole or not at all, with the same bytes for the same chart.

    Raises:
      UserError: the file cannot be written.
    """
    with atomic_write(path) as part:
        figure.savefig(part, format="png", dpi=DPI, metadata={"Software": None})


def figure(
    panels: Sequence[Panel],
    colours: Sequence[str] = (),
    markers: Sequence[str] = (),
    lines: Mapping[str, tuple[int, int]] | None = None,
) -> "Figure":
    """Panels side by side under a legend.

    Args:
      panels: what to draw.
      colours: names of `COLOURS` in the legend.
      markers: names of `MARKERS` in the legend.
      lines: instead of both, names of lines with their colours and markers.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    size = (WIDTH * len(panels), HEIGHT)
    drawn = Figure(size, layout="constrained")  # no pyplot: no state, no display
    for i, panel in enumerate(panels):
        _draw(panel, drawn.add_subplot(1, len(panels), i + 1))
    if lines:
        handles = [
            Line2D([], [], color=COLOURS[c], marker=MARKERS[m], label=name)
            for name, (c, m) in lines.items()
        ]
        drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        return drawn
    strokes = [
        Line2D([], [], color=COLOURS[i], label=name) for i, name in enumerate(colours)
    ]
    points = [
        Line2D([], [], color="black", linestyle="", marker=MARKERS[i], label=name)
        for i, name in enumerate(markers)
    ]
    # A legend fills its columns one by one: so colours have a row, and markers.
    pairs = itertools.zip_longest(strokes, points)
    if handles := [handle for pair in pairs for handle in pair if handle]:
        columns = max(len(strokes), len(points))
        drawn.legend(handles=handles, loc="outside upper center", ncols=columns)
    return drawn


def _draw(panel: Panel, axes: "Axes") -> None:
    axes.set(title=panel.title, xlabel=panel.x_name, ylabel=panel.y_name)
    axes.grid(visible=True, which="both", color="#dddddd")
    axes.set_axisbelow(True)
    for series in panel.series:
        colour, marker = COLOURS[series.colour], MARKERS[series.marker]
        axes.plot(*zip(*series.points, strict=True), color=colour, marker=marker)
        for (x, _), (low, high) in zip(series.points, series.ranges, strict=False):
            axes.plot((x, x), (low, high), color=colour, linewidth=1)
    axes.set_xscale("log")
    _label(axes.xaxis, [x for series in panel.series for x, _ in series.points])
    if panel.x_ticks:
        axes.set_xticks(panel.x_ticks)
        axes.set_xticks([], minor=True)
    if panel.in_rows:
        names = [series.name for series in panel.series]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        return
    axes.set_yscale("log")
    _label(axes.yaxis, [y for series in panel.series for _, y in series.points])
    middle = math.prod(axes.get_xlim()) ** 0.5
    for series in panel.series:
        left = series.points[-1][0] > middle  # to the side that has room
        axes.annotate(
            series.name,
            series.points[-1],
            xytext=(-6 if left else 6, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
        )


def _label(axis: "Axis", values: Sequence[float | int]) -> None:
    """Plain numbers: 1, 2 and 5 of each decade; of a narrow range evenly spaced."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if max(values) < 5 * min(values):
        axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
    for put in (axis.set_major_formatter, axis.set_minor_formatter):
        put(FuncFormatter(lambda value, _: f"{value:g}"))
