"""A folder in a bucket, with retries and time limits.

A call that fails is repeated after growing pauses, for `RETRY_SECONDS` in all. A call without an
answer counts as failed after `STALL_SECONDS`, and a second more for each `SLOWEST_BYTES` that it
moves. What cannot succeed later, such as a denied access, is not repeated.
"""

import contextlib
import dataclasses
import os
import pathlib
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tljax.storage import addresses
from tljax.storage.addresses import AddressError
from tljax.types import InputError

RETRY_SECONDS = 300.0
START_SECONDS = 30.0  # of retries before a run has begun, so that a wrong address is told early
STALL_SECONDS = 60.0
SLOWEST_BYTES = 1_000_000  # per second; a slower transfer counts as stalled
THREADS = 8  # of uploads and downloads
PAUSES = (1.0, 30.0)  # seconds: the first pause and the longest
NEVER_BETTER = (PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError)
DENIED = (
    'Forbidden',
    'Credential',
    'AccessDenied',
    'Unauthorized',
    'InvalidAccessKey',
    'Anonymous',
)

T = TypeVar('T')


class BucketError(InputError):
    """A bucket fails, stalls, or denies access."""


class DeniedError(BucketError):
    """The access is denied, or the bucket does not exist; repeating does not help."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object of a folder in a bucket.

    Attributes:
        size: in bytes.
        version: changes whenever the object is written again.
    """

    size: int
    version: str


class Bucket:
    """A folder in a bucket. Names of objects are relative to it, such as `checkpoints/a.json`.

    Args:
        address: of the folder, such as `gs://bucket/run`.
        retry_seconds: how long failing calls are repeated; the owner may change it.
        stall_seconds: the time limit of a call that moves no data.

    Raises:
        AddressError: the address is not supported, or a package is missing.
    """

    def __init__(
        self, address: str, retry_seconds: float | None = None, stall_seconds: float | None = None
    ):
        self.address = address.rstrip('/')
        self.retry_seconds = RETRY_SECONDS if retry_seconds is None else retry_seconds
        self._stall_seconds = STALL_SECONDS if stall_seconds is None else stall_seconds
        self.late: set[str] = set()  # objects that a call wrote after its time limit had passed
        self._system, self._root = addresses.file_system(address)

    def entries(self, folder: str = '') -> dict[str, Entry]:
        """All objects below the folder, or below one of its folders, by name."""
        root = self._path(folder)

        def find() -> dict[str, Any]:
            self._system.invalidate_cache()
            return self._system.find(root, detail=True)

        found = self._call(f'list {folder}', find, missing=lambda _: {})
        start = len(self._root) + 1
        infos = {name.lstrip('/')[start:]: info for name, info in found.items()}
        return {name: entry_of(info) for name, info in infos.items() if name}

    def entry(self, name: str = '') -> Entry | None:
        """An object of the folder, or the one at the address itself; None if there is none."""

        def info() -> dict[str, Any]:
            self._system.invalidate_cache()
            return self._system.info(self._path(name))

        found = self._call(f'read {name}', info, missing=lambda _: None)
        return entry_of(found) if found and found.get('type') == 'file' else None

    def read(self, name: str) -> bytes | None:
        """The content of a small object; None if there is none."""
        read = self._system.cat_file
        return self._call(f'read {name}', lambda: read(self._path(name)), missing=lambda _: None)

    def write(self, name: str, content: bytes) -> None:
        """Writes a small object."""
        write = self._system.pipe_file
        self._call(
            f'write {name}',
            lambda: write(self._path(name), content),
            missing=self._no_bucket,
            late=lambda: self.late.add(name),
        )

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small object unless it exists; returns whether it did not exist.

        Google Cloud Storage and S3 do this in one request (`ifGenerationMatch=0`, `If-None-Match`).
        """
        path = self._path(name)
        try:
            self._call(
                f'create {name}',
                lambda: self._system.pipe_file(path, content, mode='create'),
                missing=self._no_bucket,
            )
        except FileExistsError:
            # An earlier attempt whose answer was lost may have created it.
            return self.read(name) == content
        return True

    def modified(self, name: str) -> float | None:
        """When an object was written, in seconds since 1970 by the bucket's clock; or None."""

        def modified() -> float:
            self._system.invalidate_cache()
            return self._system.modified(self._path(name)).timestamp()

        return self._call(f'read {name}', modified, missing=lambda _: None)

    def upload(self, path: pathlib.Path, name: str) -> None:
        """Writes a file as an object. A reader gets the old content or the complete new one."""
        put, size = self._system.put_file, path.stat().st_size
        self._call(
            f'write {name}',
            lambda: put(str(path), self._path(name)),
            size,
            missing=self._no_bucket,
            late=lambda: self.late.add(name),
        )

    def download(
        self, name: str, path: pathlib.Path, size: int, modified: int | None = None
    ) -> None:
        """Reads an object into a file, which gets its name when it is complete.

        Args:
            name: of the object.
            path: of the file; its folder is made.
            size: of the object, in bytes.
            modified: the time of modification that the file gets; None for the present.

        Raises:
            FileNotFoundError: there is no such object.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'{path.name}.{uuid.uuid4().hex}.part')
        get = self._system.get_file
        self._call(f'read {name}', lambda: get(self._path(name), str(part)), size)
        if modified is not None:
            os.utime(part, (modified, modified))
        part.replace(path)

    def delete(self, name: str) -> None:
        """Deletes an object, if it exists."""
        remove = self._system.rm_file
        self._call(f'delete {name}', lambda: remove(self._path(name)), missing=lambda _: None)

    def _no_bucket(self, error: Exception) -> None:
        raise DeniedError(f'{self.address}: cannot be written to: {reason(error)}') from error

    def _path(self, name: str) -> str:
        return f'{self._root}/{name}' if name else self._root

    def _call(
        self,
        what: str,
        function: Callable[[], T],
        size: int = 0,
        missing: Callable[[Exception], T] | None = None,
        late: Callable[[], None] | None = None,
    ) -> T:
        """Calls a function until it succeeds.

        Args:
            what: the action, for messages.
            function: makes the request.
            size: the bytes that it moves.
            missing: makes the result from the error of an object or bucket that does not exist.
            late: is called if a request succeeds after its time limit.

        Raises:
            FileNotFoundError: the object does not exist, and there is no `missing`.
            FileExistsError: it exists.
            BucketError: it did not succeed within the time for retries.
        """
        started, pause = time.monotonic(), PAUSES[0]
        while True:
            try:
                return within(self._stall_seconds + size / SLOWEST_BYTES, function, late)
            except FileNotFoundError as error:
                if missing is None:
                    raise
                return missing(error)
            except FileExistsError:
                raise
            except Exception as error:  # each provider has its own kinds
                text = f'{self.address}: cannot {what.strip()}: {reason(error)}'
                if is_denied(error):
                    raise DeniedError(text) from error
                spent = time.monotonic() - started
                if spent + pause > self.retry_seconds:
                    raise BucketError(f'{text} (tried for {spent:.0f} s)') from error
            time.sleep(pause)
            pause = min(2 * pause, PAUSES[1])


def entry_of(info: dict[str, Any]) -> Entry:
    """An entry from fsspec's description of an object, whose keys depend on the provider."""
    keys = ('generation', 'etag', 'ETag', 'md5Hash', 'updated', 'LastModified', 'created', 'mtime')
    version = next((f'{key} {info[key]}' for key in keys if info.get(key)), '')
    return Entry(size=int(info.get('size') or 0), version=version)


