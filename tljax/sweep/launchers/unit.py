"""The unit of work of a launcher: the command of a cell, in a process of its own."""

import dataclasses
import enum
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import jax

from tljax.records import folder_lock, lease
from tljax.records.folder_lock import BusyError
from tljax.records.lease import Lease
from tljax.sweep.folder import OUTPUT_FILE, SweepFolder
from tljax.training.signals import RUN_AGAIN

BUSY_SECONDS = lease.STALE_SECONDS + 30.0  # after which the lease of a dead process is free
STOP_SECONDS = 75.0  # for the present step and its checkpoint
POLL_SECONDS = 1.0
WAIT_SECONDS = 0.1
LINES_KEPT = 60  # of the output of a failed cell
ERROR_LINE = re.compile(r'error: (.*)', re.DOTALL)  # as every command prints it
TRACEBACK = 'Traceback (most recent call last):'
# Becomes the command. On Linux the command then ends with the process that started it, because it
# would hold the folder of the cell; prctl(2), PR_SET_PDEATHSIG. It ignores the warnings of engines,
# which some clusters send to all processes of a job: that process stops it.
BECOME_COMMAND = """
import ctypes, os, signal, sys
if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(75)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Outcome(enum.StrEnum):
    """How a unit of work ended.

    Attributes:
        SETTLED: the cell is done or has failed.
        STOPPED: a signal stopped it; its state is saved.
        BUSY: another process runs the cell.
    """

    SETTLED = 'settled'
    STOPPED = 'stopped'
    BUSY = 'busy'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """A cell with its command.

    Attributes:
        folder: of the sweep, shared by all hosts.
        cell: the name of the cell.
        title: the values of its axes.
        argv: the command, whose first word stands for this Python.
        cwd: the folder in which it runs, for relative paths of data.
        delete_checkpoints: whether its checkpoints are deleted when it is done.
    """

    folder: pathlib.Path
    cell: str
    title: str
    argv: tuple[str, ...]
    cwd: pathlib.Path
    delete_checkpoints: bool = False


class CellProcess:
    """Runs units of work, one at a time; each command resumes its cell.

    Args:
        stop_seconds: the time that `stop` leaves for the present step and its checkpoint.
    """

    def __init__(self, stop_seconds: float = STOP_SECONDS):
        self._stop_seconds = stop_seconds
        self._command: _Command | None = None
        self._lease: Lease | None = None
        self._stopping = False

    def run(self, unit: Unit) -> Outcome:
        """Runs a unit, and records the error if it fails.

        It waits for the lease of the cell until the lease of a dead process would be free.
        """
        # This process computes nothing; the memory of the GPU is for the command.
        jax.config.update('jax_platforms', 'cpu')
        folder = SweepFolder(unit.folder)
        deadline = time.monotonic() + BUSY_SECONDS
        while not folder.is_settled(unit.cell):
            self._lease = folder.acquire(unit.cell)
            if self._lease is not None:
                with self._lease:
                    return self._run(unit, folder)
            if time.monotonic() > deadline:
                return Outcome.BUSY
            time.sleep(POLL_SECONDS)
        return Outcome.SETTLED

    def stop(self) -> None:
        """Ends the running command after its present step, and releases the lease."""
        self._stopping = True
        if self._command is not None:
            self._command.stop(self._stop_seconds)
        if self._lease is not None:
            self._lease.release()

    def _run(self, unit: Unit, folder: SweepFolder) -> Outcome:
        if folder.is_settled(unit.cell):  # another worker has just ended it
            return Outcome.SETTLED
        workdir = folder.workdir(unit.cell)
        try:
            with folder_lock.lock(workdir):  # free, or somebody trains there without this sweep
                pass
        except BusyError:
            return Outcome.BUSY
        with (workdir / OUTPUT_FILE).open('ab') as output:
            start = output.seek(0, os.SEEK_END)
            self._command = _Command(unit, output)
            try:
                code = self._command.wait()
            except BaseException:
                self.stop()
                raise
        if code == RUN_AGAIN or code == -signal.SIGTERM or (code < 0 and self._stopping):
            return Outcome.STOPPED
        if code != 0 or not folder.is_done(unit.cell):
            _record_failure(folder, unit.cell, code, start)
        elif unit.delete_checkpoints:
            folder.delete_checkpoints(unit.cell)
        return Outcome.SETTLED


class _Command:
    """The running command of a unit, in a session of its own.

    Ctrl-C reaches only the process that started the sweep. A thread waits for the end, because a
    signal's handler may call `stop` while this process is in `wait`: `Popen.wait` is not made for
    two callers in one thread.
    """

    def __init__(self, unit: Unit, output: Any):
        self._process = subprocess.Popen(
            [sys.executable, '-c', BECOME_COMMAND, str(os.getpid()), *unit.argv[1:]],
            cwd=unit.cwd,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._process.wait, daemon=True)
        self._thread.start()

    def wait(self) -> int:
        """The exit code; minus the number of the signal that ended it."""
        while self._thread.is_alive():
            time.sleep(WAIT_SECONDS)
        return self._process.wait()

    def stop(self, seconds: float) -> None:
        """Asks the command to end, and kills it after some time."""
        deadline = time.monotonic() + seconds
        self._process.terminate()
        while self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(WAIT_SECONDS)
        self._process.kill()  # without effect if it has ended
        while self._thread.is_alive():
            time.sleep(WAIT_SECONDS)


def _record_failure(folder: SweepFolder, cell: str, code: int, start: int) -> None:
    """Records the failure of a cell with the last lines of its output.

    Args:
        folder: of the sweep.
        cell: the name of the cell.
        code: its exit code; minus the number of the signal that ended it.
        start: where the output of this attempt begins in its file, in bytes.
    """
    with (folder.workdir(cell) / OUTPUT_FILE).open('rb') as output:
        output.seek(start)
        lines = output.read().decode(errors='replace').splitlines()
    kind = f'exit code {code}' if code >= 0 else signal.Signals(-code).name
    kind, message = _error(lines[-LINES_KEPT:], kind)
    folder.record_failure(cell, kind, message, '\n'.join(lines[-LINES_KEPT:]) + '\n')


def _error(lines: list[str], kind: str) -> tuple[str, str]:
    """The kind and the message of the error at the end of an output."""
    for index in reversed(range(len(lines))):
        text = '\n'.join(lines[index:])
        if match := ERROR_LINE.fullmatch(text):
            return kind, match[1]
        if TRACEBACK in lines[index]:
            ends = [line for line in lines[index + 1 :] if line and not line.startswith(' ')]
            name, _, message = (ends[0] if ends else '').partition(': ')
            return name.rpartition('.')[2] or kind, message
    return kind, lines[-1] if lines else 'it printed nothing'
