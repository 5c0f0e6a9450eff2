"""Pictures of a report, as SVG that stands in the page itself: no file, no font, no script."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

INK, QUIET, RULE = '#1d2a33', '#7a858d', '#e3e6e8'
CHOSEN, NEAR, FAR = '#0b6e4f', '#1d2a33', '#a9b1b7'
MARK = '#e08e0b'
LINES = (CHOSEN, '#3b6ea8', '#8a4f9e', '#b0512f', '#5b6770')
WIDTH, LEFT, RIGHT = 760, 52, 744
LABEL_PX = 12  # of height, that a label takes
LETTER_PX = 6.1  # of width, in the mean


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


def _text(
    x: float, y: float, text: str, *, anchor: str = 'start', color: str = QUIET, **more
) -> str:
    style = ''.join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{style}>'
        f'{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str = RULE, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{color}" stroke-width="{width}"/>'
    )


def _picture(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg" font-size="12">' + ''.join(parts) + '</svg>'
    )


def percents(low: float, high: float) -> list[float]:
    """Round shares for an axis from below `low` to above `high`, four to eight of them."""
    span = max(high - low, 0.02)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if span / s <= 7)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


@dataclasses.dataclass(frozen=True)
class Shares:
    """A vertical axis of shares, with a line at each round one."""

    ticks: list[float]
    top: float
    bottom: float

    def down(self, share: float) -> float:
        """Where a share stands."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.bottom - (self.bottom - self.top) * (share - low) / (high - low)

    def drawn(self) -> list[str]:
        """The lines, and what they are."""
        parts = [_line(LEFT, self.bottom, RIGHT, self.bottom, QUIET)]
        for tick in self.ticks:
            y = self.down(tick)
            parts.append(_line(LEFT, y, RIGHT, y))
            parts.append(_text(LEFT - 8, y + 4, f'{100 * tick:.3g} %', anchor='end'))
        return parts


def _decades(low: float, high: float) -> list[float]:
    """Round numbers 1, 2, 5, 10 ... between two on a logarithmic axis."""
    found = [
        base * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for base in (1, 2, 5)
    ]
    return [value for value in found if low <= value <= high]


def seconds_text(seconds: float) -> str:
    """`0.5 s`, `40 s`, `12 min`, `3 h`."""
    if seconds < 90:
        return f'{seconds:.2g} s' if seconds < 10 else f'{seconds:.0f} s'
    if seconds < 5400:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.2g} h'


def costs(points: Sequence[Point]) -> str:
    """Accuracy with its interval against the seconds of training, on a logarithmic axis."""
    ticks = percents(min(p.interval[0] for p in points), max(p.interval[1] for p in points))
    axis = Shares(ticks, 14, 330)
    low = min(p.cost for p in points) / 1.5
    high = max(p.cost for p in points) * 1.5

    def across(cost: float) -> float:
        return LEFT + 14 + (RIGHT - LEFT - 28) * math.log(cost / low) / math.log(high / low)

    parts = axis.drawn()
    for tick in _decades(low, high):
        parts.append(_line(across(tick), axis.bottom, across(tick), axis.bottom + 4, QUIET))
        parts.append(_text(across(tick), axis.bottom + 18, seconds_text(tick), anchor='middle'))
    middle, under = (LEFT + RIGHT) / 2, 'predicted time of the whole training'
    parts.append(_text(middle, axis.bottom + 38, under, anchor='middle'))
    places = [(across(point.cost), axis.down(point.accuracy)) for point in points]
    bars = [tuple(map(axis.down, reversed(point.interval))) for point in points]
    drawn = sorted(zip(points, places, bars, strict=True), key=lambda one: one[0].color == CHOSEN)
    for point, place, bar in drawn:
        parts += _marked(point, place, bar)
    labels = _labels([point.name for point in points], places, bars)
    for point, (x, y, anchor) in zip(points, labels, strict=True):
        weight = 600 if point.color == CHOSEN else 400
        parts.append(_text(x, y, point.name, anchor=anchor, color=point.color, font_weight=weight))
    return _picture(axis.bottom + 46, 'Accuracy against cost', parts)


