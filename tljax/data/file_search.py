"""Search for files of images or texts below folders, with notes on skipped files."""

import pathlib
from collections.abc import Callable, Iterator

from PIL import Image

from tljax.data import class_order
from tljax.data.files import SUFFIXES, printable

NOT_PIXELS = {'BUFR', 'EPS', 'GRIB', 'HDF5', 'IPTC', 'MPEG', 'WMF'}  # Pillow cannot decode these


class FileSearch:
    """Finds the files of one kind and counts skipped files.

    Args:
        what: the kind of the files, for messages.
        accepts: whether a file is of that kind; None for `is_image`.
    """

    def __init__(
        self, what: str = 'image', accepts: Callable[[pathlib.Path], bool] | None = None
    ) -> None:
        self.what, self.accepts = what, accepts or is_image
        self._skipped: dict[str, dict[pathlib.Path, None]] = {}  # an ordered set for each kind

    def folders(self, path: pathlib.Path) -> list[str]:
        """The names of the folders in a folder, in natural order, without hidden folders."""
        folders = []
        for entry in self._entries(path):
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file() and self.accepts(entry):
                self._skip(f'{self.what}(s) outside the folders of classes', entry)
        return class_order.ordered(folders)

    def images(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """The files of the kind in a folder at any depth, links included, sorted."""
        above = (folder, *folder.absolute().parents)
        return sorted(self._images(folder, tuple(map(_identity, above))))

    def any_image(self, folder: pathlib.Path) -> bool:
        """Whether a folder has a file of the kind at any depth."""
        above = (folder, *folder.absolute().parents)
        return next(self._images(folder, tuple(map(_identity, above))), None) is not None

    def _images(
        self, folder: pathlib.Path, above: tuple[tuple[int, int], ...]
    ) -> Iterator[pathlib.Path]:
        for entry in self._entries(folder):
            if entry.is_dir():
                identity = _identity(entry)
                if identity in above:
                    self._skip('link(s) to a folder that contains them', entry)
                else:
                    yield from self._images(entry, (*above, identity))
            elif entry.exists() and not entry.is_file():
                self._skip('pipe(s), socket(s) or device(s)', entry)
            elif self.accepts(entry):
                yield entry
            else:
                suffix = entry.suffix or 'suffixless'
                self._skip(f'{suffix} file(s) that are not {self.what}s', entry)

    def _entries(self, folder: pathlib.Path) -> list[pathlib.Path]:
        entries = []
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith('.'):
                self._skip('hidden file(s) and folder(s)', entry)
            else:
                entries.append(entry)
        return entries

    def _skip(self, kind: str, path: pathlib.Path) -> None:
        self._skipped.setdefault(kind, {})[path] = None

    def notes(self) -> list[str]:
        """A line for each kind of skipped files."""
        return [
            f'{len(paths)} {kind} skipped, such as {printable(next(iter(paths)))}'
            for kind, paths in self._skipped.items()
        ]


def is_image(path: pathlib.Path) -> bool:
    """Whether a file has the suffix of an image, or the first bytes of a format that Pillow reads.

    A file with the suffix of an image is not read here, so that a damaged image is reported later.
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
    except Exception:  # damaged files raise errors of almost any type
        return False


def _identity(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
