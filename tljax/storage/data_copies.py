"""Local copies of data files in buckets: lists, images and arrays.

The copy of `gs://bucket/photos/a.jpg` is `files/gs/bucket/photos/a.jpg` in the cache folder, so
paths relative to a list lead to the copies of its images. A copy has the time of modification that
its version in the bucket implies, so another version is recognised and downloaded again.
"""

import collections
import contextlib
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping

from tljax import environment
from tljax.storage import addresses
from tljax.storage import bucket as buckets
from tljax.storage.bucket import Bucket, Entry

SINGLE = 20  # files of one folder that are looked up one by one; for more, the folder is listed


def local(text: str | os.PathLike[str]) -> pathlib.Path:
    """A path of this machine; of a file in a bucket, the path of its copy, which is downloaded.

    Raises:
        AddressError: the address is not supported, or cannot be accessed.
        BucketError: the bucket does not answer.
    """
    path = place(text)
    fetch([path])
    return path


def place(text: str | os.PathLike[str]) -> pathlib.Path:
    """A path of this machine; of an address in a bucket, the path where its copy belongs.

    Raises:
        AddressError: the address is not supported.
    """
    if not addresses.in_bucket(text):
        return addresses.local_path(text)
    scheme, _, rest = os.fspath(text).partition('://')
    return _folder() / scheme.lower() / rest.rstrip('/')


def address_of(path: pathlib.Path) -> str | None:
    """The address that a path is the copy of; None for another path."""
    try:
        parts = path.relative_to(_folder()).parts
    except ValueError:
        return None
    return f'{parts[0]}://{"/".join(parts[1:])}' if len(parts) > 2 else None


def fetch(paths: Iterable[pathlib.Path]) -> None:
    """Downloads the originals of those paths that are copies, unless they are up to date.

    Files that do not exist are left out. Offline, nothing is downloaded.

    Raises:
        AddressError: an address cannot be accessed.
        BucketError: a bucket does not answer.
    """
    folders: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    for path in paths:
        if address := address_of(path):
            folders[address.rpartition('/')[0]].append(path)
    if environment.offline():
        return
    for folder, files in folders.items():
        bucket = Bucket(folder)
        with buckets.at_start(bucket):
            entries = _entries(bucket, [path.name for path in files])
        wanted = [path for path in files if path.name in entries]
        buckets.in_parallel(functools.partial(_update, bucket, entries), wanted)


def _entries(bucket: Bucket, names: list[str]) -> dict[str, Entry]:
    if len(names) > SINGLE:
        return bucket.entries()
    entries: dict[str, Entry] = {}

    def look_up(name: str) -> None:
        if entry := bucket.entry(name):
            entries[name] = entry

    buckets.in_parallel(look_up, names)
    return entries


def _update(bucket: Bucket, entries: Mapping[str, Entry], path: pathlib.Path) -> None:
    entry = entries[path.name]
    digits = hashlib.sha256(entry.version.encode()).hexdigest()
    time = int(digits[:7], 16)  # in seconds: the first years after 1970
    with contextlib.suppress(OSError):
        status = path.stat()
        if (status.st_size, int(status.st_mtime)) == (entry.size, time):
            return
    with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
        bucket.download(path.name, path, entry.size, time)


def _folder() -> pathlib.Path:
    return environment.cache_dir().absolute() / 'files'
