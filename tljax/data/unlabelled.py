"""Images to predict, from files, folders and lists of files, in the given order."""

import json
import pathlib
from collections.abc import Sequence

from tljax.data import csv_cells, files, manifest
from tljax.data.file_search import FileSearch
from tljax.data.files import FolderError
from tljax.storage import data_copies
from tljax.types import BadFiles, Examples, Findings

SHOWN = 20  # problems in one message
LISTS = ('.csv', '.jsonl', '.ndjson', '.txt')


def read(
    paths: Sequence[str], bad_files: BadFiles = BadFiles.SKIP, path_column: str = 'path'
) -> Examples:
    """Finds images, each once; their labels are 0.

    Args:
        paths: image files with any suffix, folders (with all images at any depth), or lists: CSV
            with a column `path`, JSON lines with a key `path`, or `.txt` with one path per line.
            Paths in a list are relative to its folder.
        bad_files: whether files that cannot be read are an error or are skipped.
        path_column: the column of a CSV list with the paths, or the key of JSON lines.

    Raises:
        FolderError: there is no image, a list cannot be read, or files are bad.
    """
    search = FileSearch()
    unique = dict.fromkeys(path for text in paths for path in _files(text, search, path_column))
    if not unique:
        raise FolderError(f'no image in {", ".join(paths)}')
    bad = files.check_files(list(unique))
    if bad and bad_files is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(bad, '--bad_files=skip'))
    findings = Findings(policy=bad_files, notes=search.notes(), bad=bad)
    return files.split_examples([(path, 0) for path in unique], (), findings)


def _files(text: str, search: FileSearch, path_column: str) -> list[pathlib.Path]:
    path = data_copies.local(text)
    if path.is_dir():
        return search.images(path)
    if path.suffix.lower() not in LISTS:
        return [path]
    try:
        content = path.read_text('utf-8-sig')
    except (OSError, ValueError) as error:
        raise FolderError(f'{path}: not a readable list of paths: {error}') from error
    listed = _listed(path, content, path_column)
    named = (data_copies.place(csv_cells.stripped(name)) for name in listed)
    return [manifest.on_disk(path.parent, str(file)) for file in named if file.name]


def _listed(path: pathlib.Path, text: str, column: str) -> list[str]:
    """The paths in a list.

    Raises:
        FolderError: the list lacks the column or key, or its format is invalid.
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
    header, rows, problems = csv_cells.table(text)
    index = csv_cells.column(header, column)
    if index is None:
        raise FolderError(
            f'{path}: no column {column!r}, found {header}: set the column of the paths with '
            '--path_column=NAME'
        )
    if problems:
        raise FolderError(f'{path}: ' + '\n  '.join(problems[:SHOWN]))
    return [row[index] for row in rows.values()]


def _entry(where: str, line: str, name: str) -> str:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise FolderError(f'{where}: not a JSON object: {error}') from error
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str):
        present = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise FolderError(
            f'{where}: no path under the key {name!r}, found {present}: set the key with '
            '--path_column=NAME'
        )
    return value
