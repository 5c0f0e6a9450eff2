"""Downloads files into the cache folder, and verifies cached files.

A file is stored as `<8 hex digits of its address's SHA-256>-<its name>`, with

    ….sha256       its SHA-256 after the download
    ….part         the bytes of an unfinished download, locked by the process that downloads it
    ….part.json    the version of that file, for resuming
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Self

import rich.console
import rich.progress

from tljax import environment
from tljax.environment import offline
from tljax.records import progress_bars
from tljax.weights import transfer
from tljax.weights.transfer import Address, DownloadError

__all__ = ['DownloadError', 'download', 'file_sha256', 'folder', 'is_cached', 'offline', 'refusal']

LOGGED_BYTES = 10_000_000  # downloads of smaller files are not logged
HEADER_BYTES = 100_000_000  # the largest header that the safetensors library accepts
SUM_IN_NAME = re.compile(r'-([0-9a-f]{8,64})(\.\w+){1,2}$', re.IGNORECASE)


def download(url: str) -> pathlib.Path:
    """The file at `url` (http or https), from the cache folder or the network.

    A file gets its name only after a complete download: it has the announced length, its SHA-256
    begins with the digits at the end of its name (if there are any), and it is no web page, error
    message or pointer. An interrupted download is resumed, also by a later run, if the server
    still has the same version. A cached file is verified at every call; a damaged one is downloaded
    again, or refused when offline. If several processes need a file, one of them downloads it.

    Raises:
        DownloadError: the server does not answer, the file is not the expected one, or it cannot be
            stored.
    """
    address = transfer.parse(url)
    path = _path_of(address)
    try:
        flaw = _flaw(path, address.name)
        if flaw is None:
            return path
        if offline():
            raise DownloadError(
                f'{address}: {path} {flaw}, and nothing is downloaded while TLJAX_OFFLINE or '
                'HF_HUB_OFFLINE is set'
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(_beside(path, '.part'), address) as part:
            if _flaw(path, address.name) is None:  # another process has downloaded it
                _beside(path, '.part').unlink()
            else:
                _fetch(address, path, part)
    except OSError as error:
        raise DownloadError(
            f'{address}: cannot be stored in {path.parent}: {error.strerror or error}; '
            'set TLJAX_CACHE to another folder'
        ) from error
    return path


def is_cached(url: str) -> bool:
    """Whether the file at `url` was downloaded before."""
    return _path_of(transfer.parse(url)).exists()


def _path_of(address: Address) -> pathlib.Path:
    digits = hashlib.sha256(address.url.encode()).hexdigest()[:8]
    return folder() / f'{digits}-{address.name}'


def folder() -> pathlib.Path:
    """The folder of downloaded files."""
    return environment.cache_dir() / 'weights'


def file_sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def checked_by(path: pathlib.Path, digest: str) -> str | None:
    """What states the SHA-256 of a file, which is the one it has; None if nothing does.

    Args:
        path: the file.
        digest: its SHA-256, in hexadecimal.
    """
    in_name, record = SUM_IN_NAME.search(path.name), _beside(path, '.sha256')
    target = path.readlink().name if path.is_symlink() else ''  # a hub's cache: blobs/<sum>
    if target == digest:
        return 'the SHA-256 that its hub states'
    if in_name and digest.startswith(in_name[1].lower()):
        return f'the SHA-256 in its name, {len(in_name[1])} digits'
    if record.is_file() and record.read_text(errors='replace').startswith(f'{digest} '):
        return f'the SHA-256 in {record.name}'
    return None


def refusal(path: pathlib.Path) -> str | None:
    """Why a file cannot be weights, by its first bytes and its length; None if it can be.

    Web pages, JSON and git-lfs pointers, which servers send instead of a file, are recognised by
    their first bytes. The length of safetensors files and zip archives (torch, npz) is checked.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        start = file.read(1 << 16)
    if not size:
        return 'it is empty'
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') <= size - 8:
        return _safetensors_refusal(path)  # first, because its length can look like another format
    if start[:4] == b'PK\x03\x04':
        return None if zipfile.is_zipfile(path) else 'it is a zip archive that is cut short'
    text = start.removeprefix(b'\xef\xbb\xbf').strip()
    quoted = ' '.join(text[:80].decode(errors='replace').split())
    if text.startswith(b'<'):
        return f'it is a web page or XML: {quoted!r}'
    if text.startswith(b'version https://git-lfs'):
        return 'it is a git-lfs pointer instead of the file'
    if text.startswith((b'{', b'[')):
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(text)
            return f'it is JSON: {quoted!r}'
    return None