def is_denied(error: Exception) -> bool:
    """Whether an error is about rights, credentials or the request itself."""
    text = f'{type(error).__name__} {error}'
    return isinstance(error, (*NEVER_BETTER, AttributeError, TypeError, ValueError)) or any(
        word in text for word in DENIED
    )


def reason(error: BaseException) -> str:
    """An error of a provider in one short line."""
    text = ' '.join(str(error).split()) or 'no reason was given'
    return f'{type(error).__name__}: {text:.200}'


def within(seconds: float, function: Callable[[], T], late: Callable[[], None] | None = None) -> T:
    """The result of a function in a thread, which is left behind if it takes longer.

    Args:
        seconds: the time limit.
        function: the function.
        late: is called if the function succeeds after that.

    Raises:
        TimeoutError: it takes longer.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    abandoned = threading.Event()

    def call() -> None:
        try:
            results.put((function(), None))
            if late is not None and abandoned.is_set():
                late()
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        abandoned.set()
        raise TimeoutError(f'no answer within {seconds:.0f} s') from None
    if error is not None:
        raise error
    return result  # pyright: ignore[reportReturnType]


def in_parallel(function: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Calls a function for every item in several threads.

    Raises:
        Exception: the first error of a call; items that were not begun are left out.
    """
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    errors: list[BaseException] = []

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not errors:
                item = waiting.get_nowait()
                try:
                    function(item)
                except BaseException as error:
                    errors.append(error)

    # Daemons, because the threads of an executor would delay the end of a process that is stopped.
    count = min(THREADS, waiting.qsize())
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def at_start(bucket: Bucket) -> Iterator[None]:
    """Shortens the retries, and reports a denied access as an error of the input.

    Raises:
        AddressError: the access is denied, or the bucket does not exist.
    """
    before, bucket.retry_seconds = bucket.retry_seconds, min(START_SECONDS, bucket.retry_seconds)
    try:
        yield
    except DeniedError as error:
        raise AddressError(str(error)) from error
    finally:
        bucket.retry_seconds = before
