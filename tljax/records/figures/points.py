"""A plot of points over two numeric axes, such as predicted against true numbers."""

from collections.abc import Sequence

from tljax.records.figures import axes
from tljax.records.figures.drawing import Circle, Drawing, Text, line

HEIGHT = 260  # of the plot itself
TOP = 26


def points(
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
) -> Drawing:
    """Draws points, and the line of exact predictions.

    Args:
        xs: [N], finite.
        ys: [N], finite.
        x_label: the name of the horizontal axis.
        y_label: the name of the vertical axis, above the plot.
        diagonal: whether the line is y = x; otherwise y = 0.
    """
    low, high = min(xs), max(xs)
    ends = (low, high) if diagonal else (0.0, 0.0)
    y_range = min(*ys, *ends), max(*ys, *ends)
    plot = axes.plot((low, high), y_range, top=TOP, bottom=TOP + HEIGHT)
    shapes = [Text(48, 15, y_label), *plot.frame(x_label)]
    shapes += [
        Circle(plot.x(x), plot.y(y), 2.5, 'series1', opacity=0.5, width=0)
        for x, y in zip(xs, ys, strict=True)
    ]
    left, right = plot.x(low), plot.x(high)
    shapes.append(line(left, plot.y(ends[0]), right, plot.y(ends[1]), 'ink', dashed=True))
    return Drawing(axes.WIDTH, TOP + HEIGHT + 42, shapes)
