"""Accuracy against cost: points with intervals, their names, and the Pareto front."""

import dataclasses
from collections.abc import Callable, Sequence

from tljax.records.figures import axes
from tljax.records.figures.drawing import (
    Circle,
    Drawing,
    Path,
    Shape,
    Text,
    line,
    shortened,
    text_width,
)

CHOSEN = 'accent'  # the color of the points that matter most
WIDTH, LEFT, RIGHT = 480, 46, 468  # names need width; a telephone shows letters of 9 px
LABEL_PX = 12  # the height of a label
NAME_WIDTH = 205
WIDER = 1.08  # bold letters relative to plain ones
SHIFTS = (0, *(sign * 13 * n for n in range(1, 9) for sign in (-1, 1)))  # of labels, by size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A point of the figure.

    Attributes:
        name: its label; '' for none.
        cost: more than 0.
        accuracy: in [0, 1].
        interval: around it.
        color: of the point.
        hollow: whether it was judged on less than the others.
    """

    name: str
    cost: float
    accuracy: float
    interval: tuple[float, float]
    color: str
    hollow: bool = False


def shares_plot(low: float, high: float, top: float, bottom: float) -> tuple[axes.AxisScale, list]:
    """A vertical axis of shares that ends at round ones, and its lines and labels."""
    middle = (low + high) / 2
    ticks = axes.round_ticks(min(low, middle - 0.01), max(high, middle + 0.01), 7)
    scale = axes.AxisScale(ticks[0], ticks[-1], bottom, top)
    shapes: list[Shape] = []
    for tick in ticks:
        shapes.append(line(LEFT, scale(tick), RIGHT, scale(tick), 'rule'))
        shapes.append(Text(LEFT - 6, scale(tick) + 4, axes.percent_text(tick), 'end'))
    return scale, [*shapes, line(LEFT, bottom, RIGHT, bottom, 'quiet')]


def costs(
    points: Sequence[Point],
    *,
    label: str,
    text: Callable[[float], str] = axes.seconds_text,
    front: Sequence[int] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> Drawing:
    """Draws accuracy with its interval against the cost, on a logarithmic axis.

    Args:
        points: at least one.
        label: of the horizontal axis.
        text: writes a cost.
        front: the indices of points that a line connects, in order.
        legend: names and colors.
    """
    patches, top = axes.legend(legend, 4, LEFT)
    bottom = top + 316
    lows, highs = zip(*(point.interval for point in points), strict=True)
    down, shapes = shares_plot(min(lows), max(highs), top + 10, bottom)
    shapes += patches
    least, most = min(p.cost for p in points) / 1.5, max(p.cost for p in points) * 1.5
    across = axes.AxisScale(least, most, LEFT + 14, RIGHT - 14, log=True)
    for tick in axes.apart(across, axes.decades(least, most), text):
        shapes.append(line(across(tick), bottom, across(tick), bottom + 4, 'quiet'))
        shapes.append(Text(across(tick), bottom + 18, text(tick), 'middle'))
    shapes.append(Text((LEFT + RIGHT) / 2, bottom + 38, label, 'middle'))
    places = [(across(point.cost), down(point.accuracy)) for point in points]
    if len(front) > 1:
        shapes.append(Path([places[index] for index in front], CHOSEN, 1.2, dashed=True))
    bars = [(down(high), down(low)) for low, high in zip(lows, highs, strict=True)]
    drawn = sorted(zip(points, places, bars, strict=True), key=lambda one: one[0].color == CHOSEN)
    for point, place, bar in drawn:
        shapes += _marked(point, place, bar)
    labels = _labels([point.name for point in points], places, bars, top, bottom)
    for point, (x, y, anchor) in zip(points, labels, strict=True):
        if point.name:
            name = shortened(point.name, NAME_WIDTH)
            shapes.append(Text(x, y, name, anchor, point.color, bold=point.color == CHOSEN))
    return Drawing(WIDTH, bottom + 46, shapes)


def _marked(point: Point, place: tuple[float, float], bar: tuple[float, float]) -> list[Shape]:
    """A point with its interval."""
    x, y = place
    fill = 'paper' if point.hollow else point.color
    radius = 6 if point.color == CHOSEN else 4.5
    interval = line(x, bar[0], x, bar[1], point.color, width=1.2)
    return [interval, Circle(x, y, radius, point.color, fill, width=1.8)]


def _labels(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    bars: Sequence[Sequence[float]],
    top: float,
    bottom: float,
) -> list[tuple[float, float, str]]:
    """The place of each label beside its point, where it covers the fewest marks and labels."""
    taken = [(x - 7, y - 6, x + 7, y + 6) for x, y in places]
    taken += [(x - 2, bar[0], x + 2, bar[1]) for (x, _), bar in zip(places, bars, strict=True)]
    labels: list[tuple[float, float, str]] = [(0, 0, 'start')] * len(names)
    for index in sorted(range(len(names)), key=lambda i: places[i][1]):
        if not names[index]:
            continue
        x, y = places[index]
        width = min(WIDER * text_width(names[index]), NAME_WIDTH)
        boxes = [
            (start, y + shift - LABEL_PX / 2, start + width, y + shift + LABEL_PX / 2)
            for shift in SHIFTS
            for start in (x + 11, x - 11 - width)
        ]
        inside = [
            box
            for box in boxes
            if box[0] > LEFT and box[2] < RIGHT and box[1] > top and box[3] < bottom
        ]
        best = min(inside or boxes, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(best)
        is_right = best[0] > x
        labels[index] = (
            best[0] if is_right else best[2],
            best[3] - LABEL_PX / 2 + 4,
            'start' if is_right else 'end',
        )
    return labels


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
