"""Axes: round numbers, scales, and the frame of a plot."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from tljax.records.figures.drawing import Box, Shape, Text, line, shortened, text_width

WIDTH = 440  # of a figure, in pixels; a telephone can show it
TICKS = 6  # the largest number of steps between ticks


@dataclasses.dataclass(frozen=True)
class AxisScale:
    """A map from values to positions in the drawing.

    Attributes:
        low: the value at `start`.
        high: the value at `stop`.
        start: a position.
        stop: a position; less than `start` on a vertical axis.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return self.start + (self.stop - self.start) * (value - low) / ((high - low) or 1.0)


def round_ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` or below to `high` or above."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10) if span / (s * power) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Round numbers of a logarithmic axis: 1, 2, 5, 10 ..., or only powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    bases = (1, 2, 5) if len(powers) <= 4 else (1,)
    values = [base * 10.0**power for power in powers for base in bases]
    return [value for value in values if low <= value <= high]


def apart(scale: AxisScale, ticks: Sequence[float], text: Callable[[float], str]) -> list[float]:
    """The ticks of a horizontal axis whose labels do not overlap."""
    kept: list[float] = []
    end = -math.inf
    for tick in ticks:
        half = text_width(text(tick)) / 2
        if scale(tick) - half > end:
            kept.append(tick)
            end = scale(tick) + half + 4
    return kept


def number_text(value: float) -> str:
    """A number for an axis: `0.05`, `1,200`, `2e-05`."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f'{value:.0e}'
    return f'{value:,.4g}' if abs(value) < 1000 else f'{value:,.0f}'


def percent_text(value: float) -> str:
    """A share for an axis: `5 %`."""
    return f'{100 * value:.3g} %'


def share_text(value: float, digits: int = 1) -> str:
    """A share for a text: `97.5 %`."""
    return f'{100 * value:.{digits}f}\u00a0%'  # a line does not break before the sign


def seconds_text(seconds: float) -> str:
    """`0.05 ms`, `20 ms`, `0.5 s`, `40 s`, `12 min`, `3 h`."""
    if 0 < seconds < 0.0995:
        return f'{1000 * seconds:.2g} ms'
    if seconds < 90:
        return f'{seconds:.2g} s' if seconds < 10 else f'{seconds:.0f} s'
    if seconds < 5400:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.2g} h'


@dataclasses.dataclass(frozen=True)
class Plot:
    """The area of a plot, with its two scales.

    Attributes:
        x: from left to right.
        y: from the bottom to the top.
        x_ticks: values with a label on the horizontal axis.
        y_ticks: values with a line and a label on the vertical axis.
    """

    x: AxisScale
    y: AxisScale
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def frame(self, x_label: str = '', y_text=number_text, x_text=number_text) -> list[Shape]:
        """The horizontal lines, the labels of both axes, and the name of the horizontal axis."""
        left, right, bottom = self.x.start, self.x.stop, self.y.start
        shapes: list[Shape] = []
        for tick in self.y_ticks:
            at = self.y(tick)
            shapes.append(line(left, at, right, at, 'rule'))
            shapes.append(Text(left - 6, at + 4, y_text(tick), 'end'))
        for tick in self.x_ticks:
            at = self.x(tick)
            shapes.append(line(at, bottom, at, bottom + 4, 'quiet'))
            shapes.append(Text(at, bottom + 17, x_text(tick), 'middle'))
        shapes.append(line(left, bottom, right, bottom, 'quiet'))
        if x_label:
            shapes.append(Text((left + right) / 2, bottom + 34, x_label, 'middle'))
        return shapes


def plot(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    top: float,
    bottom: float,
    left: float = 48,
    right: float = WIDTH - 20,
    log_x: bool = False,
) -> Plot:
    """Makes a plot; its horizontal axis ends at `x_range`, its vertical axis at round numbers.

    Args:
        x_range: the smallest and the largest value.
        y_range: the smallest and the largest value.
        top: position of the upper end.
        bottom: position of the lower end.
        left: position of the left end.
        right: position of the right end.
        log_x: whether the horizontal axis is logarithmic; `x_range` is positive then.
    """
    x_low, x_high = x_range
    x_ticks = decades(*x_range) if log_x else round_ticks(*x_range)
    y_ticks = round_ticks(*y_range)
    if x_low == x_high:
        x_low, x_high = (x_low / 2, x_high * 2) if log_x else (x_low - 0.5, x_high + 0.5)
    return Plot(
        x=AxisScale(x_low, x_high, left, right, log_x),
        y=AxisScale(y_ticks[0], y_ticks[-1], bottom, top),
        x_ticks=[tick for tick in x_ticks if x_low <= tick <= x_high],
        y_ticks=y_ticks,
    )


def legend(entries: Sequence[tuple[str, str]], top: float, left: float = 48) -> tuple[list, float]:
    """Color patches with names, in as many lines as needed.

    Args:
        entries: names and colors.
        top: position of the first line.
        left: position where lines begin.

    Returns:
        The shapes, and the position below the last line.
    """
    shapes, x, y = [], left, top
    for name, color in entries:
        name = shortened(name, WIDTH - left - 40)
        width = 16 + text_width(name) + 14
        if x > left and x + width > WIDTH:
            x, y = left, y + 17
        shapes += [Box(x, y + 2, 11, 9, color), Text(x + 16, y + 11, name)]
        x += width
    return shapes, y + 22 if entries else top
