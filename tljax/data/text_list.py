"""The rows of a list of texts, in CSV or JSON lines."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from tljax.data import class_order, csv_cells, split_folders, stored_text
from tljax.data.files import FolderError, printable
from tljax.data.stored_text import LabelledText, StoredText

SEPARATOR = ';'  # between the labels of one text; alone, it means no label
SHOWN = 20  # problems in one message

Row = tuple[StoredText, tuple[str, ...], str]  # text, labels, split or ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextColumns:
    """The names of the columns of a CSV list, or of the keys of JSON lines.

    `label` is None for texts without labels.
    """

    text: str
    label: str | None
    split: str


def rows(source: pathlib.Path, columns: TextColumns) -> list[Row]:
    """The rows of a list.

    Args:
        source: the list.
        columns: which cells to read.

    Raises:
        FolderError: the file is not a list, or a row has no label or another split.
    """
    content = stored_text.decoded(source.read_bytes())
    read = _json_lines if source.suffix.lower() in ('.jsonl', '.ndjson') else _csv
    result, problems = [], []
    for number, cells in read(content, columns, problems):
        text, label, split = cells
        labels = () if columns.label is None else _labels(label)
        split = csv_cells.clean(csv_cells.text_of(split))
        problems += [f'line {number}: {one}' for one in _problems(labels, split, columns)]
        result.append((StoredText(f'{printable(source)} line {number}', text), labels, split))
    if not result and not problems:
        problems = [f'no rows, wanted {columns.text},{columns.label or ""} in each']
    _refuse(source, problems)
    return result


def _csv(
    content: str, columns: TextColumns, problems: list[str]
) -> Iterator[tuple[int, tuple[str, Any, Any]]]:
    header, table, wrong = csv_cells.table(content)
    problems += wrong
    text, split = (csv_cells.column(header, name) for name in (columns.text, columns.split))
    label = None if columns.label is None else csv_cells.column(header, columns.label)
    if text is None or (columns.label is not None and label is None):
        wanted = ','.join(filter(None, (columns.text, columns.label)))
        problems.append(
            f'the first line is {tuple(header)}, wanted the columns {wanted}[,{columns.split}], '
            'each once; set other names with text_column, label_column and split_column'
        )
        return
    for number, row in table.items():
        rest = ['' if i is None else row[i] for i in (label, split)]
        yield number, (row[text], rest[0], rest[1])


def _json_lines(
    content: str, columns: TextColumns, problems: list[str]
) -> Iterator[tuple[int, tuple[str, Any, Any]]]:
    wanted = [name for name in (columns.text, columns.label) if name is not None]
    for number, line in enumerate(content.split('\n'), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            missing = [name for name in wanted if name not in row]
            values = tuple(row.get(name) for name in (columns.text, columns.label, columns.split))
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            problems.append(f'line {number}: not a JSON object: {error}')
            continue
        if missing:
            problems.append(
                f'line {number}: no {", ".join(missing)}, found {sorted(row)}; set other keys with '
                'text_column and label_column'
            )
        elif not isinstance(values[0], str):
            problems.append(f'line {number}: {columns.text} is {values[0]!r:.40}, wanted a text')
        else:
            yield number, (values[0], values[1], values[2])


def _labels(label: Any) -> tuple[str, ...]:
    """The labels in a cell or of a JSON value; an empty cell has one empty label."""
    if isinstance(label, list):
        return tuple(csv_cells.clean(csv_cells.text_of(one)) for one in label)
    text = csv_cells.clean(csv_cells.text_of(label))
    if text == SEPARATOR:
        return ()
    return tuple(map(csv_cells.clean, text.split(SEPARATOR)))


def _problems(labels: Sequence[str], split: str, columns: TextColumns) -> Iterator[str]:
    if '' in labels or len(set(labels)) < len(labels):
        named = SEPARATOR.join(labels)
        yield f'{columns.label} is {named!r}, wanted different names that are not empty'
    if split and split not in split_folders.SPLITS:
        yield f'{columns.split} is {split!r}, wanted one of {split_folders.SPLITS}'


def listed(
    source: pathlib.Path, rows: Sequence[Row], *, multi_label: bool = False
) -> tuple[dict[str, list[LabelledText]], list[str]]:
    """The texts of each split with their labels, and the class names.

    Without a column of splits there is one split named ''. Rows without labels have the label 0.

    Raises:
        FolderError: `train` is missing or lacks a class of another split, some rows have no split,
            or there are fewer than two classes.
    """
    train = [labels for _, labels, split in rows if split in ('', 'train')]
    classes = class_order.ordered({label for labels in train for label in labels})
    unlabelled = not any(labels for _, labels, _ in rows)
    several = multi_label or any(len(labels) != 1 for _, labels, _ in rows)
    problems = _split_problems(rows)
    if not unlabelled:
        used = {(label, split) for _, labels, split in rows for label in labels}
        elsewhere = sorted(pair for pair in used if pair[0] not in set(classes))
        problems += [f'class {label!r} is in {split}, not in train' for label, split in elsewhere]
        if len(classes) < (1 if several else 2):
            problems.append(f'the classes are {classes}, wanted two or more')
    _refuse(source, problems)
    numbers = {name: number for number, name in enumerate(classes)}
    result: dict[str, list[LabelledText]] = {}
    for name in ('', *split_folders.SPLITS):
        for text, labels, _ in (row for row in rows if row[2] == name):
            indices = tuple(numbers[label] for label in labels)
            label = 0 if unlabelled else indices if several else indices[0]
            result.setdefault(name, []).append((text, label))
    return result, classes or ['text']


def _split_problems(rows: Sequence[Row]) -> list[str]:
    splits = {split for *_, split in rows}
    if splits == {''}:
        return []
    problems = []
    if '' in splits:
        problems.append(f'{sum(not split for *_, split in rows)} rows have no split')
    if 'train' not in splits:
        problems.append(f'no row is in train, found {sorted(splits)}')
    return problems


def _refuse(source: pathlib.Path, problems: Sequence[str]) -> None:
    if problems:
        more = [f'and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        raise FolderError(f'{printable(source)}:\n  ' + '\n  '.join([*problems[:SHOWN], *more]))
