"""Cells of lists: CSV tables, and cleaning of text."""

import csv
import dataclasses
import io
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

INVISIBLE = dict.fromkeys(map(ord, '\u200b\u2060\ufeff\u00ad'))  # needed by no script
JOINERS = '\u200c\u200d'  # needed by Persian, Indic scripts and emoji, but not at the ends
UNLABELLED = '-1'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns of a CSV list, or of the keys of JSON lines."""

    path: str = 'path'
    label: str = 'label'
    split: str = 'split'


def clean(text: str) -> str:
    """Cleans text: composed Unicode (NFC), no invisible characters, no spaces at the ends.

    Other white space (non-breaking or full-width spaces, tabs) becomes plain spaces.
    """
    text = unicodedata.normalize('NFC', text.translate(INVISIBLE))
    text = ''.join(' ' if character.isspace() else character for character in text)
    return text.strip(' ' + JOINERS)


def stripped(text: str) -> str:
    """A path without white space and invisible characters at its ends; inside nothing changes."""
    return text.strip().strip('\u200b\u2060\ufeff' + JOINERS).strip()


def text_of(value: Any) -> str:
    """A JSON value as text: '' for null and NaN, and whole floats as integers."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ''
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def table(text: str) -> tuple[list[str], dict[int, list[str]], list[str]]:
    """Parses a CSV table; cells are not cleaned, and empty lines are skipped.

    Returns:
        The header, `{line number: cells}` of valid rows, and messages for invalid rows.
    """
    reader = csv.reader(io.StringIO(text, newline=''), strict=True)
    header: list[str] = []
    rows: dict[int, list[str]] = {}
    problems = []
    try:
        for cells in reader:
            if not any(map(clean, cells)):
                continue
            if not header:
                header = [clean(name) for name in cells]
            elif problem := _wrong_width(cells, len(header)):
                problems.append(f'line {reader.line_num}: {problem}')
            else:
                rows[reader.line_num] = cells
    except csv.Error as error:
        problems.append(f'line {reader.line_num}: not CSV: {error}')
    return header, rows, problems


def _wrong_width(cells: Sequence[str], width: int) -> str | None:
    """The reason why a row does not fit the header; extra empty cells at its end are ignored."""
    if len(cells) < width:
        return f'{len(cells)} cells, wanted the {width} of the header'
    if any(map(clean, cells[width:])):
        quotes = 'a value with a comma needs quotes'
        return f'{len(cells)} cells, wanted the {width} of the header: {quotes}'
    return None


def column(header: Sequence[str], name: str) -> int | None:
    """The index of a column by name, or by name without regard to case; None if not unique."""
    for names in (list(header), [one.lower() for one in header]):
        key = name if names == list(header) else name.lower()
        if names.count(key) == 1:
            return names.index(key)
    return None


def unlabelled(labels: Sequence[str]) -> list[int]:
    """The indices of labels -1 if all others are numbers from 0; -1 then means no label."""
    names = set(labels) - {UNLABELLED}
    if len(names) < 2 or not all(name.isdecimal() for name in names):
        return []
    return [index for index, label in enumerate(labels) if label == UNLABELLED]
