"""Texts with labels: a list in CSV or JSON lines, or a folder of `.txt` files per class."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from tljax.data import files, folder, stored_text, text_list
from tljax.data.file_search import FileSearch
from tljax.data.files import FolderError, printable
from tljax.data.stored_text import StoredText
from tljax.data.text_list import TextColumns
from tljax.storage import addresses, data_copies
from tljax.types import BadFiles, Examples, Findings

SUFFIX = '.txt'
UNLABELLED: tuple[str, ...] = ('text',)  # the class of texts without labels


@dataclasses.dataclass(slots=True, kw_only=True)
class Texts:
    """Texts from a list or from a folder; `Examples.load(i)` is a text as a string.

    A list is a CSV table with a header or a file of JSON lines, with the columns (or keys) `text`,
    `label` and, optionally, `split`. A folder has a folder of `.txt` files for each class, with or
    without a folder for each split. Splits, classes and several labels are as for `Manifest` and
    `Folder`.

    Empty texts and texts that are not UTF-8 are bad; a message names their lines or files.

    Attributes:
        path: of the list or folder.
        labelled: whether texts have labels; without them they are for a language model, and `.txt`
            files are read at any depth.
        multi_label: whether texts have sets of labels, even if every text has one label.
        test_fraction: part of each class that becomes the test split if there is none.
        split_seed: seed of the choice of these test texts.
        bad_files: whether texts that cannot be read are an error, or are left out.
        text_column: the column of texts, or the key in JSON lines.
        label_column: the column of labels.
        split_column: the column of splits.
    """

    path: str
    labelled: bool = True
    multi_label: bool = False
    bad_files: BadFiles = BadFiles.ERROR
    test_fraction: float = 0.2
    split_seed: int = 0
    text_column: str = 'text'
    label_column: str = 'label'
    split_column: str = 'split'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return folder.problems_of(self.test_fraction, self.split_seed, files.LEAST_PX)

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if the data has them or `test` is drawn.

        Raises:
            FolderError: a row is invalid, `train` is missing or lacks a class of another split, or
                texts are bad.
        """
        listed, classes, notes = self.listed()
        listed, more = folder.held_out(listed, self.test_fraction, self.split_seed)
        findings = Findings(policy=self.bad_files, notes=[*notes, *more])
        return stored_text.examples(listed, classes, findings)

    def listed(self) -> tuple[dict[str, list[Any]], list[str], list[str]]:
        """The texts of each split with their labels, the class names, and notes.

        Data without splits has one named ''. Texts can be bad.
        """
        folder_given = pathlib.Path(addresses.local_path(self.path)).is_dir()
        return self._of_folder() if folder_given else self._of_list()

    def _of_folder(self) -> tuple[dict[str, list[Any]], list[str], list[str]]:
        """The texts of each split with their labels, the class names, and notes."""
        search = FileSearch('text', lambda path: path.suffix.lower() == SUFFIX)
        listed: dict[str, list[Any]]
        if self.labelled:
            listed, classes, notes = folder.listing(self.path, search)
        else:
            paths = search.images(addresses.local_path(self.path))
            listed, classes, notes = {'': [(p, 0) for p in paths]}, list(UNLABELLED), search.notes()
        if not any(listed.values()):
            raise FolderError(f'{self.path}: no {SUFFIX} file in it')
        texts = {
            split: [(_read(path), label) for path, label in pairs]
            for split, pairs in listed.items()
        }
        return texts, classes, notes

    def _of_list(self) -> tuple[dict[str, list[Any]], list[str], list[str]]:
        """The same of a list."""
        source = data_copies.local(self.path)
        if not source.is_file():
            raise FolderError(f'{self.path}: no such folder or list of texts')
        label = self.label_column if self.labelled else None
        columns = TextColumns(text=self.text_column, label=label, split=self.split_column)
        rows = text_list.rows(source, columns)
        texts, classes = text_list.listed(source, rows, multi_label=self.multi_label)
        return texts, classes, []


def _read(path: pathlib.Path) -> StoredText:
    """A file's text; one that cannot be read is empty, which is a problem of its own."""
    where = printable(path)
    if not path.is_file():  # a broken link
        return StoredText(where, '')
    return StoredText(where, stored_text.decoded(path.read_bytes()))
