"""Ends this process with one line and an exit code if another process of the run has ended.

JAX notices that a process has ended within `HEARTBEAT_SECONDS`, and then aborts the others:
SIGABRT and a C++ stack. A handler of that signal ends the process in order instead. It acts only if
this module knows of an ended process, so that other aborts stay what they are. It knows them by
keys that each process renews in the key-value store of JAX's coordination service.
"""

import contextlib
import ctypes
import faulthandler
import os
import pathlib
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

from tljax.training import signals

HEARTBEAT_SECONDS = 30  # after which JAX declares a silent process dead
RENEWAL_SECONDS = 4.0
STALE_SECONDS = 15.0  # less than JAX needs, so that the cause is known before it aborts
FAILURE_SECONDS = 10.0  # for the other processes to fail by themselves, or to notice
MEETING_SECONDS = 1800  # for the slowest process to compile a step
ROOT = 'tljax/'
# The status codes of XLA's errors, without those of wrong arguments and of a lack of memory.
COLLECTIVE_ERROR = re.compile(
    '(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): '
)


class Verdict(NamedTuple):
    """Why this process has to end, and with which exit code."""

    text: str
    code: int


class Watch:
    """What this process knows of the others.

    Args:
        process: the index of this process.
        address: HOST:PORT of process 0; empty if JAX finds it.
        folder: of the run; the Python stacks are written into it when this process ends.
    """

    def __init__(self, process: int, address: str, folder: pathlib.Path):
        self.process, self.address, self.folder = process, address, folder
        self.joining: str | None = None  # the message if JAX aborts while the processes join
        self.client: Any = None
        self.meetings = 0
        self.ending = threading.Lock()
        self.seen: dict[int, tuple[str, float]] = {}  # the last value of each, and when it changed
        self.hosts: dict[int, str] = {}
        self.failed: dict[int, int] = {}  # exit codes
        self.error: BaseException | None = None  # of the operation that needed the others

    def start(self, client: Any) -> None:
        """Begins to renew this process's key, in a thread.

        Args:
            client: of JAX's coordination service.
        """
        self.client, self.joining = client, None
        client.key_value_set(f'{ROOT}host/{self.process}', socket.gethostname())
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        count = 0
        while True:
            count += 1
            # After an error JAX ends this process; the next call may also succeed.
            with contextlib.suppress(Exception):
                key = f'{ROOT}alive/{self.process}'
                self.client.key_value_set(key, str(count), allow_overwrite=True)
                self.note(self.client.key_value_dir_get(ROOT), time.monotonic())
            if any(process != self.process for process in self.failed):
                time.sleep(FAILURE_SECONDS)  # this process may be about to fail by the same cause
                if self.process not in self.failed:
                    self.end(self._failure())
            time.sleep(RENEWAL_SECONDS)

    def note(self, entries: list[tuple[str, str]], now: float) -> None:
        """Notes the keys of all processes, as of a time in seconds."""
        for key, value in entries:
            kind, index = key.removeprefix(ROOT).split('/')
            process = int(index)
            if kind == 'host':
                self.hosts[process] = value
            elif kind == 'failed':
                self.failed[process] = int(value)
            elif self.seen.get(process, ('', 0.0))[0] != value:
                self.seen[process] = value, now

    def verdict(self) -> Verdict | None:
        """Why this process has to end; None if no other one has ended."""
        if self.joining:
            return Verdict(self.joining, signals.RUN_AGAIN)
        if self.failed:
            return self._failure()
        now = time.monotonic()
        ended = [one for one, (_, last) in list(self.seen.items()) if now - last > STALE_SECONDS]
        ended = [one for one in ended if one != self.process]
        if not ended and self.process and not _answers(self.address):
            ended = [0]
        if not ended:
            return None
        named = ', '.join(self._named(one) for one in sorted(ended))
        return Verdict(
            f'{named} was killed, or its host is gone, so this process ends, too. The last '
            f'checkpoint stays: start all processes again (exit code {signals.RUN_AGAIN})',
            signals.RUN_AGAIN,
        )

    def _failure(self) -> Verdict:
        process, code = min(self.failed.items())
        return Verdict(f'{self._named(process)} failed with exit code {code}; see its output', code)

    def _named(self, process: int) -> str:
        return f'process {process} on {self.hosts.get(process, "an unknown host")}'

    def end(self, verdict: Verdict) -> None:
        """Ends this process at once: Python's stacks into a file, one line on stderr."""
        self.ending.acquire()  # for ever: an abort and an error in another thread may come together
        line = f'error: {verdict.text}'
        if not self.joining:
            line += f'. Python stacks: {self._dump()}'
        os.write(2, f'{line}\n'.encode())
        os._exit(verdict.code)

    def _dump(self) -> str:
        """Writes the stacks of all threads into a file, and returns its path."""
        name = f'stacks-process{self.process}.txt'
        for folder in (self.folder, pathlib.Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError), (folder / name).open('w') as file:
                if self.error:
                    traceback.print_exception(self.error, file=file)
                    file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
                return str(folder / name)
        return 'not written, no folder is writable'


