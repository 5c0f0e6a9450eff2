"""A list of image files with their labels: CSV, or JSON lines."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Mapping

from tljax.data import files, folder
from tljax.data.files import FolderError, Listed
from tljax.types import BadFiles, Examples, Findings

COLUMNS = ('path', 'label', 'split')
SEPARATOR = ';'  # between the labels of one image
SHOWN = 20  # problems that one message names

Row = tuple[str, str, str]  # path, label, split or ''


@dataclasses.dataclass(slots=True, kw_only=True)
class Manifest:
    """Images by a list: `path,label[,split]` in CSV with a header, or as JSON lines.

    A path is relative to the list's own folder, or to `root`. Without the column `split` the
    test split is drawn, class by class. Classes are the labels of `train`, sorted.
    """

    path: str
    root: str | None = None
    bad_files: BadFiles = BadFiles.ERROR
    test_fraction: float = 0.2  # of each class, where the list has no splits
    split_seed: int = 0  # of that draw
    least_px: int = files.LEAST_PX  # of each side of an image

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return folder.problems_of(self.test_fraction, self.split_seed, self.least_px)

    def splits(self) -> Mapping[str, Examples]:
        """`train`, `test` and, where the list has it, `val`.

        Raises:
            FolderError: a row cannot be used, a split is missing, a class stands in another split
                only, or files are bad.
        """
        listed, classes = listing(self.path, self.root)
        paths = [path for split in listed.values() for path, _ in split]
        bad = files.look_at_all(paths, self.least_px)
        findings = Findings(policy=self.bad_files, bad=bad)
        if '' in listed:
            listed = folder.drawn(listed[''], self.test_fraction, self.split_seed)
        return files.examples(listed, classes, findings)


def listing(path: str, root: str | None = None) -> tuple[dict[str, list[Listed]], list[str]]:
    """The files of each split with their labels, and the classes; one split named '' if none.

    Raises:
        FolderError: as for `Manifest.splits`, but for bad files.
    """
    source = pathlib.Path(path).expanduser()
    return _listed(source, rows(source), pathlib.Path(root or source.parent))


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
    for number, (path, label, split) in found.items():
        if not path or not label:
            problems.append(f'line {number}: path {path!r}, label {label!r}; wanted both')
        if SEPARATOR in label:
            problems.append(
                f'line {number}: {label!r} is several labels; one a file is what can be trained'
            )
        if split and split not in folder.SPLITS:
            problems.append(f'line {number}: split is {split!r}, wanted one of {folder.SPLITS}')
    _refuse(source, problems)
    if not found:
        raise FolderError(f'{source}: no row in it, wanted path,label[,split] in each')
    return list(found.values())


def _refuse(source: pathlib.Path, problems: list[str]) -> None:
    if problems:
        more = [f'and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        raise FolderError(f'{source}:\n  ' + '\n  '.join([*problems[:SHOWN], *more]))


def _csv(text: str) -> tuple[dict[int, Row], list[str]]:
    """Rows by their line, and what is wrong with them."""
    reader = csv.DictReader(text.splitlines())
    header = tuple(reader.fieldnames or ())
    if not {'path', 'label'} <= set(header):
        return {}, [f'the first line is {header}, wanted the columns path,label[,split]']
    rows: dict[int, Row] = {}
    for row in reader:
        rows[reader.line_num] = row['path'] or '', row['label'] or '', row.get('split') or ''
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
            path, label, split = (row.get(name, '') for name in COLUMNS)
        except (ValueError, AttributeError) as error:
            problems.append(f'line {number}: no JSON object: {error}')
            continue
        if isinstance(label, list):
            label = SEPARATOR.join(map(str, label))
        rows[number] = str(path), str(label), str(split or '')
    return rows, problems


def _listed(
    source: pathlib.Path, rows: list[Row], root: pathlib.Path
) -> tuple[dict[str, list[Listed]], list[str]]:
    """The files of each split with their labels, and the classes."""
    named = {split for _, _, split in rows}
    problems = []
    if named != {''}:
        if '' in named:
            problems.append(f'{sum(not split for *_, split in rows)} rows have no split')
        missing = [name for name in ('train', 'test') if name not in named]
        if missing:
            problems.append(f'no row is in {missing}, found {sorted(named - {""})}')
    classes = sorted({label for _, label, split in rows if split in ('', 'train')})
    numbers = {name: number for number, name in enumerate(classes)}
    elsewhere = {(label, split) for _, label, split in rows if label not in numbers}
    problems += [f'class {label!r} is in {split}, not in train' for label, split in elsewhere]
    if len(classes) < 2:
        problems.append(f'the classes are {classes}, wanted two or more')
    counts: dict[str, int] = {}
    for path, *_ in rows:
        counts[path] = counts.get(path, 0) + 1
    problems += [f'{path} is listed {n} times' for path, n in counts.items() if n > 1]
    _refuse(source, sorted(problems))
    order = [name for name in ('', *folder.SPLITS) if name in named]
    expanded = root.expanduser()
    return {
        name: [(expanded / path, numbers[label]) for path, label, split in rows if split == name]
        for name in order
    }, classes
