"""Images to predict: files, folders and lists of files, in the order in which they are named."""

import json
import pathlib
from collections.abc import Sequence

from tljax.data import cells, files, manifest
from tljax.data.files import FolderError, Walk
from tljax.types import BadFiles, Examples, Findings

SHOWN = 20  # problems that one message names
LISTS = ('.csv', '.jsonl', '.ndjson', '.txt')


def read(
    paths: Sequence[str], bad_files: BadFiles = BadFiles.SKIP, path_column: str = 'path'
) -> Examples:
    """The images that paths lead to, each once; their labels are 0.

    Args:
        paths: images, whatever their suffix; folders, with all images below them; lists: CSV with
            a column `path`, JSON lines with an entry `path`, or .txt with a path a line, relative
            to the list.
        bad_files: what becomes of files that cannot be read.
        path_column: of the lists in CSV, or the entry of JSON lines.

    Raises:
        FolderError: there is no image, a list cannot be read, or files are bad.
    """
    walk = Walk()
    named = dict.fromkeys(path for text in paths for path in _files(text, walk, path_column))
    if not named:
        raise FolderError(f'no image in {", ".join(paths)}')
    bad = files.look_at_all(list(named))
    if bad and bad_files is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(bad, '--bad_files=skip'))
    findings = Findings(policy=bad_files, notes=walk.notes(), bad=bad)
    return files.split_examples([(path, 0) for path in named], (), findings)


def _files(text: str, walk: Walk, path_column: str) -> list[pathlib.Path]:
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        return walk.images(path)
    if path.suffix.lower() not in LISTS:
        return [path]
    try:
        content = path.read_text('utf-8-sig')
    except (OSError, ValueError) as error:
        raise FolderError(f'{path}: not a readable list of paths: {error}') from error
    listed = _listed(path, content, path_column)
    places = (pathlib.Path(cells.stripped(name)).expanduser() for name in listed)
    return [manifest.on_disk(path.parent, str(place)) for place in places if place.name]


def _listed(path: pathlib.Path, text: str, column: str) -> list[str]:
    """The paths that a list names.

    Raises:
        FolderError: it has no such column or entry, or is not of its format.
    """
    if path.suffix.lower() == '.csv':
        return _column(path, text, column)
    if path.suffix.lower() == '.txt':
        return text.splitlines()
    return [
        _entry(f'{path}: line {number}', line, column)
        for number, line in enumerate(text.split('\n'), 1)
        if line.strip()
    ]


def _column(path: pathlib.Path, text: str, column: str) -> list[str]:
    header, rows, problems = cells.table(text)
    place = cells.place(header, column)
    if place is None:
        raise FolderError(
            f'{path}: no column {column!r}, found {header}: --path_column=NAME names the one '
            'that has the paths'
        )
    if problems:
        raise FolderError(f'{path}: ' + '\n  '.join(problems[:SHOWN]))
    return [row[place] for row in rows.values()]


def _entry(where: str, line: str, name: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise FolderError(f'{where}: no JSON object: {error}') from error
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str):
        there = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise FolderError(
            f'{where}: no entry {name!r} that is a path, found {there}: --path_column=NAME names '
            'the one that has it'
        )
    return value
