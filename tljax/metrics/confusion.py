"""What a classifier takes for what: counts of (true, predicted) pairs."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np
import rich.box
import rich.markup
import rich.table
from PIL import Image, ImageDraw, ImageFont

Counts = collections.Counter[tuple[int, int]]  # (true, predicted): images

CLASSES_SHOWN = 40
SIDE_PX, CELL_PX, FONT_PX = 2400, 24, 12  # of a picture and of a cell at the most; of its text


def predicted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each image is taken for; a tie or NaN goes against its label, as in the accuracy.

    Args:
        logits: [B, K].
        labels: [B] int.

    Returns:
        [B] int.
    """
    own = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    others = np.array(logits, np.float32)
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    rival = others.argmax(1)
    rival = np.where(rival == labels, (labels + 1) % logits.shape[1], rival)  # all were -inf
    return np.where(own > others.max(1), labels, rival)


def count(logits: np.ndarray, labels: np.ndarray) -> Counts:
    """The pairs of a batch."""
    pairs = zip(labels.tolist(), predicted(logits, labels).tolist(), strict=True)
    return collections.Counter(pairs)


def confused(counts: Mapping[tuple[int, int], int]) -> list[tuple[int, int, int]]:
    """(true, predicted, images) of all that was wrong, the most frequent first."""
    wrong = [(true, taken, n) for (true, taken), n in counts.items() if true != taken]
    return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))


def matrix(counts: Mapping[tuple[int, int], int], classes: Sequence[int]) -> np.ndarray:
    """Images by true class (rows) and predicted one, of some classes: [classes, classes]."""
    places = {number: place for place, number in enumerate(classes)}
    found = np.zeros((len(classes), len(classes)), np.int64)
    for (true, taken), n in counts.items():
        if true in places and taken in places:
            found[places[true], places[taken]] = n
    return found


def picture(table: np.ndarray, names: Sequence[str]) -> Image.Image:
    """A matrix as a picture: rows are true classes, and darker is a larger share of the row.

    Names and counts are drawn where they fit.
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
    """Images of each class."""
    found = [0] * num_classes
    for (true, _), n in counts.items():
        found[true] += n
    return found


def class_table(
    measures: Mapping[str, Sequence[float | None]],
    numbers: Sequence[int],
    names: tuple[str, ...],
) -> rich.table.Table:
    """A row for each class that has images; of many, for those of the lowest first measure.

    Args:
        measures: `{column: a share for each class}`, None where it has no value.
        numbers: images of each class.
        names: of the classes.
    """
    first, *_ = measures.values()
    rows = [(value, place) for place, value in enumerate(first) if value is not None]
    title = None
    if len(rows) > CLASSES_SHOWN:
        title = f'the {CLASSES_SHOWN} lowest of {len(rows)} classes; --out has all'
        rows = sorted(rows)[:CLASSES_SHOWN]
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title)
    table.add_column('class')
    table.add_column('images', justify='right')
    for column in measures:
        table.add_column(column, justify='right')
    for _, place in rows:
        found = (values[place] for values in measures.values())
        shares = ('-' if value is None else f'{value:.1%}' for value in found)
        table.add_row(rich.markup.escape(names[place]), f'{numbers[place]:,}', *shares)
    return table


def pair_table(
    rows: list[tuple[int, int, int]], numbers: list[int], names: tuple[str, ...]
) -> rich.table.Table:
    """A row for each pair, as `confused` gives them; `numbers` are the images of each class."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ('class', 'taken for'):
        table.add_column(name)
    table.add_column('images', justify='right')
    table.add_column('of the class', justify='right')
    for true, taken, n in rows:
        cells = (rich.markup.escape(names[place]) for place in (true, taken))
        table.add_row(*cells, f'{n:,}', f'{n / numbers[true]:.1%}')
    return table
