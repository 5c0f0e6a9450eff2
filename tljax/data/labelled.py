"""One split of labelled images, to evaluate a network on: a folder, a list, or an `.npz` file.

Unlike a source to train on, a single split is enough, and any number of classes.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from tljax.data import arrays, cells, class_order, files, manifest, split_folders
from tljax.data.cells import Columns
from tljax.data.files import FolderError, Listed, Walk
from tljax.types import BadFiles, Examples, Findings

CHOICE = ('test', 'val', 'train')  # which split is meant where none is named; the last never is


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images with labels.

    Attributes:
        examples: labels, or columns of several, are places in `class_names`, or numbers of
            their own.
        split: its name; None where the data is not split.
        named: whether the classes have names.
        count: how many classes there are.
    """

    examples: Examples
    split: str | None
    named: bool
    count: int


def read(
    path: str,
    split: str | None = None,
    bad_files: BadFiles = BadFiles.ERROR,
    columns: Columns = Columns(),  # noqa: B008  frozen
) -> Labelled:
    """The images of a split.

    Args:
        path: `DIR/<class>/*`, `DIR/{train,val,test}/<class>/*`, a list as `Manifest` takes it, or
            an `.npz` file as `Arrays` takes it.
        split: which; None for `test`, else `val`, else the whole of data that is not split.
        bad_files: what becomes of files that cannot be read.
        columns: of a list.

    Raises:
        InputError: there is no such split, no image or label in it, or files are bad.
    """
    where = pathlib.Path(path).expanduser()
    if where.suffix.lower() == '.npz' and not where.is_dir():
        content = arrays.read(where)
        there = [name for name in split_folders.SPLITS if f'{name}_images' in content]
        split = _choose(there, split, where)
        examples, named = arrays.one_split(content, split, str(where))
        wide = examples.labels.shape[-1] if examples.multi_label else int(examples.labels.max()) + 1
        count = len(examples.class_names) if named else wide
        return Labelled(examples=examples, split=split, named=named, count=count)
    if where.is_dir() or not where.exists():
        listed, class_names, split, notes = _folder(where, split)
    else:
        listed, class_names, split, notes = _list(where, split, columns)
    bad = files.look_at_all([path for path, _ in listed])
    findings = Findings(policy=bad_files, notes=notes, bad=bad)
    if bad and bad_files is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(bad, '--bad_files=skip'))
    several = any(isinstance(label, tuple) for _, label in listed)
    examples = files.split_examples(listed, class_names, findings, several=several)
    if not len(examples):
        raise FolderError(f'{where}: no image that can be read\n{files.bad_files_message(bad)}')
    return Labelled(examples=examples, split=split, named=True, count=len(class_names))


def _choose(there: Sequence[str], wanted: str | None, where: pathlib.Path) -> str | None:
    """The split that is meant, of those that are there."""
    if not there:
        if wanted is not None:
            raise FolderError(f'{where} has no splits: leave --split={wanted} out')
        return None
    usual = next((name for name in CHOICE[:-1] if name in there), None)
    if (wanted or usual) not in there:
        asked = f'no split {wanted}' if wanted else 'neither test nor val'
        raise FolderError(f'{where} has {asked}: --split is one of {", ".join(there)}')
    return wanted or usual


def _folder(
    root: pathlib.Path, split: str | None
) -> tuple[list[Listed], list[str], str | None, list[str]]:
    """The files of a split, the classes that have any, the split's name, and notes."""
    if not root.is_dir():
        raise FolderError(f'{root}: there is no such folder or file')
    walk = Walk()
    layout = split_folders.find(root, walk)
    split = _choose(list(layout.splits), split, root)
    root = layout.root if split is None else layout.splits[split]
    class_files = [(cells.clean(name), walk.images(root / name)) for name in walk.folders(root)]
    empty = [name for name, paths in class_files if not paths]
    class_files = [(name, paths) for name, paths in class_files if paths]
    if not class_files:
        raise FolderError(f'{root}: no image of a class in it, wanted {root}/<class>/*')
    notes = [*layout.notes, *walk.notes()] + ([f'no image of {", ".join(empty)}'] if empty else [])
    listed: list[Listed] = [
        (path, label) for label, (_, paths) in enumerate(class_files) for path in paths
    ]
    return listed, [name for name, _ in class_files], split, notes


def _list(
    source: pathlib.Path, split: str | None, columns: Columns
) -> tuple[list[Listed], list[str], str | None, list[str]]:
    """Likewise, of a list."""
    rows, notes = manifest.rows(source, columns)
    there = {name for *_, name in rows}
    split = _choose([name for name in split_folders.SPLITS if name in there], split, source)
    chosen = [(path, labels) for path, labels, name in rows if name == (split or '')]
    if repeated := _repeated(path for path, _ in chosen):
        raise FolderError(f'{source}: listed several times: {", ".join(repeated[:20])}')
    names = class_order.ordered({label for _, labels in chosen for label in labels})
    if not names:
        raise FolderError(f'{source}: no image has a label')
    numbers = {name: number for number, name in enumerate(names)}
    several = any(len(labels) != 1 for _, labels in chosen)
    listed: list[Listed] = []
    for path, labels in chosen:
        own = tuple(numbers[label] for label in labels)
        place = manifest.on_disk(source.parent, path)
        listed.append((place, own if several else own[0]))
    return listed, names, split, notes


def _repeated(paths: Iterable[str]) -> list[str]:
    return [path for path, count in collections.Counter(paths).items() if count > 1]
