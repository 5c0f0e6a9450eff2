"""Image files: finding them below a folder, looking at each before a run, and handing them out."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from PIL import Image

from tljax.data import class_order, decode, depth, scan
from tljax.types import BadFiles, Examples, Findings, InputError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff')
LEAST_PX = 2  # of each side; a line of pixels or a single one is no picture of anything
SHOWN = 100  # bad files that one message names
THREADS = 8
NOT_PIXELS = {'BUFR', 'EPS', 'GRIB', 'HDF5', 'IPTC', 'MPEG', 'WMF'}  # Pillow only tells them
NOT_A_FILE = 'a pipe, socket, device or folder, wanted a file'
ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82', 'GIF': b';'}

Label = int | tuple[int, ...]  # where an image has several labels or none, all of them
Listed = tuple[pathlib.Path, Label]  # a file and its label


class FolderError(InputError):
    """Files that are no data set; the message lists what is wrong with them."""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFile:
    """An image that is a file of its own."""

    path: pathlib.Path

    def __str__(self) -> str:
        return printable(self.path)

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            OSError: it is no regular file or cannot be read; a pipe would wait for ever.
        """
        if self.path.exists() and not self.path.is_file():
            raise OSError(NOT_A_FILE)
        return self.path.read_bytes()

    def stamp(self) -> str:
        """Path, size and both times: that of a change of content cannot be set back."""
        status = self.path.stat()
        return f'{self.path.absolute()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}'


def printable(path: pathlib.Path | str) -> str:
    r"""A path as text that can be printed and saved; bytes that are not UTF-8 as `\udc..`."""
    return str(path).encode('utf-8', 'backslashreplace').decode()


def is_utf8(name: str) -> bool:
    """Whether a name can be saved as text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Walk:
    """Finds the images below folders and notes what it passes over."""

    def __init__(self) -> None:
        self._passed: dict[str, dict[pathlib.Path, None]] = {}  # each path once, in order

    def folders(self, path: pathlib.Path) -> list[str]:
        """The names of the folders in a folder, in natural order; hidden ones are passed over."""
        folders = []
        for entry in self._entries(path):
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file() and is_image(entry):
                self._pass('image(s) in no folder of a class', entry)
        return class_order.ordered(folders)

    def images(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """The image files at any depth and through links, sorted."""
        above = (folder, *folder.absolute().parents)
        return sorted(self._images(folder, tuple(map(_identity, above))))

    def any_image(self, folder: pathlib.Path) -> bool:
        """Whether there is an image file at any depth."""
        above = (folder, *folder.absolute().parents)
        return next(self._images(folder, tuple(map(_identity, above))), None) is not None

    def _images(
        self, folder: pathlib.Path, above: tuple[tuple[int, int], ...]
    ) -> Iterator[pathlib.Path]:
        for entry in self._entries(folder):
            if entry.is_dir():
                own = _identity(entry)
                if own in above:
                    self._pass('link(s) to a folder that they lie in', entry)
                else:
                    yield from self._images(entry, (*above, own))
            elif entry.exists() and not entry.is_file():
                self._pass('pipe(s), socket(s) or device(s)', entry)
            elif is_image(entry):
                yield entry
            else:
                self._pass(f'file(s) {entry.suffix or "without suffix"} that are no images', entry)

    def _entries(self, folder: pathlib.Path) -> list[pathlib.Path]:
        shown = []
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith('.'):
                self._pass('hidden file(s) and folder(s)', entry)
            else:
                shown.append(entry)
        return shown

    def _pass(self, kind: str, path: pathlib.Path) -> None:
        self._passed.setdefault(kind, {})[path] = None

    def notes(self) -> list[str]:
        """A line for each kind of thing that was passed over."""
        return [
            f'{len(paths)} {kind} passed over, such as {printable(next(iter(paths)))}'
            for kind, paths in self._passed.items()
        ]


def is_image(path: pathlib.Path) -> bool:
    """Whether a file has an image's suffix, or the first bytes of a format that Pillow reads.

    With an image's suffix it counts unread, so that a damaged image is reported.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    Image.init()
    try:
        with path.open('rb') as file:
            start = file.read(16)
        if not any(accept(start) for _, accept in Image.OPEN.values() if accept):
            return False
        with Image.open(path) as image:
            return image.format not in NOT_PIXELS
    except Exception:  # readers of other files raise nearly anything
        return False


