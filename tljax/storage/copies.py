"""Local copies of what is in buckets, in the cache folder: one for each version of its content."""

import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable

from tljax import environment
from tljax.storage import bucket as buckets
from tljax.storage.addresses import AddressError
from tljax.storage.bucket import Bucket

FORMER_SECONDS = 3600.0  # after which the copy of an earlier version is deleted


def file(address: str) -> pathlib.Path | None:
    """The local copy of the file at an address; None if there is no such file.

    Raises:
        AddressError: the address cannot be accessed, or there is no copy when offline.
        BucketError: the bucket does not answer.
    """
    if environment.offline():
        return latest(address)
    bucket = Bucket(address)
    with buckets.at_start(bucket):
        entry = bucket.entry()
    if entry is None:
        return None
    return made(
        address,
        f'{entry.size} {entry.version}',
        lambda path: bucket.download('', path, entry.size),
    )


def made(address: str, version: str, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The local copy of a file or folder. It gets its name when it is complete.

    Args:
        address: of the original.
        version: of its content.
        fill: downloads it to a path, whose parent exists.
    """
    folder = _folder(address) / _digits(version)
    if not folder.is_dir():
        part = folder.with_name(f'{folder.name}.{uuid.uuid4().hex}.part')
        part.mkdir(parents=True)
        try:
            fill(part / name_of(address))
            with contextlib.suppress(OSError):  # another process has made it
                part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        _delete_former(folder)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder / name_of(address)


def name_of(address: str) -> str:
    """The last part of an address."""
    return address.rstrip('/').rpartition('/')[2]


def latest(address: str) -> pathlib.Path:
    """The latest copy of the file or folder at an address.

    Raises:
        AddressError: there is no copy.
    """
    copies = [path for path in _folder(address).glob('*') if path.suffix != '.part']
    if not copies:
        raise AddressError(
            f'{address}: there is no local copy, and nothing is downloaded while TLJAX_OFFLINE or '
            'HF_HUB_OFFLINE is set'
        )
    return max(copies, key=lambda path: path.stat().st_mtime) / name_of(address)


def _delete_former(folder: pathlib.Path) -> None:
    """Deletes copies of earlier versions, except those that a process may still read."""
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            if other != folder and time.time() - other.stat().st_mtime > FORMER_SECONDS:
                shutil.rmtree(other)


def _folder(address: str) -> pathlib.Path:
    return environment.cache_dir() / 'copies' / _digits(address.rstrip('/'))


@functools.cache
def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
