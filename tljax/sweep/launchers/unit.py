"""The unit of work of a launcher: the command of a cell, in a process of its own."""

import ctypes
import dataclasses
import enum
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import jax

from tljax.records import folder_lock, lease
from tljax.records.folder_lock import BusyError
from tljax.records.lease import Lease
from tljax.sweep.folder import OUTPUT_FILE, SweepFolder

RUN_AGAIN = 75  # the exit code of a run that a signal stopped after its state was saved
BUSY_SECONDS = lease.STALE_SECONDS + 30.0  # after which the lease of a dead process is free
STOP_SECONDS = 75.0  # for the present step and its checkpoint
POLL_SECONDS = 1.0
LINES_KEPT = 60  # of the output of a failed cell
ERROR_LINE = re.compile(r'error: (.*)', re.DOTALL)  # as every command prints it
TRACEBACK = 'Traceback (most recent call last):'
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


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
        self._process: subprocess.Popen | None = None
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
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self._stop_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
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
            self._process = _start(unit, output)
            try:
                code = self._process.wait()
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


def _start(unit: Unit, output: Any) -> subprocess.Popen:
    """Starts the command of a unit.

    Its session is its own, so that Ctrl-C reaches only the process that started the sweep. The
    command does not outlive this process, because it would hold the folder of the cell.
    """
    # A few clusters send the warning of the engine to all processes of a job.
    ignored = (signal.SIGUSR1, signal.SIGUSR2)
    prctl = ctypes.CDLL(None).prctl if sys.platform == 'linux' else None

    def prepare() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        [sys.executable, *unit.argv[1:]],
        cwd=unit.cwd,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=prepare,
    )


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