def _identity(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def look(path: pathlib.Path, least_px: int = LEAST_PX, deep: set[str] | None = None) -> str | None:
    """What is wrong with an image file, found by reading its beginning and its end.

    A file that does not end as its format does is decoded, to be sure. Damage in the middle is
    not found: that takes `tljax data`.

    Args:
        path: the file.
        least_px: what each side has at least.
        deep: gets its name, if it is deeper than 8 bits.

    Returns:
        The reason in a line; None where nothing is wrong.
    """
    if not is_utf8(str(path)):
        return 'its name is not UTF-8: rename it'
    if path.is_symlink() and not path.exists():
        return f'a link to {path.readlink()}, which is not there'
    if path.exists() and not path.is_file():
        return NOT_A_FILE
    try:
        with path.open('rb') as file, Image.open(file) as image:
            limit = Image.MAX_IMAGE_PIXELS or float('inf')
            if min(image.size) < least_px or image.width * image.height > limit:
                wanted = f'sides of at least {least_px} px and at most {limit} pixels'
                return f'{image.width} x {image.height} px, wanted {wanted}'
            if deep is not None and depth.is_deep(image):
                deep.add(printable(path))
            if _ends_well(image.format, file):
                return None
        decode.read_image(path, 'own')
    except Exception as error:  # readers of damaged files raise nearly anything
        return reason(path, error)
    return None


def _ends_well(kind: str | None, file: BinaryIO) -> bool:
    """Whether the end of a file is that of its format; no, where that cannot be told quickly."""
    size = os.fstat(file.fileno()).st_size
    if kind == 'WEBP':  # RIFF begins with the length of what follows its first 8 bytes
        file.seek(4)
        return int.from_bytes(file.read(4), 'little') + 8 <= size
    file.seek(max(0, size - 16))
    return kind in ENDS and file.read().rstrip(b'\0\r\n ').endswith(ENDS[kind])


def reason(path: pathlib.Path, error: Exception) -> str:
    """What is wrong with a file, in a line that does not repeat its name."""
    if not isinstance(error, OSError) or error.errno is None:
        try:
            decode.read_image(path, 'own')  # its messages say more than Pillow's
        except decode.ImageError as better:
            error = better
    return str(error).removeprefix(f'{path}: not a readable image: ').replace(f": '{path}'", '')


def look_at_all(
    paths: Sequence[pathlib.Path], least_px: int = LEAST_PX, deep: set[str] | None = None
) -> dict[str, str]:
    """The bad ones among files, each with its reason; `deep` gets those deeper than 8 bits."""
    with ThreadPoolExecutor(THREADS) as threads:
        reasons = threads.map(lambda path: look(path, least_px, deep), paths)
        pairs = zip(paths, reasons, strict=True)
        return {printable(path): reason for path, reason in pairs if reason}


def examples(
    listed: Mapping[str, Sequence[Listed]], class_names: Sequence[str], findings: Findings
) -> dict[str, Examples]:
    """The splits of a data set of files, without the bad ones.

    Ids number all files, so that they stay when a bad one is left out.

    Args:
        listed: the files of each split with their labels.
        class_names: in the order of the labels.
        findings: of the look at all of them.

    Raises:
        FolderError: a file is bad and the policy is `error`, or a class has no other in `train`.
    """
    if findings.bad and findings.policy is BadFiles.ERROR:
        raise FolderError(bad_files_message(findings.bad))
    if findings.deep:
        trained = [ImageFile(path) for path, _ in listed['train']]
        deep = [image for image in trained if str(image) in findings.deep]
        findings.gray_range = scan.of(deep, f'{len(deep)} training images deeper than 8 bits')
    result, first_id = {}, 0
    several = any(isinstance(label, tuple) for _, label in listed['train'])
    for split, files in listed.items():
        result[split] = split_examples(files, class_names, findings, first_id, several=several)
        first_id += len(files)
    left = set(labels_of(result['train'].label_lists()))
    empty = [name for label, name in enumerate(class_names) if label not in left]
    if empty:
        bad = bad_files_message(findings.bad)
        raise FolderError(f'no good image is left in train of the classes {empty}\n{bad}')
    return result


def split_examples(
    listed: Sequence[Listed],
    class_names: Sequence[str],
    findings: Findings,
    first_id: int = 0,
    *,
    several: bool = False,
) -> Examples:
    """The files of one split, without the bad ones; ids count them all, from the first."""
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
    """Labels [N] int32, or as multi-hot [N, K] uint8 where an image has several."""
    if not several:
        return np.asarray(labels, np.int32)
    array = np.zeros((len(labels), num_classes), np.uint8)
    for row, label in zip(array, labels, strict=True):
        row[list(labels_of([label]))] = 1
    return array


def bad_files_message(bad: Mapping[str, str], flag: str = '--config.data.bad_files=skip') -> str:
    """Every bad file and its reason, a line each, and the flag that leaves them out."""
    lines = [f'{path}: {reason}' for path, reason in bad.items()]
    if len(lines) > SHOWN:
        more = f'and {len(lines) - SHOWN} more: tljax data DIR lists all'
        lines = [*lines[:SHOWN], more]
    return (
        f'{len(bad)} file(s) cannot be used; repair or remove them, or leave them out with '
        f'{flag}:\n  ' + '\n  '.join(lines)
    )
