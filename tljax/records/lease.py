"""A lease: the right of one process, on any host, to work in a folder that several share.

A lease is a file with its owner. It needs no file locks, so it works on network file systems. The
owner renews it; a lease that was not renewed for `STALE_SECONDS` belongs to a dead process.
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

    def __init__(self, path: pathlib.Path, owner: Owner, previous: Owner | None):
        self._path, self._owner, self.previous = path, owner, previous
        self._released = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def __enter__(self) -> 'Lease':
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Ends the lease."""
        self._released.set()
        if read(self._path) == self._owner:
            self._path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS):
            with contextlib.suppress(OSError):  # the next renewal may succeed
                if read(self._path) == self._owner:
                    os.utime(self._path)
                elif not self._released.is_set():
                    # Somebody deleted it, or this process was suspended until another one took
                    # over. Two processes must not write into one folder.
                    print(f'{self._path} was deleted or taken over: stopping', file=sys.stderr)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


def acquire(path: pathlib.Path) -> Lease | None:
    """Acquires a lease, also from a dead process; None if a living process holds it.

    Args:
        path: of the lease's file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = _this_process()
    if _create(path, owner):
        return Lease(path, owner, None)
    if not _is_dead(path):
        return None
    # One process at a time replaces a dead lease, and it checks again whether the lease is dead.
    turn = path.with_name(f'{path.name}.takeover')
    if not _create(turn, owner):
        if _is_dead(turn):
            turn.unlink(missing_ok=True)
        return None
    try:
        previous = read(path)
        if not _is_dead(path):
            return None
        part = path.with_name(f'{path.name}.{owner.token}')
        part.write_text(json.dumps(dataclasses.asdict(owner)))
        part.replace(path)
        return Lease(path, owner, previous)
    finally:
        turn.unlink(missing_ok=True)


def holder(path: pathlib.Path) -> Owner | None:
    """The living process that holds a lease; None without one."""
    owner = read(path)
    return None if owner is None or _is_dead(path) else owner


def read(path: pathlib.Path) -> Owner | None:
    """The owner in a lease's file; None if there is no complete file."""
    try:
        return Owner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _create(path: pathlib.Path, owner: Owner) -> bool:
    """Creates the file of a lease unless it exists."""
    try:
        with path.open('x') as file:
            json.dump(dataclasses.asdict(owner), file)
    except FileExistsError:
        return False
    return True


def _is_dead(path: pathlib.Path) -> bool:
    """Whether the owner of a lease has ended, or has not renewed it for too long."""
    owner = read(path)
    here = _this_process()
    if owner and owner.started and (owner.host, owner.namespace) == (here.host, here.namespace):
        return start_of(owner.pid) != owner.started
    try:
        return _now(path.parent) - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False  # it was released; the next attempt creates it


def _now(folder: pathlib.Path) -> float:
    """The time by the clock of a file system, which may be another host's."""
    probe = folder / f'.clock-{uuid.uuid4().hex}'
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


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
