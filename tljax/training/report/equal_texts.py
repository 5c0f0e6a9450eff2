"""Texts that are in several splits."""

from collections.abc import Mapping

import numpy as np

from tljax.records.pages.blocks import Block, Row, Table, Text
from tljax.types import Examples

LISTED = 500  # the largest number of rows of the table


def blocks(splits: Mapping[str, Examples]) -> list[Block]:
    """A sentence, and a table of the texts of which another split has one with the same tokens.

    Args:
        splits: texts as numbers of tokens.
    """
    seen: dict[bytes, list[tuple[str, str]]] = {}
    for name, examples in splits.items():
        for place in range(len(examples)):
            key = np.asarray(examples.load(place)).tobytes()
            seen.setdefault(key, []).append((name, _where(examples, place)))
    count = sum(map(len, splits.values()))
    equal = [group for group in seen.values() if len({split for split, _ in group}) > 1]
    if not equal:
        return [Text(f'None among {count:,} texts.')]
    rows = []
    for first, *others in equal[:LISTED]:
        other = next(one for one in others if one[0] != first[0])
        rows.append(Row(cells=[first[1], first[0], other[1], other[0]]))
    note = f'{len(equal)} texts have the same tokens. A test text that is also a training text '
    table = Table(
        name='Texts in several splits',
        columns=('text', 'split', 'other text', 'its split'),
        rows=rows,
        texts=(1, 2, 3),
        folded=True,
    )
    return [Text(f'{note}makes the result too good.'), table]


def _where(examples: Examples, place: int) -> str:
    if examples.encoded is None:
        return f'id {examples.ids[place]}'
    return str(examples.encoded[place])
