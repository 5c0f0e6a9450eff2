"""Parallel coordinates: a line for each configuration over its values on several axes."""

import dataclasses
import math
from collections.abc import Sequence

from tljax.records.figures import axes
from tljax.records.figures.drawing import Circle, Drawing, Path, Shape, Text, line, shortened

WIDTH, HEIGHT, TOP, SIDE = 640, 260, 34, 70
NAMED = 8  # the largest number of values that are all named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coordinate:
    """An axis.

    Attributes:
        name: above the axis.
        places: the place of each configuration, from 0 at the bottom to 1 at the top; None if a
            configuration does not have the axis.
        ticks: places with their labels.
    """

    name: str
    places: Sequence[float | None]
    ticks: Sequence[tuple[float, str]]


def numeric(name: str, values: Sequence[float | None], *, log: bool, text=None) -> Coordinate:
    """An axis of numbers.

    Args:
        name: of the axis.
        values: one of each configuration; at least one is known.
        log: whether the axis is logarithmic; all values are positive then.
        text: writes a number; None for `axes.number_text`.
    """
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    scale = axes.AxisScale(low, high, 0.0, 1.0, log) if high > low else None
    marks = axes.decades(low, high) if log else axes.round_ticks(low, high, 5)
    inside = [mark for mark in marks if low <= mark <= high]
    write = text or axes.number_text
    return Coordinate(
        name=name,
        places=[None if v is None else scale(v) if scale else 0.5 for v in values],
        ticks=[(scale(m), write(m)) for m in inside] if scale else [(0.5, write(low))],
    )


def named(name: str, values: Sequence[str | None]) -> Coordinate:
    """An axis of names, in the order in which they first occur."""
    names = list(dict.fromkeys(value for value in values if value is not None))
    gap = 1 / max(len(names) - 1, 1)
    place = {one: 1 - gap * index if len(names) > 1 else 0.5 for index, one in enumerate(names)}
    every = max(1, math.ceil(len(names) / NAMED))
    return Coordinate(
        name=name,
        places=[None if value is None else place[value] for value in values],
        ticks=[(place[one], one) for one in names[::every]],
    )


def parallel(coordinates: Sequence[Coordinate], highlighted: Sequence[int]) -> Drawing:
    """Draws the configurations; those that are highlighted are drawn last, in the accent color.

    Args:
        coordinates: at least two, from left to right.
        highlighted: indices of configurations.
    """
    gap = (WIDTH - 2 * SIDE) / (len(coordinates) - 1)
    xs = [SIDE + gap * index for index in range(len(coordinates))]
    shapes: list[Shape] = []
    chosen = set(highlighted)
    for index in sorted(range(len(coordinates[0].places)), key=lambda i: i in chosen):
        places = zip(xs, (one.places[index] for one in coordinates), strict=True)
        points = [(x, _y(place)) for x, place in places if place is not None]
        color, width = ('accent', 2.0) if index in chosen else ('faint', 1.0)
        if len(points) > 1:
            shapes.append(Path(points, color, width))
        shapes += [Circle(x, y, 2, color, width=0) for x, y in points]
    for x, one in zip(xs, coordinates, strict=True):
        shapes += _axis(x, one, gap)
    return Drawing(WIDTH, TOP + HEIGHT + 16, shapes)


def _y(place: float) -> float:
    return TOP + HEIGHT * (1 - place)


def _axis(x: float, one: Coordinate, gap: float) -> list[Shape]:
    """The line, the name and the labels of an axis."""
    shapes: list[Shape] = [line(x, TOP, x, TOP + HEIGHT, 'quiet')]
    shapes.append(Text(x, TOP - 16, shortened(one.name, gap - 8), 'middle', 'ink', bold=True))
    for place, label in one.ticks:
        y = _y(place)
        shapes.append(line(x - 3, y, x + 3, y, 'quiet'))
        text = shortened(label, min(gap - 16, SIDE))
        shapes.append(Text(x + 7, y + 4, text, color='ink', size=11, halo=True))
    return shapes
