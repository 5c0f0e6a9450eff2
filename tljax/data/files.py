"""Image files: the check of each file before a run, and the examples of a list of files."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from PIL import Image

from tljax.data import bit_depth, decode, scan
from tljax.metrics.tasks import choice
from tljax.storage import data_copies
from tljax.types import BadFiles, Examples, Findings, InputError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff')
LEAST_PX = 2  # of each side; images of 1 pixel or one line of pixels are refused
SHOWN = 100  # bad files in one message
THREADS = 8
NOT_A_FILE = 'a pipe, socket, device or folder, wanted a file'
ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82', 'GIF': b';'}

Label = int | tuple[int, ...]  # one label; or all labels of an image, if images have several
Listed = tuple[pathlib.Path, Label]  # a file and its label


class FolderError(InputError):
    """Files that cannot be used as a data set; the message lists the reasons."""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own."""

    path: pathlib.Path

    def __str__(self) -> str:
        return printable(self.path)

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            OSError: it is not a regular file (reading a pipe would never end), or cannot be read.
        """
        if not self.path.exists():
            data_copies.fetch([self.path])  # the cache folder was emptied
        elif not self.path.is_file():
            raise OSError(NOT_A_FILE)
        return self.path.read_bytes()

    def stamp(self) -> str:
        """Path, size, and the times of modification and change; the latter cannot be set."""
        status = self.path.stat()
        return f'{self.path.absolute()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}'


def printable(path: pathlib.Path | str) -> str:
    r"""A path as printable text; bytes that are not UTF-8 become `\udc..`.

    The text of a local copy is the address of its original.
    """
    address = data_copies.address_of(path) if isinstance(path, pathlib.Path) else None
    return (address or str(path)).encode('utf-8', 'backslashreplace').decode()


def is_utf8(name: str) -> bool:
    """Whether a name is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_file(
    path: pathlib.Path, least_px: int = LEAST_PX, deep: set[str] | None = None
) -> str | None:
    """Checks an image file quickly, by reading its beginning and its end.

    A file without the end mark of its format is decoded completely. Damage in the middle of a file
    is not detected here, but by `tljax data`.

    Args:
        path: the file.
        least_px: the smallest permitted length of each side.
        deep: a set to which the path is added if the image is deeper than 8 bits.

    Returns:
        The problem in one line; None for a good file.
    """
    if not is_utf8(str(path)):
        return 'its name is not UTF-8: rename it'
    if path.is_symlink() and not path.exists():
        return f'a link to {path.readlink()}, which does not exist'
    if path.exists() and not path.is_file():
        return NOT_A_FILE
    try:
        with path.open('rb') as file, Image.open(file) as image:
            limit = Image.MAX_IMAGE_PIXELS or float('inf')
            if min(image.size) < least_px or image.width * image.height > limit:
                wanted = f'sides of at least {least_px} px and at most {limit} pixels'
                return f'{image.width} x {image.height} px, wanted {wanted}'
            if deep is not None and bit_depth.is_deep(image):
                deep.add(printable(path))
            if _ends_well(image.format, file):
                return None
        decode.read_image(path, 'own')
    except Exception as error:  # damaged files raise errors of almost any type
        return reason(path, error)
    return None


def _ends_well(kind: str | None, file: BinaryIO) -> bool:
    """Whether a file has the end mark of its format; False for formats without one."""
    size = os.fstat(file.fileno()).st_size
    if kind == 'WEBP':  # RIFF: bytes 4 to 8 are the length of the rest
        file.seek(4)
        return int.from_bytes(file.read(4), 'little') + 8 <= size
    file.seek(max(0, size - 16))
    return kind in ENDS and file.read().rstrip(b'\0\r\n ').endswith(ENDS[kind])


def reason(path: pathlib.Path, error: Exception) -> str:
    """The reason of an error in one line, without the name of the file."""
    if not isinstance(error, OSError) or error.errno is None:
        try:
            decode.read_image(path, 'own')  # its messages are more precise than Pillow's
        except decode.ImageError as better:
            error = better
    return str(error).removeprefix(f'{path}: not a readable image: ').replace(f": '{path}'", '')


