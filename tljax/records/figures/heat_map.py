"""A heat map of shares over two axes."""

import math
from collections.abc import Sequence

import numpy as np

from tljax.records.figures import axes
from tljax.records.figures.drawing import Drawing, Shading, Shape, Text, shortened, text_width

ROW = 30
NAME_WIDTH = 150
NUMBER_WIDTH = 34  # a column that is narrower has no numbers
PALEST, DARKEST = 0.06, 0.92


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, label: str
) -> Drawing:
    """Draws shares as cells; a darker cell has a larger value.

    Args:
        values: [R, C] in [0, 1]; NaN for a cell without a value.
        rows: names, from top to bottom.
        columns: names, from left to right.
        label: what the columns are.
    """
    width = min(max(map(text_width, rows)), NAME_WIDTH)
    left, top, right = width + 14, 40.0, axes.WIDTH - 8
    side, height = (right - left) / len(columns), ROW * len(rows)
    known = np.isfinite(values)
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 1.0)
    levels = PALEST + (DARKEST - PALEST) * (values - low) / ((high - low) or 1.0)
    shares = np.where(known, levels, 0.0)
    shapes: list[Shape] = [Text((left + right) / 2, 13, label, 'middle')]
    shapes.append(Shading(left, top, right - left, height, 'accent', shares))
    every = max(1, math.ceil(24 / side))
    for index, name in enumerate(columns[::every]):
        text = shortened(name, max(side * every - 4, 24))
        shapes.append(Text(left + (index * every + 0.5) * side, top - 7, text, 'middle', 'ink'))
    for index, name in enumerate(rows):
        y = top + (index + 0.5) * ROW + 4
        shapes.append(Text(left - 8, y, shortened(name, NAME_WIDTH), 'end', 'ink'))
        if side >= NUMBER_WIDTH:
            shapes += _numbers(values[index], shares[index], left, y, side)
    return Drawing(axes.WIDTH, top + height + 8, shapes)


def _numbers(
    values: np.ndarray, shares: np.ndarray, left: float, y: float, side: float
) -> list[Shape]:
    """The values of a row in percent; a dash for a cell without a value."""
    return [
        Text(
            left + (column + 0.5) * side,
            y,
            f'{100 * value:.1f}' if math.isfinite(value) else '–',
            'middle',
            'paper' if share > 0.5 else 'ink',
        )
        for column, (value, share) in enumerate(zip(values, shares, strict=True))
    ]
