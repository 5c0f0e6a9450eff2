"""The pictures of an advice: accuracy against cost, and by depth."""

import dataclasses
from collections.abc import Mapping, Sequence

from tljax.records.figures import axes, colors
from tljax.records.figures.axes import seconds_text
from tljax.records.figures.drawing import (
    Box,
    Circle,
    Drawing,
    Path,
    Shape,
    Text,
    line,
    text_width,
)

CHOSEN, NEAR, FAR = 'accent', 'ink', 'quiet'
WIDTH, LEFT, RIGHT = 520, 46, 508
LABEL_PX = 12  # the height of a label
NAMES_PX = 150  # the largest width of the names of curves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A candidate in the picture of accuracy against cost.

    Attributes:
        name: its label.
        cost: in seconds, more than 0.
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


def _shares_plot(low: float, high: float, top: float, bottom: float) -> tuple[axes.AxisScale, list]:
    """A vertical axis of shares that ends at round ones, and its lines and labels."""
    middle = (low + high) / 2
    ticks = axes.round_ticks(min(low, middle - 0.01), max(high, middle + 0.01), 7)
    scale = axes.AxisScale(ticks[0], ticks[-1], bottom, top)
    shapes: list[Shape] = []
    for tick in ticks:
        shapes.append(line(LEFT, scale(tick), RIGHT, scale(tick), 'rule'))
        shapes.append(Text(LEFT - 6, scale(tick) + 4, axes.percent_text(tick), 'end'))
    return scale, [*shapes, line(LEFT, bottom, RIGHT, bottom, 'quiet')]


