"""A folder of images: `DIR/{train,test}/<class>/*`, and `DIR/val` where there is one."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from tljax.data import decode
from tljax.types import Examples, InputError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff')
SPLITS = ('train', 'val', 'test')


class FolderError(InputError):
    """A folder that is not a data set; the message lists what is wrong with it."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Folder:
    """Images in one folder per class, under one folder per split.

    Classes are the folders under `train`, in alphabetical order; files and folders whose names
    begin with a dot are passed over. Nothing is ever written there.
    """

    path: str

    def splits(self) -> Mapping[str, Examples]:
        """`train`, `test` and, where its folder exists, `val`.

        Raises:
            FolderError: a split or a class is missing or empty, or a class stands in another
                split only; all of it in one message.
        """
        root = pathlib.Path(self.path).expanduser()
        there = {name for name in SPLITS if (root / name).is_dir()}
        listed = sorted(p.name for p in root.iterdir()) if root.is_dir() else 'no such folder'
        missing = [name for name in ('train', 'test') if name not in there]
        problems = [f'missing {missing}, found {listed}'] if missing else []
        if 'train' not in there:
            raise FolderError(
                f'{root}: wanted train/<class>/* and test/<class>/* in it; {problems[0]}'
            )
        classes = _folders(root / 'train')
        result, first_id = {}, 0
        for split in SPLITS:
            if split in there:
                files, found = _list_split(root / split, classes)
                problems += found
                result[split] = _examples(files, classes, first_id)
                first_id += len(files)
        if problems:
            raise FolderError(f'{root}:\n  ' + '\n  '.join(problems))
        return result


def _folders(path: pathlib.Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith('.'))


def _list_split(
    folder: pathlib.Path, classes: list[str]
) -> tuple[list[tuple[pathlib.Path, int]], list[str]]:
    """The files of a split with their labels, and what is wrong with it."""
    problems = [
        f'{folder / name}: class {name!r} has no folder under train'
        for name in _folders(folder)
        if name not in classes
    ]
    if not classes:
        problems.append(f'{folder}: no folder of a class in it')
    files = []
    for label, name in enumerate(classes):
        paths = sorted(
            path
            for path in (folder / name).rglob('*')
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith('.') for part in path.relative_to(folder).parts)
            and not path.is_dir()
        )
        if not paths and folder.name == 'train':
            problems.append(f'{folder / name}: no image in it ({", ".join(SUFFIXES)})')
        files += [(path, label) for path in paths]
    if not files and classes and folder.name != 'train':
        problems.append(f'{folder}: no image in it')
    return files, problems


def _examples(files: list[tuple[pathlib.Path, int]], classes: list[str], first_id: int) -> Examples:
    paths = [path for path, _ in files]
    return Examples(
        load=lambda i: decode.read_image(paths[i]),
        labels=np.asarray([label for _, label in files], np.int32),
        ids=first_id + np.arange(len(files)),
        class_names=tuple(classes),
    )
