"""The file of a lease, on a file system or in a bucket."""

import os
import pathlib
import time
import uuid
from typing import Protocol

from tljax.storage.bucket import Bucket


class LeaseFile(Protocol):
    """A small file that several processes write; only `create` must be atomic."""

    def __str__(self) -> str: ...

    def create(self, text: str) -> bool:
        """Writes the file unless it exists; returns whether it did not exist."""
        ...

    def read(self) -> str:
        """The content.

        Raises:
            OSError: there is no such file.
        """
        ...

    def replace(self, text: str) -> None:
        """Writes another content."""
        ...

    def renew(self, text: str) -> None:
        """Sets the time of the file to the present; `text` is its content."""
        ...

    def age(self) -> float | None:
        """Seconds since it was written, by the clock of its storage; None if there is no file."""
        ...

    def delete(self) -> None:
        """Deletes the file, if it exists."""
        ...

    def named(self, suffix: str) -> 'LeaseFile':
        """A file in the same folder, with a suffix after the name."""
        ...


class LocalFile:
    """The file of a lease on a file system, which needs no file locks."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def create(self, text: str) -> bool:
        """See `LeaseFile`; the folder is made."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._path.open('x') as file:
                file.write(text)
        except FileExistsError:
            return False
        return True

    def read(self) -> str:
        """See `LeaseFile`."""
        return self._path.read_text()

    def replace(self, text: str) -> None:
        """See `LeaseFile`; readers see the old or the new content."""
        part = self._path.with_name(f'{self._path.name}.{uuid.uuid4().hex}')
        part.write_text(text)
        part.replace(self._path)

    def renew(self, text: str) -> None:
        """See `LeaseFile`."""
        os.utime(self._path)

    def age(self) -> float | None:
        """See `LeaseFile`."""
        try:
            return self._now() - self._path.stat().st_mtime
        except FileNotFoundError:
            return None

    def delete(self) -> None:
        """See `LeaseFile`."""
        self._path.unlink(missing_ok=True)

    def named(self, suffix: str) -> 'LocalFile':
        """See `LeaseFile`."""
        return LocalFile(self._path.with_name(self._path.name + suffix))

    def _now(self) -> float:
        """The time by the clock of the file system, which may be another host's."""
        probe = self._path.with_name(f'.clock-{uuid.uuid4().hex}')
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            probe.unlink(missing_ok=True)


class BucketFile:
    """The object of a lease in a bucket."""

    def __init__(self, bucket: Bucket, name: str):
        self._bucket, self._name = bucket, name

    def __str__(self) -> str:
        return f'{self._bucket.address}/{self._name}'

    def create(self, text: str) -> bool:
        """See `LeaseFile`."""
        return self._bucket.create(self._name, text.encode())

    def read(self) -> str:
        """See `LeaseFile`."""
        content = self._bucket.read(self._name)
        if content is None:
            raise FileNotFoundError(str(self))
        return content.decode(errors='replace')

    def replace(self, text: str) -> None:
        """See `LeaseFile`."""
        self._bucket.write(self._name, text.encode())

    def renew(self, text: str) -> None:
        """See `LeaseFile`; an object gets a new time when it is written again."""
        self.replace(text)

    def age(self) -> float | None:
        """See `LeaseFile`. Another object is written, because its time is the bucket's present."""
        written = self._bucket.modified(self._name)
        if written is None:
            return None
        probe = f'.clock-{uuid.uuid4().hex}'
        self._bucket.write(probe, b'')
        now = self._bucket.modified(probe)
        self._bucket.delete(probe)
        return (time.time() if now is None else now) - written

    def delete(self) -> None:
        """See `LeaseFile`."""
        self._bucket.delete(self._name)

    def named(self, suffix: str) -> 'BucketFile':
        """See `LeaseFile`."""
        return BucketFile(self._bucket, self._name + suffix)