def costs(points: Sequence[Point]) -> Drawing:
    """Accuracy with its interval against the seconds of training, on a logarithmic axis."""
    bottom = 330
    lows, highs = zip(*(point.interval for point in points), strict=True)
    down, shapes = _shares_plot(min(lows), max(highs), 14, bottom)
    least, most = min(p.cost for p in points) / 1.5, max(p.cost for p in points) * 1.5
    across = axes.AxisScale(least, most, LEFT + 14, RIGHT - 14, log=True)
    for tick in axes.decades(least, most):
        shapes.append(line(across(tick), bottom, across(tick), bottom + 4, 'quiet'))
        shapes.append(Text(across(tick), bottom + 18, seconds_text(tick), 'middle'))
    label = 'predicted time of the complete training'
    shapes.append(Text((LEFT + RIGHT) / 2, bottom + 38, label, 'middle'))
    places = [(across(point.cost), down(point.accuracy)) for point in points]
    bars = [(down(high), down(low)) for low, high in zip(lows, highs, strict=True)]
    drawn = sorted(zip(points, places, bars, strict=True), key=lambda one: one[0].color == CHOSEN)
    for point, place, bar in drawn:
        shapes += _marked(point, place, bar)
    labels = _labels([point.name for point in points], places, bars)
    for point, (x, y, anchor) in zip(points, labels, strict=True):
        shapes.append(Text(x, y, point.name, anchor, point.color, bold=point.color == CHOSEN))
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
) -> list[tuple[float, float, str]]:
    """Where each label stands beside its point, so that none covers another, a point or a bar."""
    taken = [(x - 7, y - 6, x + 7, y + 6) for x, y in places]
    taken += [(x - 2, bar[0], x + 2, bar[1]) for (x, _), bar in zip(places, bars, strict=True)]
    found: list[tuple[float, float, str]] = [(0, 0, 'start')] * len(names)
    for index in sorted(range(len(names)), key=lambda i: places[i][1]):
        x, y = places[index]
        width = text_width(names[index])
        tries = [
            (side, shift)
            for shift in (0, *(sign * 13 * n for n in range(1, 9) for sign in (-1, 1)))
            for side in (1, -1)
            if (x + 11 + width < RIGHT if side > 0 else x - 11 - width > LEFT)
        ] or [(-1, 0)]

        def box(
            side: int, shift: float, x=x, y=y, width=width
        ) -> tuple[float, float, float, float]:
            start = x + 11 if side > 0 else x - 11 - width
            return start, y + shift - LABEL_PX / 2, start + width, y + shift + LABEL_PX / 2

        def covered(one: tuple[int, float], box=box) -> int:
            return sum(_overlap(box(*one), other) for other in taken)

        side, shift = min(tries, key=lambda one: (covered(one), abs(one[1])))
        taken.append(box(side, shift))
        found[index] = (x + 11 * side, y + shift + 4, 'start' if side > 0 else 'end')
    return found


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A network in the picture of depths.

    Attributes:
        name: its label.
        stages: names, in forward order.
        accuracies: of a linear layer on each, in [0, 1].
        intervals: around them.
        ratios: relative gradient norms by stage, as shares of the largest; may be empty.
        random: the last stage's accuracy with random weights, where it is known.
    """

    name: str
    stages: Sequence[str]
    accuracies: Sequence[float]
    intervals: Sequence[tuple[float, float]]
    ratios: Mapping[str, float]
    random: float | None


def depths(curves: Sequence[Curve]) -> Drawing:
    """The accuracy of a linear layer on every stage, and below it the size of the gradient."""
    lows = [low for c in curves for low, _ in c.intervals] + [c.random or 1.0 for c in curves]
    highs = [high for c in curves for _, high in c.intervals]
    bottom = 250
    down, shapes = _shares_plot(min(lows), max(highs), 14, bottom)
    longest = max(curves, key=lambda curve: len(curve.stages))
    names = max(map(text_width, ('random weights', *(curve.name for curve in curves))))
    room = 40 + min(names, NAMES_PX)
    gap = (RIGHT - LEFT - room) / max(len(longest.stages) - 1, 1)

    def across(index: int, curve: Curve) -> float:
        return LEFT + 26 + gap * (index + len(longest.stages) - len(curve.stages))

    ends = []
    for number, curve in enumerate(curves):
        xs, color = [across(i, curve) for i in range(len(curve.stages))], colors.series(number)
        shapes += _drawn(curve, color, xs, down, named=curve.stages != longest.stages)
        ends.append((xs[-1] + 10, down(curve.accuracies[-1]) + 4, curve.name, color))
        if curve.random is not None:
            ends.append((xs[-1] + 10, down(curve.random) + 4, 'random weights', 'quiet'))
    shapes += [Text(x, y, name, color=color) for x, y, name, color in _apart(ends)]
    every = max(1, round(46 / max(gap, 1)))
    for index in range(len(longest.stages) - 1, -1, -every):
        x = across(index, longest)
        shapes.append(Text(x, bottom + 18, longest.stages[index], 'middle', 'ink'))
    height = bottom + 30
    for number, curve in enumerate(curves):
        if curve.ratios:
            xs = [across(i, curve) for i in range(len(curve.stages))]
            shapes += _bars(curve, colors.series(number), height, xs)
            height += 92
    return Drawing(WIDTH, height + 4, shapes)


def _drawn(
    curve: Curve, color: str, xs: Sequence[float], down: axes.AxisScale, *, named: bool
) -> list[Shape]:
    """A network's line, its intervals, and its stages' names where the axis has others."""
    ys = [down(accuracy) for accuracy in curve.accuracies]
    shapes: list[Shape] = [Path(list(zip(xs, ys, strict=True)), color, 2)]
    for x, y, (low, high) in zip(xs, ys, curve.intervals, strict=True):
        shapes.append(line(x, down(low), x, down(high), color, width=1.2))
        shapes.append(Circle(x, y, 3.5, color))
    if named:
        for x, y, stage in zip(xs, ys, curve.stages, strict=True):
            shapes.append(Text(x - 7, y - 7, stage, 'end', color, size=10))
    if curve.random is not None:
        shapes.append(Circle(xs[-1], down(curve.random), 4, color, 'paper', width=1.6))
    return shapes


def _bars(curve: Curve, color: str, top: float, xs: Sequence[float]) -> list[Shape]:
    """The relative gradient norms of a network's stages."""
    base = top + 76
    shapes: list[Shape] = [line(LEFT, base, RIGHT, base, 'quiet')]
    half = min(16.0, 0.4 * (xs[1] - xs[0])) if len(xs) > 1 else 16.0
    for x, stage in zip(xs, curve.stages, strict=True):
        value = curve.ratios.get(stage, 0.0)
        tall = 34 * value
        shapes.append(Box(x - half, base - tall, 2 * half, max(tall, 0.6), color, 0.35))
        if half > 12:
            shapes.append(Text(x, base - tall - 4, f'{value:.2f}', 'middle'))
    text = f'norm of the gradient over the parameters: {curve.name}'
    return [*shapes, Text(LEFT, top + 16, text)]


def _apart(ends: Sequence[tuple[float, float, str, str]]) -> list[tuple[float, float, str, str]]:
    """Labels at the ends of lines, moved so far down that they do not touch."""
    found: list[tuple[float, float, str, str]] = []
    for x, y, name, color in sorted(ends, key=lambda end: end[1]):
        y = max(y, found[-1][1] + 14) if found else y
        found.append((x, y, name, color))
    return found
