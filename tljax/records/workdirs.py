"""The folder of a run: a local one, or one in a bucket with a local copy in which the run works.

The copy is in the cache folder. It is downloaded when the run starts, and a thread uploads what
changes. At the end it is deleted.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from tljax import environment
from tljax.records import console, lease, run_download, run_upload
from tljax.records.folder_lock import LOCK_FILE, BusyError
from tljax.records.lease import Lease
from tljax.records.lease_files import BucketFile
from tljax.storage import bucket as buckets
from tljax.storage.addresses import AddressError
from tljax.storage.bucket import Bucket, BucketError
from tljax.types import InputError

POLL_SECONDS = 1.0  # between looks for a committed checkpoint
RECORDS_SECONDS = 60.0  # between uploads of records without a new checkpoint
LOCK_SECONDS = 15.0  # of a request for the lock, well below the life of a lock

_mirrors: dict[pathlib.Path, '_Mirror'] = {}  # by local copy


@contextlib.contextmanager
def opened(place: pathlib.Path | str) -> Iterator[pathlib.Path]:
    """The local folder in which a run works, whose files are uploaded if it runs in a bucket.

    Args:
        place: a local folder, or an address of a bucket as text.

    Yields:
        The local folder, or the local copy.

    Raises:
        AddressError: the address cannot be accessed; nothing was changed.
        BusyError: another process writes into the folder of the bucket.
        BucketError: an upload failed. What was uploaded before is intact.
    """
    if isinstance(place, pathlib.Path):
        yield place
        return
    folder = _folder_of(place)
    with _locked(place) as held:
        mirror = _Mirror(Bucket(place), folder, held) if held else None
        _wait_until_shared(place, folder)
        try:
            with mirror or contextlib.nullcontext(), _named(folder, place):
                yield folder
        finally:
            _mirrors.pop(folder, None)


def check_uploads(folder: pathlib.Path) -> None:
    """Raises the error that stopped the uploads, if the folder is in a local copy.

    Raises:
        BucketError: an upload failed.
    """
    if mirror := _mirror_of(folder):
        mirror.check()


def shown(path: pathlib.Path) -> str:
    """A path for messages: in a local copy, the address in the bucket."""
    mirror = _mirror_of(path)
    return str(path) if mirror is None else str(path).replace(str(mirror.folder), mirror.address, 1)


def _mirror_of(path: pathlib.Path) -> '_Mirror | None':
    path = path.absolute()
    return next((_mirrors[one] for one in (path, *path.parents) if one in _mirrors), None)


def _folder_of(address: str) -> pathlib.Path:
    digits = hashlib.sha256(address.encode()).hexdigest()[:16]
    name = address.rpartition('/')[2]
    return (environment.cache_dir() / 'runs' / f'{digits}-{name}').absolute()


@contextlib.contextmanager
def _locked(address: str) -> Iterator[Lease | None]:
    """Locks a folder in a bucket; None in processes other than the first of a run.

    Raises:
        AddressError: the address cannot be accessed, or objects cannot be written and deleted.
        BusyError: another process holds the lock.
    """
    if jax.process_index() > 0:
        yield None
        return
    bucket = Bucket(address, retry_seconds=LOCK_SECONDS, stall_seconds=LOCK_SECONDS)
    file = BucketFile(bucket, LOCK_FILE)
    with buckets.at_start(bucket):
        probe = f'.clock-{uuid.uuid4().hex}'
        bucket.write(probe, b'')
        bucket.delete(probe)
        held = lease.acquire(file)
        if held is None:
            owner = lease.read(file) or 'another process'
            raise BusyError(f'{address}: {owner} is writing into this folder')
    if held.previous:
        text = f'{held.previous} ended without releasing {address}; this process takes it over.'
        console.console.print(text, markup=False, soft_wrap=True)
    try:
        yield held
    finally:
        with contextlib.suppress(BucketError):  # it becomes stale
            held.release()


@contextlib.contextmanager
def _named(folder: pathlib.Path, address: str) -> Iterator[None]:
    """Names the address instead of its local copy in the messages of errors."""
    try:
        yield
    except InputError as error:
        error.args = tuple(
            part.replace(str(folder), address) if isinstance(part, str) else part
            for part in error.args
        )
        raise


def _wait_until_shared(address: str, folder: pathlib.Path) -> None:
    """Waits until the first of several processes has made the copy, and checks that all see it.

    Raises:
        AddressError: the processes run on hosts that share no cache folder.
    """
    if jax.process_count() == 1:
        return
    mark = int(multihost_utils.broadcast_one_to_all(np.int32(time.time() % 2**30)))
    path = folder.parent / f'.shared-{folder.name}-{mark}'
    if jax.process_index() == 0:
        path.touch()
    multihost_utils.sync_global_devices('copied')
    seen = multihost_utils.process_allgather(np.int32(path.exists() and folder.is_dir()))
    if jax.process_index() == 0:
        path.unlink(missing_ok=True)
    if not np.all(seen):
        raise AddressError(
            f'{address}: the processes of this run share no cache folder; set TLJAX_CACHE to a '
            'folder that all hosts see, such as one on a network file system'
        )


class _Mirror:
    """Downloads a run's folder from a bucket, and keeps the bucket up to date with the copy.

    Args:
        bucket: the run's folder in the bucket.
        folder: the local copy; what an earlier process left there is deleted.
        held: the lock of the bucket's folder.
    """

    def __init__(self, bucket: Bucket, folder: pathlib.Path, held: Lease):
        self.address, self.folder, self._lease = bucket.address, folder, held
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with buckets.at_start(bucket):
            listed = run_download.contents(bucket)
            run_download.download(bucket, listed, folder)
            self._uploads = run_upload.Uploads(bucket, folder, listed)
            for step in self._uploads.delete_leftovers():
                console.console.print(
                    f'The upload or deletion of step {step} was cut off; its rest was deleted.'
                )
        _mirrors[folder] = self
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> '_Mirror':
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object):
        """Uploads the rest, also after an error, but not after a second Ctrl-C.

        Raises:
            BucketError: an upload failed. Without `error`, or after a signal, it is raised.
        """
        self._ended.set()
        if isinstance(error, KeyboardInterrupt | SystemExit | BucketError):
            return
        try:
            self._thread.join()
            self.check()
            self._update(final=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        except (InputError, OSError) as lost:
            kept = f'; files that were not uploaded are in {os.path.realpath(self.folder)}'
            if error is None or not isinstance(error, Exception):
                raise BucketError(f'{lost}{kept}') from lost
            print(f'Warning: {lost}{kept}', file=sys.stderr)

    def check(self) -> None:
        """Raises the error that stopped the uploads."""
        if self._error is not None:
            raise BucketError(f'{self._error}; the last uploaded checkpoint is intact')

    def _follow(self) -> None:
        last = 0.0
        while not self._ended.wait(POLL_SECONDS):
            try:
                due = time.monotonic() - last > RECORDS_SECONDS
                if due or self._uploads.has_new_checkpoints():
                    self._update()
                    last = time.monotonic()
            except Exception as error:  # raised in the run's own thread, by `check`
                self._error = error
                return

    def _update(self, *, final: bool = False) -> None:
        if not self._lease.is_held():
            raise BucketError(f'{self.address}: another process has taken over the lock')
        self._uploads.update(final=final)
