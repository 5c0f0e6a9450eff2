"""The picture of an advice: accuracy by depth."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tljax.records.figures import axes, colors
from tljax.records.figures.costs import LEFT, RIGHT, WIDTH, shares_plot
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

NEAR, FAR = 'ink', 'quiet'
NAMES_PX = 150  # the largest width of the names of curves


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
    down, shapes = shares_plot(min(lows), max(highs), 14, bottom)
    longest = max(curves, key=lambda curve: len(curve.stages))
    curves = [dataclasses.replace(curve, name=_shortened(curve.name)) for curve in curves]
    names = max(map(text_width, ('random weights', *(curve.name for curve in curves))))
    room = 40 + names
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
    widest = max(map(text_width, longest.stages))
    every = math.ceil((widest + 6) / max(gap, 1))
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


def _shortened(name: str) -> str:
    """The name without its end, if it is wider than `NAMES_PX`."""
    if text_width(name) <= NAMES_PX:
        return name
    while text_width(f'{name}…') > NAMES_PX:
        name = name[:-1]
    return f'{name}…'


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
