"""A lease: the right of one process, on any host, to work in a folder that several share.

A lease is a file with its owner. It needs no file locks, so it works on network file systems and in
buckets. The owner renews it; a lease that was not renewed for `STALE_SECONDS` belongs to a dead
process.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import uuid

from tljax.records.lease_files import LeaseFile, LocalFile
from tljax.storage.bucket import BucketError

RENEWAL_SECONDS = 10.0
STALE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that holds a lease.

    Attributes:
        host: the name of its machine.
        namespace: of process ids; containers of a machine have different ones.
        pid: its process id.
        started: when the process started, in clock ticks since its machine did; 0 if unknown. It
            tells a process from a later one with the same id.
        token: identifies the lease.
        since: when the lease began, in seconds since 1970.
    """

    host: str
    namespace: str
    pid: int
    started: int
    token: str
    since: float

    def __str__(self) -> str:
        return f'process {self.pid} on {self.host}'


class Lease:
    """A lease that this process holds; a thread renews it until it is released.

    Attributes:
        previous: the dead owner that it was taken over from; None for a free one.
    """

    def __init__(self, file: LeaseFile, owner: Owner, previous: Owner | None):
        self._file, self._owner, self.previous = file, owner, previous
        self._released = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def __enter__(self) -> 'Lease':
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Ends the lease."""
        self._released.set()
        if self.is_held():
            self._file.delete()

    def is_held(self) -> bool:
        """Whether nobody has deleted the lease or taken it over."""
        return read(self._file) == self._owner

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS):
            with contextlib.suppress(OSError, BucketError):  # the next renewal may succeed
                if self.is_held():
                    self._file.renew(_text(self._owner))
                elif not self._released.is_set():
                    # Somebody deleted it, or this process was suspended until another one took
                    # over. Two processes must not write into one folder.
                    print(f'{self._file} was deleted or taken over: stopping', file=sys.stderr)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


def acquire(place: pathlib.Path | LeaseFile) -> Lease | None:
    """Acquires a lease, also from a dead process; None if a living process holds it.

    Args:
        place: the lease's file; its folder is made.
    """
    file, owner = _file(place), _this_process()
    if file.create(_text(owner)):
        return Lease(file, owner, None)
    if not _is_dead(file):
        return None
    # One process at a time replaces a dead lease, and it checks again whether the lease is dead.
    turn = file.named('.takeover')
    if not turn.create(_text(owner)):
        if _is_dead(turn):
            turn.delete()
        return None
    try:
        previous = read(file)
        if not _is_dead(file):
            return None
        file.replace(_text(owner))
        return Lease(file, owner, previous)
    finally:
        turn.delete()


def holder(place: pathlib.Path | LeaseFile) -> Owner | None:
    """The living process that holds a lease; None without one."""
    owner = read(place)
    return None if owner is None or _is_dead(_file(place)) else owner


def read(place: pathlib.Path | LeaseFile) -> Owner | None:
    """The owner in a lease's file; None if there is no complete file."""
    try:
        return Owner(**json.loads(_file(place).read()))
    except BucketError:
        raise
    except (OSError, ValueError, TypeError):
        return None


def _file(place: pathlib.Path | LeaseFile) -> LeaseFile:
    return LocalFile(place) if isinstance(place, pathlib.Path) else place


def _text(owner: Owner) -> str:
    return json.dumps(dataclasses.asdict(owner))


def _is_dead(file: LeaseFile) -> bool:
    """Whether the owner of a lease has ended, or has not renewed it for too long."""
    owner = read(file)
    here = _this_process()
    if owner and owner.started and (owner.host, owner.namespace) == (here.host, here.namespace):
        return start_of(owner.pid) != owner.started
    age = file.age()
    return age is not None and age > STALE_SECONDS  # without a file, the next attempt creates it


def _this_process() -> Owner:
    pid = os.getpid()
    return Owner(
        host=socket.gethostname(),
        namespace=_namespace(),
        pid=pid,
        started=start_of(pid) or 0,
        token=uuid.uuid4().hex,
        since=time.time(),
    )


def _namespace() -> str:
    try:
        return str(pathlib.Path('/proc/self/ns/pid').readlink())
    except OSError:
        return ''


def start_of(pid: int) -> int | None:
    """When a process of this host started, by Linux's /proc; None if it has ended."""
    try:
        fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return None
    return None if fields[0] in 'ZX' else int(fields[19])  # the 22nd field of proc(5)