def check_files(
    paths: Sequence[pathlib.Path], least_px: int = LEAST_PX, deep: set[str] | None = None
) -> dict[str, str]:
    """`{path: reason}` of the bad files; arguments as for `check_file`.

    Files in buckets are downloaded into the cache folder first.
    """
    data_copies.fetch(paths)
    with ThreadPoolExecutor(THREADS) as threads:
        reasons = threads.map(lambda path: check_file(path, least_px, deep), paths)
        pairs = zip(paths, reasons, strict=True)
        return {printable(path): reason for path, reason in pairs if reason}


def examples(
    listed: Mapping[str, Sequence[Listed]], class_names: Sequence[str], findings: Findings
) -> dict[str, Examples]:
    """The splits of a data set of files, without bad files.

    Bad files are counted by the ids too, so the other ids do not depend on them.

    Args:
        listed: the files of each split with their labels.
        class_names: names in the order of the labels.
        findings: the results of checking all files.

    Raises:
        FolderError: a file is bad and the policy is `error`, or `train` has no good image of a
            class.
    """
    if findings.bad and findings.policy is BadFiles.ERROR:
        raise FolderError(bad_files_message(findings.bad))
    if findings.deep:
        train = [ImageFile(path) for path, _ in listed['train']]
        deep = [image for image in train if str(image) in findings.deep]
        where = f'{len(deep)} training images deeper than 8 bits'
        findings.gray_range = scan.gray_range(deep, where)
    result, first_id = {}, 0
    several = any(isinstance(label, tuple) for _, label in listed['train'])
    for split, files in listed.items():
        result[split] = split_examples(files, class_names, findings, first_id, several=several)
        first_id += len(files)
    train = result['train']
    labels = set(labels_of(choice.of(train).listed(train.labels)))
    empty = [name for label, name in enumerate(class_names) if label not in labels]
    if empty:
        bad = bad_files_message(findings.bad)
        raise FolderError(f'train has no good image of the classes {empty}\n{bad}')
    return result


def split_examples(
    listed: Sequence[Listed],
    class_names: Sequence[str],
    findings: Findings,
    first_id: int = 0,
    *,
    several: bool = False,
) -> Examples:
    """The examples of one split, without bad files; ids count all files, from `first_id`."""
    good = [i for i, (path, _) in enumerate(listed) if printable(path) not in findings.bad]
    encoded = [ImageFile(listed[i][0]) for i in good]
    return Examples(
        load=decode.loader(encoded, findings.gray_range),
        labels=label_array([listed[i][1] for i in good], len(class_names), several=several),
        ids=first_id + np.asarray(good, np.int64),
        class_names=tuple(class_names),
        encoded=encoded,
        findings=findings,
    )


def labels_of(labels: Iterable[Label | list[int]]) -> Iterator[int]:
    """Every label of every image."""
    for label in labels:
        yield from (label,) if isinstance(label, int) else label


def label_array(labels: Sequence[Label], num_classes: int, *, several: bool) -> np.ndarray:
    """Labels as [N] int32, or as multi-hot [N, K] uint8 if images have several labels."""
    if not several:
        return np.asarray(labels, np.int32)
    array = np.zeros((len(labels), num_classes), np.uint8)
    for row, label in zip(array, labels, strict=True):
        row[list(labels_of([label]))] = 1
    return array


def bad_files_message(bad: Mapping[str, str], flag: str = '--config.data.bad_files=skip') -> str:
    """A message with a line for each bad file, and the flag that skips bad files."""
    lines = [f'{path}: {reason}' for path, reason in bad.items()]
    if len(lines) > SHOWN:
        more = f'and {len(lines) - SHOWN} more: tljax data DIR lists all'
        lines = [*lines[:SHOWN], more]
    return (
        f'{len(bad)} file(s) cannot be used; repair or remove them, or skip them with '
        f'{flag}:\n  ' + '\n  '.join(lines)
    )
