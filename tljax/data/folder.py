"""A folder of images: `DIR/<class>/*`, or `DIR/{train,val,test}/<class>/*`."""

import dataclasses
import pathlib
from collections.abc import Mapping

from tljax.data import cells, files, split_folders, subsets
from tljax.data.files import FolderError, Listed, Walk
from tljax.data.split_folders import Layout
from tljax.types import BadFiles, Examples, Findings

SHOWN = 20  # files in two splits that one message names


@dataclasses.dataclass(slots=True, kw_only=True)
class Folder:
    """Images in one folder per class, in one folder per split or without.

    Classes are the folders under `train`, in natural order. Other spellings of the splits count too
    (`Training`, `validation`, `test_set`). Without splits the folders of `path` are the classes.
    Where nothing is held out, there or with
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
    problems = []
    if not 0 < test_fraction < 1:
        problems.append(f'test_fraction is {test_fraction}, wanted 0 < x < 1')
    if split_seed < 0:
        problems.append(f'split_seed is {split_seed}, wanted at least 0')
    if least_px < 1:
        problems.append(f'least_px is {least_px}, wanted more than 0')
    return problems


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
        actual = 'a file: a list of files is a Manifest' if root.exists() else 'no such folder'
        raise FolderError(f'{root}: wanted a folder of images; found {actual}')
    walk = Walk()
    layout = split_folders.find(root, walk)
    if layout.splits:
        listed, classes, problems = _split_listing(layout, walk)
        problems += _in_two_splits(listed)
    else:
        classes = [cells.clean(name) for name in layout.classes]
        labelled_files, problems = _list_split(layout.root, classes, walk, wanted_all=True)
        listed = {'': labelled_files}
        problems += _one_level(root, classes)
    problems += [
        f'{root}: the name of the class {name} is not UTF-8: rename the folder'
        for name in classes
        if not files.is_utf8(name)
    ]
    if problems:
        raise FolderError(f'{root}:\n  ' + '\n  '.join(map(files.printable, problems)))
    return listed, classes, [*layout.notes, *walk.notes()]


def _split_listing(
    layout: Layout, walk: Walk
) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    """The files of each split, the classes, and what is wrong with them."""
    if 'train' not in layout.splits:
        there = 'train/<class>/* and test/<class>/* in it'
        names = walk.folders(layout.root)
        raise FolderError(f"{layout.root}: wanted {there}; missing ['train'], found {names}")
    classes = list(map(cells.clean, walk.folders(layout.splits['train'])))
    listed, problems = {}, []
    for split, folder in layout.splits.items():
        listed[split], said = _list_split(folder, classes, walk, wanted_all=split == 'train')
        problems += said
    return listed, classes, problems


def _in_two_splits(listed: dict[str, list[Listed]]) -> list[str]:
    """Files that more than one split reaches, by links or under several names."""
    seen: dict[tuple[int, int], tuple[str, pathlib.Path]] = {}
    problems = []
    for split, split_files in listed.items():
        for path, _ in split_files:
            if not path.exists():  # a broken link, which the look at all files reports
                continue
            state = path.stat()
            other, first = seen.setdefault((state.st_dev, state.st_ino), (split, path))
            if other != split:
                problems.append(f'{path} ({split}) and {first} ({other}) are the same file')
    shown, more = problems[:SHOWN], len(problems) - SHOWN
    return shown if more <= 0 else [*shown, f'and {more} more files in two splits']


def _list_split(
    folder: pathlib.Path, classes: list[str], walk: Walk, *, wanted_all: bool
) -> tuple[list[Listed], list[str]]:
    """The files of a split with their labels, and what is wrong with it."""
    names = walk.folders(folder)
    own = {cells.clean(name): name for name in names}  # macOS writes accents in another form
    problems = [
        f'{folder / name}: class {name!r} has no folder under train'
        for clean, name in own.items()
        if clean not in classes
    ]
    if len(own) < len(names):
        problems.append(f'{folder}: folders whose names are alike but for their Unicode form')
    if not names:
        problems.append(f'{folder}: no folder of a class in it{_loose(folder)}')
    listed: list[Listed] = []
    for label, name in enumerate(classes):
        paths = walk.images(folder / own[name]) if name in own else []
        if not paths and wanted_all:
            problems.append(f'{folder / name}: no image in it')
        problems += _folders_in_a_class(folder / own.get(name, name), paths)
        listed += [(path, label) for path in paths]
    if not listed and names and not wanted_all:
        problems.append(f'{folder}: no image in it{_loose(folder)}')
    return listed, problems


def _loose(folder: pathlib.Path) -> str:
    """What a message adds on images that lie beside the folders of classes, and what is wanted."""
    count = sum(path.is_file() and files.is_image(path) for path in folder.iterdir())
    lie = f', {count} image(s) lie directly in it' if count else ''
    return f'{lie}; wanted {folder}/<class>/*'


def _folders_in_a_class(folder: pathlib.Path, paths: list[pathlib.Path]) -> list[str]:
    """What is wrong with a class whose images all lie in several folders of their own."""
    inside = {path.relative_to(folder).parts[:-1][:1] for path in paths}
    if () in inside or len(inside) < 2:
        return []
    names = ', '.join(sorted(name for (name,) in inside)[:3])
    return [
        f'{folder}: the folder of a class, whose images lie in {len(inside)} folders ({names}, '
        '...); wanted the images of one class, or train/<class>/* and test/<class>/* for splits'
    ]


def _one_level(root: pathlib.Path, classes: list[str]) -> list[str]:
    """What is wrong with a folder whose images have no class, or one."""
    loose = [p.name for p in root.iterdir() if p.is_file() and files.is_image(p)]
    if loose and not classes:
        wanted = f'wanted {root}/<class>/*, or a Manifest'
        return [f'{root}: {len(loose)} image(s) lie in it, in no folder of a class; {wanted}']
    if len(classes) == 1:
        return [f'{root}: one folder, {classes[0]!r}; wanted two classes or more, a folder each']
    return []
