"""A list of image files with labels, in CSV or JSON lines."""

import collections
import dataclasses
import json
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.data import class_order, csv_cells, files, folder, number_labels, split_folders
from tljax.data.csv_cells import Columns
from tljax.data.files import FolderError, Listed, printable
from tljax.metrics.tasks.values import Values
from tljax.storage import addresses, data_copies
from tljax.types import BadFiles, Examples, Findings

SEPARATOR = ';'  # between the labels of one image; alone, it means no label
SHOWN = 20  # problems in one message

Row = tuple[str, tuple[str, ...], str]  # path, labels, split or ''


@dataclasses.dataclass(slots=True, kw_only=True)
class Manifest:
    """Images from a list: `path,label[,split]` in CSV with a header, or in JSON lines.

    Paths are relative to the folder of the list, or to `root`. If the list has no column `split`,
    or only `train` in it, the test split is drawn, stratified by class. With `train` and `val`
    there is no test split. Classes are the labels of `train`, sorted.

    The list and its images may be in buckets (`gs://`, `s3://`). They are downloaded into the cache
    folder once.

    Spaces at the ends of cells and invisible characters are removed, and labels are converted to
    composed Unicode (NFC). A note counts the changed cells.

    Several labels of an image are separated by `;`, and `;` alone means no label. In JSON a list of
    labels works too. If any image has several labels or none, all images have sets of labels.

    With `numbers`, the named columns hold numbers to predict, and there is no column of labels.

    Attributes:
        path: of the list.
        root: the folder that paths are relative to; none for the folder of the list.
        multi_label: whether images have sets of labels, even if every listed image has one label.
        test_fraction: part of each class that becomes the test split if there is none.
        split_seed: seed of the choice of these test images.
        bad_files: whether images that cannot be read are an error, or are left out.
        least_px: smallest permitted side of an image.
        path_column: the column of paths, or the key in JSON lines.
        label_column: the column of labels.
        split_column: the column of splits.
        numbers: columns of numbers that are predicted instead of labels.
        changed_by: kinds of augmentation that change a number, as `rotation`.
    """

    path: str
    root: str | None = None
    multi_label: bool = False
    bad_files: BadFiles = BadFiles.ERROR
    test_fraction: float = 0.2
    split_seed: int = 0
    least_px: int = files.LEAST_PX
    path_column: str = 'path'
    label_column: str = 'label'
    split_column: str = 'split'
    numbers: tuple[str, ...] = ()
    changed_by: tuple[str, ...] = ()  # kinds of augmentation that change a number, as 'rotation'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = folder.problems_of(self.test_fraction, self.split_seed, self.least_px)
        if len(set(self.numbers)) < len(self.numbers):
            problems.append(f'numbers is {self.numbers}, wanted different columns')
        return problems

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if the list has them or `test` is drawn.

        Raises:
            FolderError: a row is invalid, `train` is missing or lacks a class of another split, or
                files are bad.
        """
        columns = Columns(path=self.path_column, label=self.label_column, split=self.split_column)
        if self.numbers:
            return self._with_numbers(columns)
        listed, classes, notes = listing(
            self.path, self.root, multi_label=self.multi_label, columns=columns
        )
        paths = [path for split in listed.values() for path, _ in split]
        listed, more = folder.held_out(listed, self.test_fraction, self.split_seed)
        findings = Findings(policy=self.bad_files, notes=[*notes, *more])
        findings.bad = files.check_files(paths, self.least_px, findings.deep)
        return files.examples(listed, classes, findings)

    def _with_numbers(self, columns: Columns) -> dict[str, Examples]:
        source = data_copies.local(self.path)
        rows = number_labels.rows(source, self.numbers, columns)
        root = data_copies.place(self.root) if self.root else source.parent
        splits = number_labels.by_split(rows, self.test_fraction, self.split_seed)
        listed = {
            name: [(on_disk(root, path), numbers) for path, _, numbers in part]
            for name, part in splits.items()
        }
        paths = [path for part in listed.values() for path, _ in part]
        findings = number_labels.checked(paths, self.bad_files, self.least_px)
        task = Values(changed_by=self.changed_by)
        return number_labels.examples(listed, self.numbers, findings, task)


def listing(
    path: str,
    root: str | None = None,
    *,
    multi_label: bool = False,
    columns: Columns = Columns(),  # noqa: B008  frozen
) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    """The files of each split with their labels, the class names, and notes.

    Without a column of splits, there is one split named ''.

    Raises:
        FolderError: as for `Manifest.splits`, except for bad files.
    """
    source = data_copies.local(path)
    if addresses.in_bucket(path) and not source.is_file():
        raise FolderError(f'{path}: no such list')
    listed, notes = rows(source, columns)
    several = multi_label or any(len(labels) != 1 for _, labels, _ in listed)
    _check(source, listed, least_classes=1 if several else 2)
    folder_of_paths = data_copies.place(root) if root else source.parent
    return *_listed(listed, folder_of_paths, several=several), notes


def rows(
    source: pathlib.Path,
    columns: Columns = Columns(),  # noqa: B008  frozen
) -> tuple[list[Row], list[str]]:
    """The valid rows of a list, and notes on changed cells.

    Raises:
        FolderError: the file is not a list, or a row is invalid.
    """
    try:
        text = source.read_text('utf-8-sig')  # spreadsheets write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f'{printable(source)}: not a readable list: {error}') from error
    read = _json_lines if source.suffix.lower() in ('.jsonl', '.ndjson') else _csv
    raw, problems = read(text, columns)
    rows = {number: _cleaned(row) for number, row in raw.items()}
    for number, (path, labels, split) in rows.items():
        problems += [f'line {number}: {problem}' for problem in _row_problems(path, labels, split)]
    _refuse(source, problems)
    if not rows:
        raise FolderError(f'{printable(source)}: no rows, wanted path,label[,split] in each')
    _refuse_unlabelled(source, rows)
    return list(rows.values()), _notes(list(raw.values()), list(rows.values()))


def _cleaned(row: Row) -> Row:
    path, labels, split = row
    return csv_cells.stripped(path), tuple(map(csv_cells.clean, labels)), csv_cells.clean(split)


def _notes(raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
    """Notes with the number of labels and paths that cleaning changed, and an example."""
    pairs = list(zip(raw, cleaned, strict=True))
    labels = [(a, b) for old, new in pairs for a, b in zip(old[1], new[1], strict=True) if a != b]
    paths = [(old[0], new[0]) for old, new in pairs if old[0] != new[0]]
    how = 'spaces at the ends and invisible characters removed, Unicode composed (NFC)'
    return [
        f'{len(changed)} {what} normalised ({how}), such as {changed[0][0]!a} to {changed[0][1]!a}'
        for what, changed in (('label(s)', labels), ('path(s)', paths))
        if changed
    ]


def _refuse_unlabelled(source: pathlib.Path, rows: Mapping[int, Row]) -> None:
    pairs = [(number, label) for number, (_, labels, _) in rows.items() for label in labels]
    places = csv_cells.unlabelled([label for _, label in pairs])
    if places:
        first = f'the first in line {pairs[places[0]][0]}'
        raise FolderError(
            f'{printable(source)}: {len(places)} label(s) are -1, {first}, and the others are '
            'numbers from 0. -1 means no label: leave out these rows'
        )


def _row_problems(path: str, labels: tuple[str, ...], split: str) -> list[str]:
    """Messages for one row; empty for a valid row."""
    problems, text = [], SEPARATOR.join(labels)
    if '\0' in path:
        problems.append('a path has no NUL character')
    if not path or labels == ('',):
        none = f'; for an image without a label write {SEPARATOR!r}' if path else ''
        problems.append(f'path {path!r}, label {text!r}; wanted both{none}')
    elif '' in labels or len(set(labels)) < len(labels):
        problems.append(f'label {text!r}, wanted different names that are not empty')
    if split and split not in split_folders.SPLITS:
        problems.append(f'split is {split!r}, wanted one of {split_folders.SPLITS}')
    return problems


def _refuse(source: pathlib.Path, problems: list[str]) -> None:
    if problems:
        more = [f'and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        raise FolderError(f'{printable(source)}:\n  ' + '\n  '.join([*problems[:SHOWN], *more]))


def _labels(text: str) -> tuple[str, ...]:
    """The labels in a cell; an empty cell has one empty label."""
    if SEPARATOR not in text:
        return (text,)
    if csv_cells.clean(text) == SEPARATOR:
        return ()
    return tuple(label.strip(' ') for label in text.split(SEPARATOR))


def _csv(text: str, columns: Columns) -> tuple[dict[int, Row], list[str]]:
    """`{line number: row}` of a list, and messages for invalid rows."""
    header, table, problems = csv_cells.table(text)
    path, label, split = (
        csv_cells.column(header, name) for name in (columns.path, columns.label, columns.split)
    )
    if path is None or label is None:
        return {}, [_no_column(header, columns)]
    rows = {
        number: (row[path], _labels(row[label]), '' if split is None else row[split])
        for number, row in table.items()
    }
    return rows, problems


def _no_column(header: Sequence[str], columns: Columns) -> str:
    wanted = f'the columns {columns.path},{columns.label}[,{columns.split}]'
    return (
        f'the first line is {tuple(header)}, wanted {wanted}, each once; set other names with '
        'path_column, label_column and split_column'
    )


def _json_lines(text: str, columns: Columns) -> tuple[dict[int, Row], list[str]]:
    """`{line number: row}` of a list, and messages for invalid rows."""
    rows: dict[int, Row] = {}
    problems = []
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            path, split = row.get(columns.path), row.get(columns.split)
            labels = _json_labels(row.get(columns.label))
        except (AttributeError, RecursionError, ValueError) as error:
            problems.append(f'line {number}: not a JSON object: {error}')
            continue
        missing = [name for name in (columns.path, columns.label) if name not in row]
        if missing:
            problems.append(
                f'line {number}: no {", ".join(missing)}, found {sorted(row)}; set other keys with '
                'path_column and label_column'
            )
            continue
        rows[number] = str(path or ''), labels, str(split or '')
    return rows, problems


def _json_labels(label: Any) -> tuple[str, ...]:
    if isinstance(label, list):
        return tuple(map(csv_cells.text_of, label))
    return _labels(csv_cells.text_of(label))


def _check(source: pathlib.Path, rows: list[Row], least_classes: int) -> None:
    """Raises an error for splits, classes or paths that do not fit together."""
    splits = {split for _, _, split in rows}
    problems = []
    if splits != {''}:
        if '' in splits:
            problems.append(f'{sum(not split for *_, split in rows)} rows have no split')
        if 'train' not in splits:
            problems.append(f'no row is in train, found {sorted(splits)}')
    classes = _classes(rows)
    used, known = {(label, split) for _, labels, split in rows for label in labels}, set(classes)
    elsewhere = sorted(one for one in used if one[0] not in known)
    problems += [f'class {label!r} is in {split}, not in train' for label, split in elsewhere]
    if len(classes) < least_classes:
        problems.append(f'the classes are {classes}, wanted {least_classes} or more')
    counts = collections.Counter(path for path, *_ in rows)
    problems += [f'{path} is listed {n} times' for path, n in counts.items() if n > 1]
    _refuse(source, sorted(problems))


def _classes(rows: list[Row]) -> list[str]:
    train = [labels for _, labels, split in rows if split in ('', 'train')]
    return class_order.ordered({label for labels in train for label in labels})


def _listed(
    rows: list[Row], root: pathlib.Path, *, several: bool
) -> tuple[dict[str, list[Listed]], list[str]]:
    """The files of each split with their labels, and the class names."""
    classes = _classes(rows)
    numbers = {name: number for number, name in enumerate(classes)}
    listed: dict[str, list[Listed]] = {}
    for name in ('', *split_folders.SPLITS):
        for path, labels, _ in (row for row in rows if row[2] == name):
            indices = tuple(numbers[label] for label in labels)
            label = indices if several else indices[0]
            listed.setdefault(name, []).append((on_disk(root, path), label))
    return listed, classes


def on_disk(root: pathlib.Path, path: str) -> pathlib.Path:
    """The path of a listed file, in the Unicode form (NFC or NFD) of its name on disk.

    For a file in a bucket it is the path of its local copy.
    """
    listed = data_copies.place(path) if addresses.scheme_of(path) else root / path
    if path.isascii() or listed.exists():
        return listed
    forms = (root / unicodedata.normalize(form, path) for form in ('NFC', 'NFD'))
    return next((form for form in forms if form.exists()), listed)
