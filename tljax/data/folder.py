"""A folder of images: `DIR/<class>/*`, or `DIR/{train,val,test}/<class>/*`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from tljax.data import csv_cells, files, split_folders, subsets
from tljax.data.file_search import FileSearch
from tljax.data.files import FolderError, Listed
from tljax.data.split_folders import Layout
from tljax.storage import addresses
from tljax.types import BadFiles, Examples, Findings

SHOWN = 20  # files in two splits in one message


@dataclasses.dataclass(slots=True, kw_only=True)
class Folder:
    """Images in one folder per class, with or without a folder per split.

    Classes are the folders in `train`, in natural order. Other names of splits are recognised too
    (`Training`, `validation`, `test_set`). Without split folders, the folders in `path` are the
    classes. If there are no split folders, or only `train`, the test split is drawn, stratified by
    class. With `train` and `val` there is no test split. Hidden files and folders are skipped.
    Nothing is written into the folder.

    Attributes:
        path: of the folder.
        test_fraction: part of each class that becomes the test split if there is none.
        split_seed: seed of the choice of these test images.
        bad_files: whether images that cannot be read are an error, or are left out.
        least_px: smallest permitted side of an image.
    """

    path: str
    bad_files: BadFiles = BadFiles.ERROR
    test_fraction: float = 0.2
    split_seed: int = 0
    least_px: int = files.LEAST_PX

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return problems_of(self.test_fraction, self.split_seed, self.least_px)

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if they have folders or `test` is drawn.

        Raises:
            FolderError: `train` or a class is missing, a split is empty, `train` lacks a class of
                another split, or files are bad. One message lists all problems.
        """
        listed, classes, notes = listing(self.path)
        paths = [path for split in listed.values() for path, _ in split]
        listed, more = held_out(listed, self.test_fraction, self.split_seed)
        findings = Findings(policy=self.bad_files, notes=[*notes, *more])
        findings.bad = files.check_files(paths, self.least_px, findings.deep)
        return files.examples(listed, classes, findings)


def problems_of(test_fraction: float, split_seed: int, least_px: int) -> list[str]:
    """Messages for invalid fields of a data source of files."""
    problems = []
    if not 0 < test_fraction < 1:
        problems.append(f'test_fraction is {test_fraction}, wanted 0 < x < 1')
    if split_seed < 0:
        problems.append(f'split_seed is {split_seed}, wanted at least 0')
    if least_px < 1:
        problems.append(f'least_px is {least_px}, wanted more than 0')
    return problems


def held_out(
    listed: dict[str, list[Any]], fraction: float, seed: int
) -> tuple[dict[str, list[Any]], list[str]]:
    """Splits a single split into `train` and `test`; several splits are returned unchanged.

    Args:
        listed: pairs of an example and its label in each split.
        fraction: of each class, for the test split.
        seed: of the draw.

    Returns:
        The splits, and notes.
    """
    if len(listed) > 1:
        return listed, []
    (everything,) = listed.values()
    note = f'train is the only split: {100 * fraction:g} % of each class become the test split'
    return drawn(everything, fraction, seed), [note] if 'train' in listed else []


def drawn(everything: list[Any], fraction: float, seed: int) -> dict[str, list[Any]]:
    """Splits files into `train` and `test`, stratified by class.

    Raises:
        FolderError: the test split would be empty.
    """
    labels = [label for _, label in everything]
    classes = set(files.labels_of(labels))
    array = files.label_array(labels, max(classes) + 1, several=isinstance(labels[0], tuple))
    train, test = subsets.carve(array, fraction, seed)
    if not len(test):
        raise FolderError(
            f'{len(everything)} files in {len(classes)} classes are too few for a '
            f'test split of {fraction} of each class'
        )
    return {
        'train': [everything[i] for i in train],
        'test': [everything[i] for i in test],
    }


def listing(
    path: str, search: FileSearch | None = None
) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    """The files of each split, the class names, and notes; without splits, one named ''.

    Args:
        path: the folder.
        search: finds files; None for images.

    Raises:
        FolderError: as for `Folder.splits`, except for bad files.
    """
    if addresses.in_bucket(path):
        raise FolderError(
            f'{path}: a folder of images in a bucket is not supported, wanted a list: Manifest'
        )
    root = addresses.local_path(path)
    if not root.is_dir():
        actual = 'a file: a list of files is a Manifest' if root.exists() else 'no such folder'
        raise FolderError(f'{root}: wanted a folder of images; found {actual}')
    search = search or FileSearch()
    layout = split_folders.find(root, search)
    if layout.splits:
        listed, classes, problems = _split_listing(layout, search)
        problems += _in_two_splits(listed)
    else:
        classes = [csv_cells.clean(name) for name in layout.classes]
        labelled_files, problems = _list_split(layout.root, classes, search, all_classes=True)
        listed = {'': labelled_files}
        problems += _one_level(root, classes, search)
    problems += [
        f'{root}: the name of the class {name} is not UTF-8: rename the folder'
        for name in classes
        if not files.is_utf8(name)
    ]
    if problems:
        raise FolderError(f'{root}:\n  ' + '\n  '.join(map(files.printable, problems)))
    return listed, classes, [*layout.notes, *search.notes()]