def _safetensors_refusal(path: pathlib.Path) -> str | None:
    with path.open('rb') as file:
        (length,) = struct.unpack('<Q', file.read(8))
        try:
            header = json.loads(file.read(min(length, HEADER_BYTES)))
            header.pop('__metadata__', None)
            end = 8 + length + max((e['data_offsets'][1] for e in header.values()), default=0)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return 'it begins like a safetensors file, but its header cannot be read'
    size = path.stat().st_size
    return None if size == end else f'its header states {end} bytes, but it has {size}'


def _beside(path: pathlib.Path, suffix: str) -> pathlib.Path:
    return path.with_name(path.name + suffix)


def _flaw(path: pathlib.Path, name: str) -> str | None:
    """Why a cached file cannot be used; None if it can.

    The SHA-256 of a file that the user put there is recorded.
    """
    if not path.exists():
        return 'does not exist'
    digest, record = file_sha256(path), _beside(path, '.sha256')
    if record.exists():
        known = record.read_text(errors='replace').partition(' ')[0]
        if digest == known:
            return None
        return f'has been damaged: its SHA-256 is {digest}, and was {known} after the download'
    if problem := _problem(path, name, digest):
        return f'is not the expected file: {problem}'
    with contextlib.suppress(OSError):  # the folder may be read-only
        _record(path, digest)
    return None


def _record(path: pathlib.Path, digest: str) -> None:
    """Writes the SHA-256 in the format of `sha256sum`."""
    _beside(path, '.sha256').write_text(f'{digest}  {path.name}\n')


def problem_of(path: pathlib.Path) -> str | None:
    """Why a file cannot be the weights that its name promises; None if it can be."""
    return _problem(path, path.name, file_sha256(path))


def _problem(path: pathlib.Path, name: str, digest: str) -> str | None:
    """Why a complete file is not the expected one."""
    problem, expected = refusal(path), SUM_IN_NAME.search(name)
    if problem is None and expected and not digest.startswith(expected[1].lower()):
        return (
            f'its SHA-256 is {digest}, but its name ends in {expected[1]} (if that is no SHA-256, '
            'download the file by hand and give its path)'
        )
    return problem


@contextlib.contextmanager
def _locked(path: pathlib.Path, address: Address) -> Iterator[BinaryIO]:
    """A file open for appending, locked by this process; waits for another process's lock."""
    while True:
        with path.open('a+b') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f'{address}: waiting for another process that downloads it', file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            # The process that held the lock may have renamed or removed the file.
            if _is_named(file, path):
                yield file
                return


def _is_named(file: BinaryIO, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fetch(address: Address, path: pathlib.Path, part: BinaryIO) -> None:
    """Downloads, verifies and renames the file; keeps an unfinished part if it can be resumed."""
    part_path, version = _beside(path, '.part'), _beside(path, '.part.json')
    try:
        with _Progress(address.name) as progress:
            transfer.complete(address, part, version, progress.at)
        digest = file_sha256(part_path)
        if problem := _problem(part_path, address.name, digest):
            raise DownloadError(f'{address}: the download is not the expected file: {problem}')
        _record(path, digest)
        version.unlink(missing_ok=True)
    except transfer.BrokenError as error:
        if not version.exists():
            part_path.unlink()
        raise DownloadError(
            f'{address}: could not be downloaded: {error}; a local file can be given by its path'
        ) from error
    except (DownloadError, OSError):
        part_path.unlink(missing_ok=True)
        version.unlink(missing_ok=True)
        raise
    part_path.replace(path)


class _Progress:
    """Shows the progress of a download on stderr: a bar on a terminal, or two lines in a log."""

    def __init__(self, name: str):
        self._name, self._size, self._started = name, 0, time.monotonic()
        self._console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn('{task.description}'),
            rich.progress.BarColumn(),
            rich.progress.DownloadColumn(),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=self._console,
            disable=not progress_bars.can_draw(self._console),
        )
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def at(self, have: int, size: int | None) -> None:
        """Shows `have` of `size` bytes; `size` can be unknown."""
        self._bar.update(self._task, completed=have, total=size)
        if not self._size and max(have, size or 0) > LOGGED_BYTES:
            self._size = max(have, size or 0)
            self._log(f'downloading {self._name}, {self._size / 1e6:.0f} MB')

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        if self._size and kind is None:
            self._log(f'downloaded {self._name} in {time.monotonic() - self._started:.0f} s')

    def _log(self, line: str) -> None:
        if not progress_bars.can_draw(self._console):
            self._console.print(line)