_watch: Watch | None = None


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    """Handles SIGABRT, in the thread that called `abort`.

    Python's own handlers run only after the C function has returned, which `abort` does not.
    """
    verdict = _watch.verdict() if _watch else None
    if _watch and verdict:
        _watch.end(verdict)
    signals.set_c_handler(
        signal.SIGABRT, None
    )  # the default; `abort` ends the process when this returns


def begin(process: int, address: str, folder: pathlib.Path, joining: str) -> Watch:
    """Handles aborts of JAX from now on.

    Args:
        process: the index of this process.
        address: HOST:PORT of process 0.
        folder: of the run.
        joining: the message if JAX aborts before `start`.
    """
    global _watch
    _watch = Watch(process, address, folder)
    _watch.joining = joining
    signals.set_c_handler(signal.SIGABRT, ctypes.cast(_on_abort, ctypes.c_void_p).value)
    return _watch


def active() -> bool:
    """Whether this process is one of several."""
    return _watch is not None and _watch.client is not None


@contextlib.contextmanager
def blames_ended_processes() -> Iterator[None]:
    """Ends this process as described above if an error inside comes from another process.

    A collective operation fails at once if a process is gone; the watch knows it a little later.
    One that times out, because a process is slow, may succeed when all start again.
    """
    try:
        yield
    except Exception as error:
        if _watch and active() and _of_collective(error):
            _watch.error = error
            until = time.monotonic() + HEARTBEAT_SECONDS + STALE_SECONDS
            while time.monotonic() < until:
                if verdict := _watch.verdict():
                    _watch.end(verdict)
                time.sleep(1)
            if 'DEADLINE_EXCEEDED' in str(error):
                reason = ' '.join(str(error).split())
                text = f'an operation of all processes timed out: {reason}'
                _watch.end(
                    Verdict(
                        f'{text}: start all again (exit code {signals.RUN_AGAIN})',
                        signals.RUN_AGAIN,
                    )
                )
        raise


def meet() -> None:
    """Waits until all processes have come here: after compiling, which takes them unequal times.

    On CPU a collective operation gives up if another process begins it 30 seconds later.
    """
    if _watch and active():
        _watch.meetings += 1
        key = f'{ROOT}meeting/{_watch.meetings}'
        _watch.client.wait_at_barrier(key, MEETING_SECONDS * 1000)


def leave(code: int) -> None:
    """Tells the other processes that this one failed, and ends it unless they fail, too.

    Without it, they would wait in a collective operation, and this one for them at its end.

    Args:
        code: the exit code; 0 and 75 mean that all processes end together.
    """
    if code in (0, signals.RUN_AGAIN) or not _watch or not active():
        return
    _watch.failed[_watch.process] = code
    try:
        _watch.client.key_value_set(f'{ROOT}failed/{_watch.process}', str(code))
        _watch.client.wait_at_barrier(f'{ROOT}failed', int(FAILURE_SECONDS * 1000))
    except Exception:  # the others go on, or the coordinator is gone
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _answers(address: str) -> bool:
    """Whether the host of an address accepts a connection."""
    host, _, port = address.rpartition(':')
    try:
        with socket.create_connection((host.strip('[]'), int(port)), timeout=3):
            return True
    except (OSError, ValueError):
        return False


def _of_collective(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is one that a collective operation can have.

    JAX raises them as a `JaxRuntimeError` or, when an array is read, as a `ValueError`.
    """
    while error is not None:
        if COLLECTIVE_ERROR.match(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
