"""Line charts."""

import dataclasses
import math
from collections.abc import Sequence

from tljax.records.figures import axes, drawing
from tljax.records.figures.drawing import Circle, Drawing, Path, Shape, Text, line

HEIGHT = 190  # of the plot itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a chart.

    Attributes:
        name: in the legend.
        xs: [N], ascending.
        ys: [N]; the line is interrupted where a value is None.
        color: a name in `colors`.
        dashed: whether the line is dashed.
        band: the low and the high end of an interval for each x.
        dots: whether each value has a dot.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    color: str
    dashed: bool = False
    band: Sequence[tuple[float, float]] = ()
    dots: bool = False


def chart(
    curves: Sequence[Curve],
    *,
    x_label: str,
    percent: bool = False,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    percent_x: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    log_x: bool = False,
    x_ticks: Sequence[float] | None = None,
    y_label: str = '',
) -> Drawing:
    """Draws curves with a legend above them.

    Args:
        curves: the lines.
        x_label: the name of the horizontal axis.
        percent: whether the vertical axis shows percent.
        y_range: of the vertical axis; None for the range of the values.
        x_range: of the horizontal axis; None for the range of the values.
        percent_x: whether the horizontal axis shows percent.
        marks: vertical lines with a label each, such as the starts of phases.
        log_x: whether the horizontal axis is logarithmic.
        x_ticks: the values with a label on the horizontal axis, ascending; None for round numbers.
            A label that would overlap the previous one is omitted.
        y_label: the name of the vertical axis, above the legend.
    """
    names = [(curve.name, curve.color) for curve in curves]
    shapes, top = axes.legend(names, 24 if y_label else 4)
    if y_label:
        shapes.append(Text(48, 15, y_label))
    top += 16 * bool(marks)
    bottom = top + HEIGHT
    plot = axes.plot(
        x_range or _range([x for curve in curves for x in curve.xs]),
        y_range or _range(_values(curves)),
        top=top,
        bottom=bottom,
        log_x=log_x,
    )
    if x_ticks is not None:
        plot = dataclasses.replace(plot, x_ticks=axes.apart(plot.x, x_ticks, axes.number_text))
    y_text = axes.percent_text if percent else axes.number_text
    shapes += plot.frame(x_label, y_text, axes.percent_text if percent_x else axes.number_text)
    shapes += _marks(plot, marks)
    for curve in curves:
        shapes += _curve(plot, curve)
    return Drawing(axes.WIDTH, bottom + 42, shapes)


def _values(curves: Sequence[Curve]) -> list[float]:
    values = [y for curve in curves for y in curve.ys if y is not None and math.isfinite(y)]
    return values + [y for curve in curves for band in curve.band for y in band]


def _range(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _marks(plot: axes.Plot, marks: Sequence[tuple[float, str]]) -> list[Shape]:
    """Vertical lines; a label that would overlap the previous one is omitted."""
    shapes: list[Shape] = []
    end = -math.inf
    for x, label in marks:
        at = plot.x(x)
        shapes.append(line(at, plot.y.stop - 4, at, plot.y.start, 'faint', dashed=True))
        anchor = 'end' if at + drawing.text_width(label) > axes.WIDTH else 'start'
        begin = at - drawing.text_width(label) if anchor == 'end' else at
        if begin > end:
            shapes.append(Text(at, plot.y.stop - 8, label, anchor, size=11))
            end = begin + drawing.text_width(label) + 6
    return shapes


def _curve(plot: axes.Plot, curve: Curve) -> list[Shape]:
    shapes: list[Shape] = []
    if curve.band:
        lows = [(plot.x(x), plot.y(low)) for x, (low, _) in zip(curve.xs, curve.band, strict=True)]
        highs = [
            (plot.x(x), plot.y(high)) for x, (_, high) in zip(curve.xs, curve.band, strict=True)
        ]
        shapes.append(Path([*lows, *reversed(highs)], None, fill=curve.color, opacity=0.18))
    for piece in _pieces(plot, curve):
        if len(piece) > 1:
            shapes.append(Path(piece, curve.color, 1.8, curve.dashed))
        if curve.dots or len(piece) == 1:
            shapes += [Circle(x, y, 2.6, curve.color) for x, y in piece]
    return shapes


def _pieces(plot: axes.Plot, curve: Curve) -> list[list[tuple[float, float]]]:
    """The positions of a curve's values, split where a value is missing or not finite."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(curve.xs, curve.ys, strict=True):
        if y is None or not math.isfinite(y):
            pieces.append([])
        else:
            pieces[-1].append((plot.x(x), plot.y(y)))
    return [piece for piece in pieces if piece]
