"""The confusion matrix: counts of (true, predicted) pairs, and tables and a picture of them."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np
import rich.box
import rich.markup
import rich.table
from PIL import Image, ImageDraw, ImageFont

from tljax.metrics.single_label import predicted

Counts = collections.Counter[tuple[int, int]]  # (true, predicted): images

CLASSES_SHOWN = 40
SIDE_PX, CELL_PX, FONT_PX = 2400, 24, 12  # largest picture, largest cell, and the text's size


def count(logits: np.ndarray, labels: np.ndarray) -> Counts:
    """The (true, predicted) pairs of a batch."""
    pairs = zip(labels.tolist(), predicted(logits, labels).tolist(), strict=True)
    return collections.Counter(pairs)


def paired(decided: np.ndarray, labels: np.ndarray) -> Counts:
    """The (true, predicted) pairs of labels [N] and predicted classes [N]."""
    return collections.Counter(zip(labels.tolist(), decided.tolist(), strict=True))


def confused(counts: Mapping[tuple[int, int], int]) -> list[tuple[int, int, int]]:
    """(true, predicted, images) of all wrong predictions, the most frequent first."""
    wrong = [(true, guess, n) for (true, guess), n in counts.items() if true != guess]
    return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))


def matrix(counts: Mapping[tuple[int, int], int], classes: Sequence[int]) -> np.ndarray:
    """Images by true class (rows) and predicted class (columns): [classes, classes]."""
    index = {number: i for i, number in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)), np.int64)
    for (true, guess), n in counts.items():
        if true in index and guess in index:
            table[index[true], index[guess]] = n
    return table


def picture(table: np.ndarray, names: Sequence[str]) -> Image.Image:
    """A picture of a matrix: rows are true classes; darker is a larger share of the row.

    Names and counts are drawn if they fit.
    """
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    gray = np.round(255 * (1 - share)).astype(np.uint8)
    cell = max(1, min(CELL_PX, SIDE_PX // len(table)))
    cells = Image.fromarray(gray.repeat(cell, 0).repeat(cell, 1)).convert('RGB')
    if cell < CELL_PX:
        return cells
    font = ImageFont.load_default(FONT_PX)
    left = 8 + round(max(font.getlength(name) for name in names))
    sheet = Image.new('RGB', (left + cells.width + 1, cells.height + 1), 'white')
    sheet.paste(cells, (left, 0))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, 0, left + cells.width, cells.height), outline='gray')
    for row, name in enumerate(names):
        draw.text((2, row * cell + 1), name, 'black', font)
        for column in np.flatnonzero(table[row]):
            color = 'white' if share[row, column] > 0.5 else 'black'
            middle = (left + (column + 0.5) * cell, (row + 0.5) * cell)
            draw.text(middle, f'{table[row, column]}', color, font, anchor='mm')
    return sheet


def class_counts(counts: Mapping[tuple[int, int], int], num_classes: int) -> list[int]:
    """The number of images of each class."""
    images = [0] * num_classes
    for (true, _), n in counts.items():
        images[true] += n
    return images


def class_table(
    measures: Mapping[str, Sequence[float | None]],
    numbers: Sequence[int],
    names: tuple[str, ...],
    inputs: str = 'images',
) -> rich.table.Table:
    """A row for each class with images; with many, only those with the lowest first measure.

    Args:
        measures: `{column: a share for each class}`, None where it has no value.
        numbers: images per class.
        names: class names.
        inputs: the examples for readers, see `Preprocessing.inputs`.
    """
    first, *_ = measures.values()
    rows = [(value, place) for place, value in enumerate(first) if value is not None]
    title = None
    if len(rows) > CLASSES_SHOWN:
        title = f'the {CLASSES_SHOWN} lowest of {len(rows)} classes; --out has all'
        rows = sorted(rows)[:CLASSES_SHOWN]
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title)
    table.add_column('class')
    table.add_column(inputs, justify='right')
    for column in measures:
        table.add_column(column, justify='right')
    for _, place in rows:
        values = (column[place] for column in measures.values())
        shares = ('-' if value is None else f'{value:.1%}' for value in values)
        table.add_row(rich.markup.escape(names[place]), f'{numbers[place]:,}', *shares)
    return table


def pair_table(
    rows: list[tuple[int, int, int]],
    numbers: list[int],
    names: tuple[str, ...],
    inputs: str = 'images',
) -> rich.table.Table:
    """A row for each pair of `confused`; `numbers` are the images per class, or other `inputs`."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ('class', 'predicted as'):
        table.add_column(name)
    table.add_column(inputs, justify='right')
    table.add_column('of the class', justify='right')
    for true, guess, n in rows:
        cells = (rich.markup.escape(names[place]) for place in (true, guess))
        table.add_row(*cells, f'{n:,}', f'{n / numbers[true]:.1%}')
    return table
