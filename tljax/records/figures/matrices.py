"""The confusion matrix as a figure."""

from collections.abc import Sequence

import numpy as np

from tljax.records.figures import axes
from tljax.records.figures.drawing import Drawing, Shading, Shape, Text, line, shortened, text_width

NUMBERED = 15  # the largest number of classes for which cells show their counts
NAMED = 40  # the largest number of classes for which rows show their names
NAME_WIDTH = 120
SHORT = 3  # the largest number of letters of names that fit above the columns


def confusion(counts: np.ndarray, names: Sequence[str]) -> Drawing:
    """Draws a confusion matrix; the opacity of a cell is its share of the row.

    Args:
        counts: [K, K] images by true class (row) and predicted class (column).
        names: [K].
    """
    classes = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    numbers = text_width(str(classes)) + 6 if classes <= NAMED and not _short(names) else 0
    width = min(max(map(text_width, names)), NAME_WIDTH) if classes <= NAMED else 0
    left, top = width + numbers + 14, 36.0
    cell = (axes.WIDTH - left - 6) / classes
    side = cell * classes
    shapes: list[Shape] = [Text(left + side / 2, 12, 'predicted class', 'middle')]
    shapes.append(Shading(left, top, side, side, 'accent', shares))
    shapes += _outline(left, top, side)
    if classes <= NAMED:
        shapes += _labels(names, left, top, cell)
    if classes <= NUMBERED:
        shapes += _counts(counts, shares, left, top, cell)
    return Drawing(axes.WIDTH, top + side + 6, shapes)


def _outline(left: float, top: float, side: float) -> list[Shape]:
    right, bottom = left + side, top + side
    return [
        line(left, top, right, top, 'faint'),
        line(right, top, right, bottom, 'faint'),
        line(right, bottom, left, bottom, 'faint'),
        line(left, bottom, left, top, 'faint'),
    ]


def _short(names: Sequence[str]) -> bool:
    """Whether all names fit above the columns."""
    return max(map(len, names)) <= SHORT


def _labels(names: Sequence[str], left: float, top: float, cell: float) -> list[Shape]:
    """Labels rows by name and number, columns by number; both by name if all names are short."""
    shapes: list[Shape] = []
    size = min(12.0, cell)
    every = max(1, round(16 / cell))
    for index, name in enumerate(names):
        y = top + (index + 0.5) * cell + size / 3
        column = name if _short(names) else str(index + 1)
        label = name if _short(names) else f'{shortened(name, NAME_WIDTH)} {column}'
        shapes.append(Text(left - 6, y, label, 'end', 'ink', size=size))
        if index % every == 0:
            x = left + (index + 0.5) * cell
            shapes.append(Text(x, top - 6, column, 'middle', 'ink', size=min(12.0, 2 * cell)))
    return shapes


def _counts(
    counts: np.ndarray, shares: np.ndarray, left: float, top: float, cell: float
) -> list[Shape]:
    size = min(12.0, 0.5 * cell, 1.5 * cell / max(len(str(counts.max())), 2))
    return [
        Text(
            left + (column + 0.5) * cell,
            top + (row + 0.5) * cell + size / 3,
            str(counts[row, column]),
            'middle',
            'paper' if shares[row, column] > 0.5 else 'ink',
            size=size,
        )
        for row, column in zip(*np.nonzero(counts), strict=True)
    ]
