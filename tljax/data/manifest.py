"""A list of image files with their labels: CSV, or JSON lines."""

import collections
import csv
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tljax.data import files, folder
from tljax.data.files import FolderError, Listed
from tljax.types import BadFiles, Examples, Findings

SEPARATOR = ';'  # between the labels of one image; alone, it says that there are none
SHOWN = 20  # problems that one message names

Row = tuple[str, tuple[str, ...], str]  # path, labels, split or ''


@dataclasses.dataclass(slots=True, kw_only=True)
class Manifest:
    """Images by a list: `path,label[,split]` in CSV with a header, or as JSON lines.

    A path is relative to the list's own folder, or to `root`. Where nothing is held out, without
    the column `split` or with `train` alone in it, the test split is drawn, class by class; with
    `train` and `val` there is none. Classes are the labels of `train`, sorted.

    Several labels are separated by `;`, and `;` alone says that an image has none; in JSON a list
    of labels does as well, and `[]`. Where one image has several or none, all have sets of labels.
    """

    path: str
    root: str | None = None
    multi_label: bool = False  # sets of labels, though every image that is listed has one
    bad_files: BadFiles = BadFiles.ERROR
    test_fraction: float = 0.2  # of each class, where nothing is held out
    split_seed: int = 0  # of that draw
    least_px: int = files.LEAST_PX  # of each side of an image

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return folder.problems_of(self.test_fraction, self.split_seed, self.least_px)

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` where the list has them or they are drawn.

        Raises:
            FolderError: a row cannot be used, `train` is missing, a class stands in another split
                only, or files are bad.
        """
        listed, classes = listing(self.path, self.root, multi_label=self.multi_label)
        paths = [path for split in listed.values() for path, _ in split]
        bad = files.look_at_all(paths, self.least_px)
        listed, notes = folder.held_out(listed, self.test_fraction, self.split_seed)
        findings = Findings(policy=self.bad_files, notes=notes, bad=bad)
        return files.examples(listed, classes, findings)


def listing(
    path: str, root: str | None = None, *, multi_label: bool = False
) -> tuple[dict[str, list[Listed]], list[str]]:
    """The files of each split with their labels, and the classes; one split named '' if none.

    Raises:
        FolderError: as for `Manifest.splits`, but for bad files.
    """
    source = pathlib.Path(path).expanduser()
    listed = rows(source)
    several = multi_label or any(len(labels) != 1 for _, labels, _ in listed)
    _check(source, listed, least_classes=1 if several else 2)
    return _listed(listed, pathlib.Path(root or source.parent).expanduser(), several=several)


def rows(source: pathlib.Path) -> list[Row]:
    """The rows of a list, checked one by one.

    Raises:
        FolderError: the file is no list, or a row has no path or no label.
    """
    try:
        text = source.read_text('utf-8-sig')  # spreadsheets begin theirs with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f'{source}: not a readable list: {error}') from error
    read = _json_lines if source.suffix.lower() in ('.jsonl', '.ndjson') else _csv
    found, problems = read(text)
    for number, (path, labels, split) in found.items():
        problems += [f'line {number}: {problem}' for problem in _row_problems(path, labels, split)]
    _refuse(source, problems)
    if not found:
        raise FolderError(f'{source}: no row in it, wanted path,label[,split] in each')
    return list(found.values())


def _row_problems(path: str, labels: tuple[str, ...], split: str) -> list[str]:
    found, text = [], SEPARATOR.join(labels)
    if not path or labels == ('',):
        none = f'; the label of an image that has none is {SEPARATOR!r}' if path else ''
        found.append(f'path {path!r}, label {text!r}; wanted both{none}')
    elif '' in labels or len(set(labels)) < len(labels):
        found.append(f'label {text!r}, wanted names that are not empty, each once')
    if split and split not in folder.SPLITS:
        found.append(f'split is {split!r}, wanted one of {folder.SPLITS}')
    return found


def _refuse(source: pathlib.Path, problems: list[str]) -> None:
    if problems:
        more = [f'and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        raise FolderError(f'{source}:\n  ' + '\n  '.join([*problems[:SHOWN], *more]))


def _labels(text: str) -> tuple[str, ...]:
    """The labels of a cell; of an empty one, an empty label."""
    if SEPARATOR not in text:
        return (text,)
    if text.strip() == SEPARATOR:
        return ()
    return tuple(label.strip() for label in text.split(SEPARATOR))


def _csv(text: str) -> tuple[dict[int, Row], list[str]]:
    """Rows by their line, and what is wrong with them."""
    reader = csv.DictReader(text.splitlines())
    header = tuple(reader.fieldnames or ())
    if not {'path', 'label'} <= set(header):
        return {}, [f'the first line is {header}, wanted the columns path,label[,split]']
    rows: dict[int, Row] = {}
    for row in reader:
        labels = _labels(row['label'] or '')
        rows[reader.line_num] = row['path'] or '', labels, row.get('split') or ''
    return rows, []


def _json_lines(text: str) -> tuple[dict[int, Row], list[str]]:
    """Rows by their line, and what is wrong with them."""
    rows: dict[int, Row] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            path, split = row.get('path'), row.get('split')
            labels = _json_labels(row.get('label'))
        except (ValueError, AttributeError) as error:
            problems.append(f'line {number}: no JSON object: {error}')
            continue
        rows[number] = str(path or ''), labels, str(split or '')
    return rows, problems


def _json_labels(label: Any) -> tuple[str, ...]:
    if isinstance(label, list):
        return tuple('' if one is None else str(one) for one in label)
    return _labels('' if label is None else str(label))


def _check(source: pathlib.Path, rows: list[Row], least_classes: int) -> None:
    """What is wrong with the rows together."""
    named = {split for _, _, split in rows}
    problems = []
    if named != {''}:
        if '' in named:
            problems.append(f'{sum(not split for *_, split in rows)} rows have no split')
        if 'train' not in named:
            problems.append(f'no row is in train, found {sorted(named)}')
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
    ours = [labels for _, labels, split in rows if split in ('', 'train')]
    return sorted({label for labels in ours for label in labels})


def _listed(
    rows: list[Row], root: pathlib.Path, *, several: bool
) -> tuple[dict[str, list[Listed]], list[str]]:
    """The files of each split with their labels, and the classes."""
    classes = _classes(rows)
    numbers = {name: number for number, name in enumerate(classes)}
    listed: dict[str, list[Listed]] = {}
    for name in ('', *folder.SPLITS):
        for path, labels, _ in (row for row in rows if row[2] == name):
            own = tuple(numbers[label] for label in labels)
            listed.setdefault(name, []).append((root / path, own if several else own[0]))
    return listed, classes
