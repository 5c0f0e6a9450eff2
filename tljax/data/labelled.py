"""One split of labelled images for evaluation: from a folder, a list, or an `.npz` file.

Unlike training data, it can have a single split and any number of classes.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from tljax.data import (
    arrays,
    class_order,
    csv_cells,
    files,
    manifest,
    number_labels,
    split_folders,
)
from tljax.data.csv_cells import Columns
from tljax.data.file_search import FileSearch
from tljax.data.files import FolderError, Listed, printable
from tljax.metrics.tasks.values import Values
from tljax.storage import addresses, data_copies
from tljax.types import BadFiles, Examples, Findings

PREFERRED = ('test', 'val')  # the split that is used if none is named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images with labels.

    Attributes:
        examples: labels, or columns of multi-hot labels, are indices in `class_names`; without
            names they are the numbers in the data.
        split: the name of the split; None if the data has no splits.
        named: whether the classes have names.
        count: the number of classes.
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
    numbers: Sequence[str] | None = None,
) -> Labelled:
    """Reads the images of a split.

    Args:
        path: `DIR/<class>/*`, `DIR/{train,val,test}/<class>/*`, a list as for `Manifest`, or an
            `.npz` file as for `Arrays`.
        split: the name of the split; None for `test`, else `val`, or for data without splits.
        bad_files: whether files that cannot be read are an error or are skipped.
        columns: the columns of a list.
        numbers: the names of the numbers that are the labels; None for classes. A list has columns
            with these names.

    Raises:
        InputError: the split does not exist, has no image or label, or has bad files.
    """
    where = data_copies.local(path)
    if where.suffix.lower() == '.npz' and not where.is_dir():
        content = arrays.read(where)
        present = [name for name in split_folders.SPLITS if f'{name}_images' in content]
        split = _choose(present, split, where)
        examples, named = arrays.one_split(content, split, str(where), numbers=numbers is not None)
        count = len(examples.class_names)
        if not named:
            count = arrays.largest_label(examples.labels) + 1
        return Labelled(examples=examples, split=split, named=named, count=count)
    if addresses.in_bucket(path) and not where.is_file():
        raise FolderError(f'{path}: no such file; wanted a list of files or an .npz file')
    if numbers is not None:
        return _with_numbers(where, split, bad_files, columns, numbers)
    if where.is_dir() or not where.exists():
        listed, class_names, split, notes = _folder(where, split)
    else:
        listed, class_names, split, notes = _list(where, split, columns)
    bad = files.check_files([path for path, _ in listed])
    findings = Findings(policy=bad_files, notes=notes, bad=bad)
    if bad and bad_files is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(bad, '--bad_files=skip'))
    several = any(isinstance(label, tuple) for _, label in listed)
    examples = files.split_examples(listed, class_names, findings, several=several)
    if not len(examples):
        raise FolderError(f'{printable(where)}: no readable image\n{files.bad_files_message(bad)}')
    return Labelled(examples=examples, split=split, named=True, count=len(class_names))


def _with_numbers(
    where: pathlib.Path,
    split: str | None,
    bad_files: BadFiles,
    columns: Columns,
    names: Sequence[str],
) -> Labelled:
    """The images of a list with numbers."""
    if where.is_dir() or not where.exists():
        raise FolderError(
            f'{printable(where)}: the network predicts numbers, wanted a list with the columns '
            f'{", ".join(names)}, or an .npz file'
        )
    rows = number_labels.rows(where, names, columns)
    present = [name for name in split_folders.SPLITS if any(row[1] == name for row in rows)]
    split = _choose(present, split, where)
    chosen = [row for row in rows if row[1] == (split or '')]
    listed = [(manifest.on_disk(where.parent, path), values) for path, _, values in chosen]
    findings = Findings(policy=bad_files)
    findings.bad = files.check_files([path for path, _ in listed])
    if findings.bad and bad_files is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(findings.bad, '--bad_files=skip'))
    numbered = [(path, place) for place, (path, _) in enumerate(listed)]
    examples = number_labels.labelled(
        files.split_examples(numbered, (), findings), [v for _, v in listed], names, Values()
    )
    if not len(examples):
        bad = files.bad_files_message(findings.bad)
        raise FolderError(f'{printable(where)}: no readable image\n{bad}')
    return Labelled(examples=examples, split=split, named=True, count=len(names))


def _choose(present: Sequence[str], wanted: str | None, where: pathlib.Path) -> str | None:
    """The name of the split to read; None for data without splits."""
    if not present:
        if wanted is not None:
            raise FolderError(f'{printable(where)} has no splits: leave out --split={wanted}')
        return None
    preferred = next((name for name in PREFERRED if name in present), None)
    if (wanted or preferred) not in present:
        missing = f'no split {wanted}' if wanted else 'neither test nor val'
        raise FolderError(
            f'{printable(where)} has {missing}: --split is one of {", ".join(present)}'
        )
    return wanted or preferred


def _folder(
    root: pathlib.Path, split: str | None
) -> tuple[list[Listed], list[str], str | None, list[str]]:
    """The files of a split in a folder, the classes with images, the split's name, and notes."""
    if not root.is_dir():
        raise FolderError(f'{root}: no such folder or file')
    search = FileSearch()
    layout = split_folders.find(root, search)
    split = _choose(list(layout.splits), split, root)
    root = layout.root if split is None else layout.splits[split]
    class_files = [
        (csv_cells.clean(name), search.images(root / name)) for name in search.folders(root)
    ]
    empty = [name for name, paths in class_files if not paths]
    class_files = [(name, paths) for name, paths in class_files if paths]
    if not class_files:
        raise FolderError(f'{root}: no image of a class in it, wanted {root}/<class>/*')
    notes = [*layout.notes, *search.notes()]
    if empty:
        notes.append(f'no image of {", ".join(empty)}')
    listed: list[Listed] = [
        (path, label) for label, (_, paths) in enumerate(class_files) for path in paths
    ]
    return listed, [name for name, _ in class_files], split, notes


def _list(
    source: pathlib.Path, split: str | None, columns: Columns
) -> tuple[list[Listed], list[str], str | None, list[str]]:
    """The same for a list of files."""
    rows, notes = manifest.rows(source, columns)
    used = {name for *_, name in rows}
    split = _choose([name for name in split_folders.SPLITS if name in used], split, source)
    chosen = [(path, labels) for path, labels, name in rows if name == (split or '')]
    if repeated := _repeated(path for path, _ in chosen):
        raise FolderError(f'{printable(source)}: listed several times: {", ".join(repeated[:20])}')
    names = class_order.ordered({label for _, labels in chosen for label in labels})
    if not names:
        raise FolderError(f'{printable(source)}: no image has a label')
    numbers = {name: number for number, name in enumerate(names)}
    several = any(len(labels) != 1 for _, labels in chosen)
    listed: list[Listed] = []
    for path, labels in chosen:
        indices = tuple(numbers[label] for label in labels)
        file = manifest.on_disk(source.parent, path)
        listed.append((file, indices if several else indices[0]))
    return listed, names, split, notes


def _repeated(paths: Iterable[str]) -> list[str]:
    return [path for path, count in collections.Counter(paths).items() if count > 1]