def _marked(point: Point, place: tuple[float, float], bar: Sequence[float]) -> list[str]:
    """A point with its interval."""
    x, y = place
    fill = '#fff' if point.hollow else point.color
    radius = 6 if point.color == CHOSEN else 4.5
    return [
        _line(x, bar[0], x, bar[1], point.color, 1.2),
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" '
        f'stroke="{point.color}" stroke-width="1.8"/>',
    ]


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
        width = LETTER_PX * len(names[index])
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


def depths(curves: Sequence[Curve]) -> str:
    """What a linear layer reads out of every stage, and below it where the gradient is large."""
    lows = [low for c in curves for low, _ in c.intervals] + [c.random or 1.0 for c in curves]
    highs = [high for c in curves for _, high in c.intervals]
    axis = Shares(percents(min(lows), max(highs)), 14, 250)
    longest = max(curves, key=lambda curve: len(curve.stages))
    room = 60 + LETTER_PX * max(len('random weights'), *(len(curve.name) for curve in curves))
    gap = (RIGHT - LEFT - room) / max(len(longest.stages) - 1, 1)

    def across(index: int, curve: Curve) -> float:
        return LEFT + 40 + gap * (index + len(longest.stages) - len(curve.stages))

    parts, ends = axis.drawn(), []
    for curve, color in zip(curves, LINES * len(curves), strict=False):
        xs = [across(index, curve) for index in range(len(curve.stages))]
        parts += _drawn(curve, color, xs, axis, named=curve.stages != longest.stages)
        ends.append((xs[-1] + 12, axis.down(curve.accuracies[-1]) + 4, curve.name, color))
        if curve.random is not None:
            ends.append((xs[-1] + 12, axis.down(curve.random) + 4, 'random weights', QUIET))
    parts += [_text(x, y, name, color=color) for x, y, name, color in _apart(ends)]
    for index, stage in enumerate(longest.stages):
        x = across(index, longest)
        parts.append(_text(x, axis.bottom + 18, stage, anchor='middle', color=INK))
    height = axis.bottom + 30
    for curve, color in zip(curves, LINES * len(curves), strict=False):
        if curve.ratios:
            parts += _bars(
                curve, color, height, [across(i, curve) for i in range(len(curve.stages))]
            )
            height += 92
    return _picture(height + 4, 'Accuracy by depth', parts)


def _drawn(
    curve: Curve, color: str, xs: Sequence[float], axis: Shares, *, named: bool
) -> list[str]:
    """A network's line, its intervals, and its stages' names where the axis has others."""
    ys = [axis.down(accuracy) for accuracy in curve.accuracies]
    path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in zip(xs, ys, strict=True))
    parts = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>']
    for x, y, (low, high) in zip(xs, ys, curve.intervals, strict=True):
        parts.append(_line(x, axis.down(low), x, axis.down(high), color, 1.2))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>')
    if named:
        for x, y, stage in zip(xs, ys, curve.stages, strict=True):
            parts.append(_text(x - 7, y - 7, stage, anchor='end', color=color, font_size=10))
    if curve.random is not None:
        parts.append(
            f'<circle cx="{xs[-1]:.1f}" cy="{axis.down(curve.random):.1f}" r="4" fill="#fff" '
            f'stroke="{color}" stroke-width="1.6"/>'
        )
    return parts


def _bars(curve: Curve, color: str, top: float, xs: Sequence[float]) -> list[str]:
    """The relative gradient norms of a network's stages."""
    base = top + 76
    parts = [_line(LEFT, base, RIGHT, base, QUIET)]
    for x, stage in zip(xs, curve.stages, strict=True):
        value = curve.ratios.get(stage, 0.0)
        tall = 34 * value
        parts.append(
            f'<rect x="{x - 16:.1f}" y="{base - tall:.1f}" width="32" '
            f'height="{max(tall, 0.6):.1f}" fill="{color}" opacity="0.35"/>'
        )
        parts.append(_text(x, base - tall - 4, f'{value:.2f}', anchor='middle'))
    parts.append(_text(LEFT, top + 16, f'norm of the gradient over the parameters: {curve.name}'))
    return parts


def _apart(ends: Sequence[tuple[float, float, str, str]]) -> list[tuple[float, float, str, str]]:
    """Labels at the ends of lines, moved so far down that they do not touch."""
    found: list[tuple[float, float, str, str]] = []
    for x, y, name, color in sorted(ends, key=lambda end: end[1]):
        y = max(y, found[-1][1] + 14) if found else y
        found.append((x, y, name, color))
    return found
