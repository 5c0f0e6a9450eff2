"""Texts for `tljax evaluate` and `tljax predict`: one split with labels, or texts without."""

import pathlib
from collections.abc import Sequence

from tljax.data import labelled, stored_text, text_list
from tljax.data.csv_cells import Columns
from tljax.data.files import FolderError
from tljax.data.labelled import Labelled
from tljax.data.stored_text import StoredText
from tljax.data.text import Texts
from tljax.data.text_list import TextColumns
from tljax.storage import data_copies
from tljax.types import BadFiles, Examples, Findings

LISTS = ('.csv', '.jsonl', '.ndjson')


def read(path: str, split: str | None, bad_files: BadFiles, columns: Columns) -> Labelled:
    """Reads the texts of a split; arguments and errors as for `labelled.read`.

    The path of the columns names the column of the texts, unless it is the default.
    """
    source = Texts(
        path=path,
        bad_files=bad_files,
        text_column=text_column(columns.path),
        label_column=columns.label,
        split_column=columns.split,
    )
    listed, class_names, notes = source.listed()
    split = labelled.choose([name for name in listed if name], split, pathlib.Path(path))
    findings = Findings(policy=bad_files, notes=notes)
    examples = stored_text.one_split(listed[split or ''], class_names, findings)
    return Labelled(examples=examples, split=split, named=True, count=len(class_names))


def text_column(path_column: str) -> str:
    """The column of the texts, from that of the paths of images."""
    return 'text' if path_column == Columns().path else path_column


def unlabelled(paths: Sequence[str], bad_files: BadFiles, path_column: str) -> Examples:
    """Texts to predict; their labels are 0.

    Args:
        paths: files with a text each, folders with `.txt` files at any depth, or lists of texts.
        bad_files: whether texts that cannot be read are an error or are skipped.
        path_column: see `text_column`.

    Raises:
        FolderError: there is no text, or texts are bad.
    """
    texts = [text for path in paths for text in _texts(path, text_column(path_column))]
    if not texts:
        raise FolderError(f'no text in {", ".join(paths)}')
    findings = Findings(policy=bad_files)
    return stored_text.one_split([(text, 0) for text in texts], (), findings)


def _texts(path: str, column: str) -> list[StoredText]:
    local = data_copies.local(path)
    if local.suffix.lower() in LISTS and not local.is_dir():
        columns = TextColumns(text=column, label=None, split='')
        return [text for text, *_ in text_list.rows(local, columns)]
    if local.is_dir():
        listed, *_ = Texts(path=path, labelled=False).listed()
        return [text for text, _ in listed['']]
    if not local.is_file():
        raise FolderError(f'{path}: no such file')
    return [StoredText(path, stored_text.decoded(local.read_bytes()))]
