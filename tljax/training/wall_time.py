"""Splits the wall time of a run by what it was spent on, over all processes that worked on it.

The wall time of a run is the time in which one of its processes ran, from the start of the first
one to the result. The time between the end of a process and the start of the next is not part of
it; it is recorded as stopped. A process that is killed cannot record its end, so a thread writes
the time that it has run, at intervals of 1 % of that time.
"""

import contextlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from tljax.records import lease
from tljax.types import InputError

FILE = 'wall_time.json'  # of each process: its start since 1970, and its seconds
STAGES = {
    'start': 'start of the first process: imports, data, weights',
    'compile': 'compilation',
    'data': 'waiting for data',
    'step': 'training steps',
    'evaluation': 'evaluation',
    'save': 'saving checkpoints',
    'features': 'passes over the features of frozen stages',
    'other': 'other stages: solvers, samples of a source, records',
    'lost': 'lost to restarts',
    'unrecorded': 'not recorded, by an earlier version',
}
LONGEST_INTERVAL, SHORTEST_INTERVAL = 5.0, 0.1  # seconds between two writes
COMPILED = '/jax/core/compile/backend_compile_duration'  # JAX's event after each compilation


class WallTime:
    """Attributes every second of a run to one of `STAGES`.

    Time is `lost` if a process spent it after its last checkpoint and was stopped, or if a
    restarted process spent it before its first step: its imports, its data, the checkpoint, and
    compilation.

    Args:
        started: `time.perf_counter()` when the work began; None for now.
    """

    def __init__(self, started: float | None = None):
        self._started = time.perf_counter() if started is None else started
        self._since, self._stage = self._started, 'start'
        self._seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._processes: list[dict[str, float]] = []  # the earlier ones
        self._restarting, self._working = False, False
        self._thread = threading.get_ident()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A context whose duration is that of a stage, without stages inside it."""
        self._charge()
        before, self._stage = self._stage, name
        try:
            yield
        finally:
            self._charge()
            self._stage = before

    @contextlib.contextmanager
    def recorded(self, workdir: pathlib.Path) -> Iterator[None]:
        """Records in the folder of a run that this process runs; reads what earlier ones recorded.

        An experiment that is refused before its first step leaves no record.
        """
        path = workdir / FILE
        self._processes = read_processes(path)
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_writing, args=(path, ended), daemon=True)
        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        if jax.process_index() == 0:
            thread.start()
        refused = False
        try:
            yield
        except InputError:
            refused = not self._working
            raise
        finally:
            jax.monitoring.unregister_event_duration_listener(self._compiled)
            self._end(path, ended, thread, refused=refused)

    def resume(self, saved: Mapping[str, float]) -> None:
        """Continues from the split in a checkpoint; what earlier processes did since is lost.

        Without a checkpoint `saved` is empty, and all that they did is lost.
        """
        self._charge()
        if not saved and not self._processes:
            return
        here = sum(self._seconds.values())
        earlier = sum(process['seconds'] for process in self._processes)
        lost = max(0.0, earlier - sum(saved.values()))
        self._seconds = {**dict.fromkeys(STAGES, 0.0), **saved}
        self._seconds['lost'] += here + lost
        self._restarting = True

    def begin_work(self) -> None:
        """Ends the start of this process; a restarted one has done nothing new before."""
        if not self._working:
            self._charge()
            self._restarting, self._working = False, True

    def split(self) -> dict[str, float]:
        """The seconds of each stage up to now, in the order of `STAGES`."""
        self._charge()
        return {name: self._seconds[name] for name in STAGES if self._seconds[name]}

    def record(self) -> dict[str, Any]:
        """For result.json: `seconds` by stage, `restarts`, and `stopped_seconds`."""
        seconds = self.split()
        starts = [process['started'] for process in self._processes] + [self._this()['started']]
        ends = [process['started'] + process['seconds'] for process in self._processes]
        gaps = [max(0.0, start - end) for start, end in zip(starts[1:], ends, strict=True)]
        return {'seconds': seconds, 'restarts': len(ends), 'stopped_seconds': sum(gaps)}

    def _charge(self) -> None:
        """Attributes the time since the last call to the present stage."""
        now = time.perf_counter()
        self._seconds['lost' if self._restarting else self._stage] += now - self._since
        self._since = now

    def _compiled(self, event: str, duration_secs: float, **_: Any) -> None:
        """Attributes a compilation within another stage, such as the first evaluation."""
        if event != COMPILED or self._restarting or threading.get_ident() != self._thread:
            return
        self._charge()
        self._seconds[self._stage] -= duration_secs
        self._seconds['compile'] += duration_secs

    def _this(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._started
        return {'started': time.time() - seconds, 'seconds': seconds}

    def _keep_writing(self, path: pathlib.Path, ended: threading.Event) -> None:
        while not ended.is_set():
            this = self._this()
            with contextlib.suppress(OSError):  # the next one may succeed
                _write(path, [*self._processes, this])
            interval = min(max(0.01 * this['seconds'], SHORTEST_INTERVAL), LONGEST_INTERVAL)
            ended.wait(interval)

    def _end(
        self, path: pathlib.Path, ended: threading.Event, thread: threading.Thread, *, refused: bool
    ) -> None:
        ended.set()
        if not thread.ident:  # another process of the run writes
            return
        thread.join()
        with contextlib.suppress(OSError):
            if self._processes or not refused:
                _write(path, self._processes if refused else [*self._processes, self._this()])
            else:
                path.unlink(missing_ok=True)


def read_processes(path: pathlib.Path) -> list[dict[str, float]]:
    """The start and the seconds of each process of a run; [] if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
        return [{name: float(one[name]) for name in ('started', 'seconds')} for one in content]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def process_start() -> float:
    """When this process started, on the scale of `time.perf_counter()`; now if it is unknown."""
    now, ticks = time.perf_counter(), lease.start_of(os.getpid())
    if not ticks:
        return now
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf('SC_CLK_TCK')
    return now - max(age, 0.0)


def _write(path: pathlib.Path, processes: list[dict[str, float]]) -> None:
    part = path.with_suffix('.part')
    part.write_text(json.dumps(processes) + '\n')
    part.replace(path)
