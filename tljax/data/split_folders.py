"""Which folders of a data set are its splits, whatever their spelling."""

import dataclasses
import pathlib
import re

from tljax.data.files import FolderError, Walk, printable

SPLITS = ('train', 'val', 'test')
WORDS = {
    'train': {'train', 'training', 'trn'},
    'val': {'val', 'valid', 'validation', 'dev', 'eval', 'evaluation'},
    'test': {'test', 'testing', 'tst', 'holdout'},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the classes of a data set lie.

    Attributes:
        splits: the folder of each split, in the order of `SPLITS`; empty where the folders of
            `root` are the classes.
        root: the folder that holds the splits or the classes.
        classes: the folders of `root` where it is not split, in order.
        notes: which folders were taken for what, and which are not used.
    """

    splits: dict[str, pathlib.Path]
    root: pathlib.Path
    classes: list[str]
    notes: list[str]


def split_of(name: str) -> str | None:
    """The split that a folder's name means: `val` of `Validation_set`; None for other names.

    A name counts where one of its words, in any case, means a split and none means another one.
    """
    words = set(re.findall('[a-z]+', re.sub('(?<=[a-z])(?=[A-Z])', ' ', name).lower()))
    meant = [split for split in SPLITS if words & WORDS[split]]
    return meant[0] if len(meant) == 1 else None


def find(root: pathlib.Path, walk: Walk) -> Layout:
    """The splits or the classes of a folder.

    A folder is a split by its name and by the folders of images in it, so that a class may be
    named `train`. A single folder that holds the splits is looked into, and so is a split whose one
    folder has its name again (`seg_train/seg_train`).

    Raises:
        FolderError: two folders are the same split.
    """
    folders = walk.folders(root)
    named = {name: split for name in folders if (split := split_of(name))}
    if not named and len(folders) == 1:
        inner = find(root / folders[0], walk)
        if inner.splits:
            note = f'the splits were looked for in {printable(inner.root)}'
            return dataclasses.replace(inner, notes=[note, *inner.notes])
    nested = [name for name in named if _holds_classes(root / name, walk)]
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
    splits = {split: _undoubled(root / name, walk) for split, name in chosen.items()}
    return Layout(splits=splits, root=root, classes=[], notes=notes)


def _chosen(root: pathlib.Path, named: dict[str, str], nested: list[str]) -> dict[str, str]:
    """The folder of each split: of several that are named so, the one that holds classes."""
    chosen = {}
    for split in SPLITS:
        mine = [name for name in named if named[name] == split]
        mine = [name for name in mine if name in nested] or mine
        if len(mine) > 1:
            raise FolderError(
                f'{root}: the folders {", ".join(map(printable, mine))} are all the {split} split; '
                'wanted one, or a Manifest that lists the files of each split'
            )
        if mine:
            chosen[split] = mine[0]
    return chosen


def _holds_classes(folder: pathlib.Path, walk: Walk) -> bool:
    """Whether a folder has folders with images in them."""
    return any(walk.any_image(folder / name) for name in walk.folders(folder))


def _undoubled(folder: pathlib.Path, walk: Walk) -> pathlib.Path:
    """The one folder in a split that has its name again and holds the classes, else the split."""
    inside = walk.folders(folder)
    if len(inside) == 1 and split_of(inside[0]) == split_of(folder.name):
        inner = folder / inside[0]
        if _holds_classes(inner, walk):
            return inner
    return folder
