"""A folder of images: `DIR/<class>/*`, or `DIR/{train,val,test}/<class>/*`."""

import dataclasses
import pathlib
from collections.abc import Mapping

from tljax.data import files, subsets
from tljax.data.files import FolderError, Listed, Walk
from tljax.types import BadFiles, Examples, Findings

SPLITS = ('train', 'val', 'test')


@dataclasses.dataclass(slots=True, kw_only=True)
class Folder:
    """Images in one folder per class, in one folder per split or without.

    Classes are the folders under `train`, in alphabetical order. Without a folder `train`, `val`
    or `test`, the folders of `path` are the classes. Where nothing is held out, there or with
    `train` alone, the test split is drawn, class by class; with `train` and `val` there is none.
    Files and folders whose names begin with a dot are passed over. Nothing is ever written there.
    """

    path: str
    bad_files: BadFiles = BadFiles.ERROR
    test_fraction: float = 0.2  # of each class, where nothing is held out
    split_seed: int = 0  # of that draw
    least_px: int = files.LEAST_PX  # of each side of an image

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return problems_of(self.test_fraction, self.split_seed, self.least_px)

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` where they have folders or are drawn.

        Raises:
            FolderError: `train` or a class is missing, a split is empty, a class stands in another
                split only, or files are bad; all of it in one message.
        """
        listed, classes, notes = listing(self.path)
        paths = [path for split in listed.values() for path, _ in split]
        listed, said = held_out(listed, self.test_fraction, self.split_seed)
        findings = Findings(
            policy=self.bad_files,
            notes=[*notes, *said],
        )
        findings.bad = files.look_at_all(paths, self.least_px, findings.deep)
        return files.examples(listed, classes, findings)


def problems_of(test_fraction: float, split_seed: int, least_px: int) -> list[str]:
    """What `validate` reports of a source of files."""
    found = []
    if not 0 < test_fraction < 1:
        found.append(f'test_fraction is {test_fraction}, wanted 0 < x < 1')
    if split_seed < 0:
        found.append(f'split_seed is {split_seed}, wanted at least 0')
    if least_px < 1:
        found.append(f'least_px is {least_px}, wanted more than 0')
    return found


def held_out(
    listed: dict[str, list[Listed]], fraction: float, seed: int
) -> tuple[dict[str, list[Listed]], list[str]]:
    """The same splits, or `train` and `test` where there is one alone, and what is to be said."""
    if len(listed) > 1:
        return listed, []
    (everything,) = listed.values()
    note = f'there is train alone: {100 * fraction:g} % of each class of it is the test split'
    return drawn(everything, fraction, seed), [note] if 'train' in listed else []


def drawn(everything: list[Listed], fraction: float, seed: int) -> dict[str, list[Listed]]:
    """`train` and `test` of files that are not split, class by class.

    Raises:
        FolderError: a class has a single file, or one of the splits would be empty.
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


def listing(path: str) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    """The files of each split, the classes, and notes; one split named '' where there is none.

    Args:
        path: the folder.

    Raises:
        FolderError: as for `Folder.splits`, but for bad files.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        found = 'a file: a list of files is a Manifest' if root.exists() else 'no such folder'
        raise FolderError(f'{root}: wanted a folder of images; found {found}')
    walk = Walk()
    folders = walk.folders(root)
    if set(folders) & set(SPLITS):
        listed, classes, problems = _split_listing(root, folders, walk)
    else:
        classes = folders
        found, problems = _list_split(root, classes, walk, wanted_all=True)
        listed = {'': found}
        problems += _one_level(root, classes)
    problems += [
        f'{root}: the name of the class {name} is not UTF-8: rename the folder'
        for name in classes
        if not files.is_utf8(name)
    ]
    if problems:
        raise FolderError(f'{root}:\n  ' + '\n  '.join(map(files.printable, problems)))
    return listed, classes, walk.notes()


def _split_listing(
    root: pathlib.Path, folders: list[str], walk: Walk
) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    """The files of each split, the classes, and what is wrong with them."""
    if 'train' not in folders:
        there = 'train/<class>/* and test/<class>/* in it'
        raise FolderError(f"{root}: wanted {there}; missing ['train'], found {folders}")
    classes = walk.folders(root / 'train')
    listed, problems = {}, []
    for split in SPLITS:
        if split in folders:
            found = _list_split(root / split, classes, walk, wanted_all=split == 'train')
            listed[split] = found[0]
            problems += found[1]
    return listed, classes, problems


def _list_split(
    folder: pathlib.Path, classes: list[str], walk: Walk, *, wanted_all: bool
) -> tuple[list[Listed], list[str]]:
    """The files of a split with their labels, and what is wrong with it."""
    problems = [
        f'{folder / name}: class {name!r} has no folder under train'
        for name in walk.folders(folder)
        if name not in classes
    ]
    if not classes:
        problems.append(f'{folder}: no folder of a class in it, wanted {folder}/<class>/*')
    listed: list[Listed] = []
    for label, name in enumerate(classes):
        there = (folder / name).is_dir()
        paths = walk.images(folder / name) if there else []
        if not paths and wanted_all:
            problems.append(f'{folder / name}: no image in it ({", ".join(files.SUFFIXES)})')
        listed += [(path, label) for path in paths]
    if not listed and classes and not wanted_all:
        problems.append(f'{folder}: no image in it')
    return listed, problems


def _one_level(root: pathlib.Path, classes: list[str]) -> list[str]:
    """What is wrong with a folder whose images have no class, or one."""
    loose = [p.name for p in root.iterdir() if p.suffix.lower() in files.SUFFIXES and p.is_file()]
    if loose and not classes:
        wanted = f'wanted {root}/<class>/*, or a Manifest'
        return [f'{root}: {len(loose)} image(s) lie in it, in no folder of a class; {wanted}']
    if len(classes) == 1:
        return [f'{root}: one folder, {classes[0]!r}; wanted two classes or more, a folder each']
    return []
