"""Recognition of the split folders of a data set by their names."""

import dataclasses
import pathlib
import re

from tljax.data.file_search import FileSearch
from tljax.data.files import FolderError, printable

SPLITS = ('train', 'val', 'test')
WORDS = {
    'train': {'train', 'training', 'trn'},
    'val': {'val', 'valid', 'validation', 'dev', 'eval', 'evaluation'},
    'test': {'test', 'testing', 'tst', 'holdout'},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The folders of the splits or classes of a data set.

    Attributes:
        splits: the folder of each split, in the order of `SPLITS`; empty if the folders in `root`
            are the classes.
        root: the folder that contains the splits or the classes.
        classes: the folders in `root` in order, if there are no splits.
        notes: how folders were interpreted, and which are not used.
    """

    splits: dict[str, pathlib.Path]
    root: pathlib.Path
    classes: list[str]
    notes: list[str]


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for, e.g. `val` for `Validation_set`, or None.

    The words of the name, in any case, must stand for exactly one split.
    """
    words = set(re.findall('[a-z]+', re.sub('(?<=[a-z])(?=[A-Z])', ' ', name).lower()))
    splits = [split for split in SPLITS if words & WORDS[split]]
    return splits[0] if len(splits) == 1 else None


def find(root: pathlib.Path, search: FileSearch) -> Layout:
    """Finds the splits or the classes in a folder.

    A split folder has the name of a split and contains folders with images, so a class can be named
    `train`. If the only folder in `root` contains the splits, it is used instead of `root`. If the
    only folder in a split has the name of the split again (`seg_train/seg_train`), it is the split.

    Raises:
        FolderError: two folders are the same split.
    """
    folders = search.folders(root)
    named = {name: split for name in folders if (split := split_of(name))}
    if not named and len(folders) == 1:
        inner = find(root / folders[0], search)
        if inner.splits:
            note = f'the splits are in {printable(inner.root)}'
            return dataclasses.replace(inner, notes=[note, *inner.notes])
    nested = [name for name in named if _holds_classes(root / name, search)]
    others = [name for name in folders if name not in named]
    if not nested and (others or not named):
        return Layout(splits={}, root=root, classes=folders, notes=[])
    chosen = _chosen(root, named, nested)
    unused = [name for name in folders if name not in chosen.values()]
    notes = [
        f'the folder {printable(name)} is the {split} split'
        for split, name in chosen.items()
        if name != split
    ]
    if unused:
        notes.append(f'{len(unused)} folder(s) not used: {printable(", ".join(unused))}')
    splits = {split: _innermost(root / name, search) for split, name in chosen.items()}
    return Layout(splits=splits, root=root, classes=[], notes=notes)


def _chosen(root: pathlib.Path, named: dict[str, str], nested: list[str]) -> dict[str, str]:
    """The folder of each split; of several with a fitting name, the one that contains classes."""
    chosen = {}
    for split in SPLITS:
        names = [name for name in named if named[name] == split]
        names = [name for name in names if name in nested] or names
        if len(names) > 1:
            raise FolderError(
                f'{root}: the folders {", ".join(map(printable, names))} are all the {split} '
                'split; wanted one, or a Manifest that lists the files of each split'
            )
        if names:
            chosen[split] = names[0]
    return chosen


def _holds_classes(folder: pathlib.Path, search: FileSearch) -> bool:
    """Whether a folder contains folders with images."""
    return any(search.any_image(folder / name) for name in search.folders(folder))


def _innermost(folder: pathlib.Path, search: FileSearch) -> pathlib.Path:
    """The only folder in a split if it has the split's name again, else the split's folder."""
    inside = search.folders(folder)
    if len(inside) == 1 and split_of(inside[0]) == split_of(folder.name):
        inner = folder / inside[0]
        if _holds_classes(inner, search):
            return inner
    return folder