def _split_listing(
    layout: Layout, search: FileSearch
) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    """The files of each split, the class names, and problems."""
    if 'train' not in layout.splits:
        wanted = 'train/<class>/* and test/<class>/* in it'
        names = search.folders(layout.root)
        raise FolderError(f"{layout.root}: wanted {wanted}; missing ['train'], found {names}")
    classes = list(map(csv_cells.clean, search.folders(layout.splits['train'])))
    listed, problems = {}, []
    for split, folder in layout.splits.items():
        listed[split], more = _list_split(folder, classes, search, all_classes=split == 'train')
        problems += more
    return listed, classes, problems


def _in_two_splits(listed: dict[str, list[Listed]]) -> list[str]:
    """Messages for files that are in several splits, through links."""
    first_use: dict[tuple[int, int], tuple[str, pathlib.Path]] = {}
    problems = []
    for split, split_files in listed.items():
        for path, _ in split_files:
            if not path.exists():  # a broken link; `files.check_files` reports it
                continue
            state = path.stat()
            other, first = first_use.setdefault((state.st_dev, state.st_ino), (split, path))
            if other != split:
                problems.append(f'{path} ({split}) and {first} ({other}) are the same file')
    more = len(problems) - SHOWN
    return problems if more <= 0 else [*problems[:SHOWN], f'and {more} more files in two splits']


def _list_split(
    folder: pathlib.Path, classes: list[str], search: FileSearch, *, all_classes: bool
) -> tuple[list[Listed], list[str]]:
    """The files of a split with their labels, and problems.

    Args:
        folder: the folder of the split.
        classes: the class names.
        search: finds the files.
        all_classes: whether every class must have an image.
    """
    names = search.folders(folder)
    folder_of = {
        csv_cells.clean(name): name for name in names
    }  # macOS writes accents in another form
    problems = [
        f'{folder / name}: class {name!r} has no folder under train'
        for clean, name in folder_of.items()
        if clean not in classes
    ]
    if len(folder_of) < len(names):
        problems.append(f'{folder}: two folder names differ only in their Unicode form')
    if not names:
        problems.append(f'{folder}: no class folder in it{_loose(folder, search)}')
    listed: list[Listed] = []
    for label, name in enumerate(classes):
        paths = search.images(folder / folder_of[name]) if name in folder_of else []
        if not paths and all_classes:
            problems.append(f'{folder / name}: no {search.what} in it')
        problems += _folders_in_a_class(folder / folder_of.get(name, name), paths)
        listed += [(path, label) for path in paths]
    if not listed and names and not all_classes:
        problems.append(f'{folder}: no {search.what} in it{_loose(folder, search)}')
    return listed, problems


def _loose(folder: pathlib.Path, search: FileSearch) -> str:
    """The end of a message: the number of files outside class folders, and the wanted layout."""
    count = sum(path.is_file() and search.accepts(path) for path in folder.iterdir())
    loose = f', but {count} {search.what}(s)' if count else ''
    return f'{loose}; wanted {folder}/<class>/*'


def _folders_in_a_class(folder: pathlib.Path, paths: list[pathlib.Path]) -> list[str]:
    """A message if all images of a class are in several subfolders, else nothing."""
    inside = {path.relative_to(folder).parts[:-1][:1] for path in paths}
    if () in inside or len(inside) < 2:
        return []
    names = ', '.join(sorted(name for (name,) in inside)[:3])
    return [
        f'{folder}: a class folder with its images in {len(inside)} subfolders ({names}, ...); '
        'wanted the images of one class, or train/<class>/* and test/<class>/* for splits'
    ]


def _one_level(root: pathlib.Path, classes: list[str], search: FileSearch) -> list[str]:
    """A message for a folder whose files have no class or only one, else nothing."""
    loose = [p.name for p in root.iterdir() if p.is_file() and search.accepts(p)]
    if loose and not classes:
        wanted = f'wanted {root}/<class>/*, or a Manifest'
        return [f'{root}: no class folder in it, but {len(loose)} {search.what}(s); {wanted}']
    if len(classes) == 1:
        return [f'{root}: one folder, {classes[0]!r}; wanted one for each of two or more classes']
    return []
