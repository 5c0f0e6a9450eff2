"""Rows of values with their intervals, and rows of bars."""

import dataclasses
from collections.abc import Callable, Sequence

from tljax.records.figures import axes
from tljax.records.figures.drawing import (
    Box,
    Circle,
    Drawing,
    Shape,
    Text,
    line,
    shortened,
    text_width,
)

ROW = 22
NAME_WIDTH = 170  # the largest width of a name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A row: a value and its interval.

    Attributes:
        name: shown at the left.
        value: None draws no mark.
        low: the lower end of the interval.
        high: the upper end of the interval.
        text: shown at the right.
        color: of the mark.
        heading: whether the row is a heading, which has a name alone.
        points: single values, drawn as small rings.
    """

    name: str
    value: float | None = None
    low: float = 0.0
    high: float = 0.0
    text: str = ''
    color: str = 'accent'
    heading: bool = False
    points: Sequence[float] = ()


def dots(
    rows: Sequence[Interval],
    *,
    label: str,
    tick_text: Callable[[float], str] = axes.percent_text,
) -> Drawing:
    """Draws shares: in each row a dot, and a line over its interval.

    Args:
        rows: from top to bottom.
        label: of the horizontal axis.
        tick_text: writes a value of the horizontal axis.
    """
    known = [row for row in rows if row.value is not None]
    low = min(value for row in known for value in (row.low, *row.points))
    high = max(value for row in known for value in (row.high, *row.points))
    ticks = axes.round_ticks(low, high, 4)
    left, right = _margins(rows)
    bottom = 8 + ROW * len(rows)
    x = axes.AxisScale(ticks[0], ticks[-1], left + 8, right - 12)
    shapes: list[Shape] = []
    for tick in ticks:
        shapes.append(line(x(tick), 4, x(tick), bottom, 'faint' if tick == 0 else 'rule'))
        shapes.append(Text(x(tick), bottom + 15, tick_text(tick), 'middle'))
    shapes.append(Text((left + right) / 2, bottom + 32, label, 'middle'))
    for index, row in enumerate(rows):
        y = 8 + ROW * index + ROW / 2
        shapes += _names(row, y, left)
        if row.value is not None:
            shapes.append(line(x(row.low), y, x(row.high), y, row.color, width=2))
            shapes += [Circle(x(p), y, 3, 'quiet', 'paper', width=1) for p in row.points]
            shapes.append(Circle(x(row.value), y, 4, row.color))
    return Drawing(axes.WIDTH, bottom + 40, shapes)


def bars(rows: Sequence[Interval], *, high: float | None = None) -> Drawing:
    """Draws a bar from 0 in each row.

    Args:
        rows: from top to bottom; their values are at least 0.
        high: the value of a full bar; None for the largest value.
    """
    most = high or max((row.value or 0.0 for row in rows), default=1.0) or 1.0
    left, right = _margins(rows)
    shapes: list[Shape] = [line(left, 4, left, 8 + ROW * len(rows), 'quiet')]
    for index, row in enumerate(rows):
        y = 8 + ROW * index + ROW / 2
        shapes += _names(row, y, left)
        if row.value is not None:
            width = max((right - left - 6) * min(row.value / most, 1.0), 0.8)
            shapes.append(Box(left, y - 6, width, 12, row.color, 0.8))
    return Drawing(axes.WIDTH, 14 + ROW * len(rows), shapes)


def _margins(rows: Sequence[Interval]) -> tuple[float, float]:
    """The left and the right end of the plot, between the names and the texts."""
    names = max((text_width(row.name) for row in rows if not row.heading), default=0)
    texts = max((text_width(row.text) for row in rows), default=0)
    return min(names, NAME_WIDTH) + 12, axes.WIDTH - texts - 8


def _names(row: Interval, y: float, left: float) -> list[Shape]:
    if row.heading:
        return [Text(4, y + 4, row.name, color='ink', bold=True)]
    name = Text(left - 8, y + 4, shortened(row.name, NAME_WIDTH), 'end', 'ink')
    return [name, Text(axes.WIDTH - 4, y + 4, row.text, 'end')]
