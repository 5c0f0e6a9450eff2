"""Images to predict: files, folders and lists of files, in the order in which they are named."""

import csv
import json
import pathlib
from collections.abc import Sequence

from tljax.data import files
from tljax.data.files import FolderError, Walk
from tljax.types import BadFiles, Examples, Findings

LISTS = ('.csv', '.jsonl', '.ndjson', '.txt')


def read(paths: Sequence[str], bad_files: BadFiles = BadFiles.SKIP) -> Examples:
    """The images that paths lead to, each once; their labels are 0.

    Args:
        paths: images, whatever their suffix; folders, with all images below them; lists: CSV with
            a column `path`, JSON lines with an entry `path`, or .txt with a path a line, relative
            to the list.
        bad_files: what becomes of files that cannot be read.

    Raises:
        FolderError: there is no image, a list cannot be read, or files are bad.
    """
    walk = Walk()
    named = dict.fromkeys(path for text in paths for path in _files(text, walk))
    if not named:
        raise FolderError(f'no image in {", ".join(paths)} ({", ".join(files.SUFFIXES)})')
    bad = files.look_at_all(list(named))
    if bad and bad_files is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(bad, '--bad_files=skip'))
    findings = Findings(policy=bad_files, notes=walk.notes(), bad=bad)
    return files.split_examples([(path, 0) for path in named], (), findings)


def _files(text: str, walk: Walk) -> list[pathlib.Path]:
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        return walk.images(path)
    if path.suffix.lower() not in LISTS:
        return [path]
    try:
        listed = _listed(path, path.read_text('utf-8-sig'))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FolderError(f'{path}: not a readable list of paths: {error!r}') from error
    return [path.parent / pathlib.Path(name).expanduser() for name in listed if name]


def _listed(path: pathlib.Path, text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    if path.suffix.lower() == '.csv':
        return [row['path'] for row in csv.DictReader(lines)]
    if path.suffix.lower() == '.txt':
        return [line.strip() for line in lines]
    return [json.loads(line)['path'] for line in lines]
