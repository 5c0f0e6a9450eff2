"""Cells of lists: tables in CSV, and text without what cannot be seen."""

import csv
import dataclasses
import io
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

INVISIBLE = dict.fromkeys(map(ord, '\u200b\u2060\ufeff\u00ad'))  # no script needs them
JOINERS = '\u200c\u200d'  # Persian, Indic scripts and emoji need them, but not at an end
UNLABELLED = '-1'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns of a list, or of the entries in JSON lines."""

    path: str = 'path'
    label: str = 'label'
    split: str = 'split'


def clean(text: str) -> str:
    """Text in Unicode's composed form (NFC), without invisible characters or spaces at its ends.

    Spaces of other kinds (non-breaking, full-width, tabs) become plain ones.
    """
    text = unicodedata.normalize('NFC', text.translate(INVISIBLE))
    text = ''.join(' ' if character.isspace() else character for character in text)
    return text.strip(' ' + JOINERS)


def stripped(text: str) -> str:
    """The same for a path, whose inner characters stay as they are on disk."""
    return text.strip().strip('\u200b\u2060\ufeff' + JOINERS).strip()


def text_of(value: Any) -> str:
    """A value of JSON as a cell; '' for none and NaN, and whole floats as integers."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ''
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def table(text: str) -> tuple[list[str], dict[int, list[str]], list[str]]:
    """The header of a table in CSV, its rows by line, and what is wrong with other rows.

    Cells are as they are written; empty lines are passed over.
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
    """Why a row does not fit a header; empty cells at its end are no harm."""
    if len(cells) < width:
        return f'{len(cells)} cells, wanted the {width} of the header'
    if any(map(clean, cells[width:])):
        quotes = 'a value with a comma in it stands in quotes'
        return f'{len(cells)} cells, wanted the {width} of the header: {quotes}'
    return None


def place(header: Sequence[str], name: str) -> int | None:
    """Which column has a name, else which has it in other letters' case; None for no single one."""
    for names in (list(header), [one.lower() for one in header]):
        wanted = name if names == list(header) else name.lower()
        if names.count(wanted) == 1:
            return names.index(wanted)
    return None


def unlabelled(labels: Sequence[str]) -> list[int]:
    """Where labels are -1 among classes that are numbered from 0: those stand for no label."""
    names = set(labels) - {UNLABELLED}
    if len(names) < 2 or not all(name.isdecimal() for name in names):
        return []
    return [place for place, label in enumerate(labels) if label == UNLABELLED]
