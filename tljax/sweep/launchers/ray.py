"""Runs the cells of a sweep as tasks of a Ray cluster.

Its nodes share the folder of the sweep and the data, and have the same environment. Ray runs the
task of a node that died again on another one; the run goes on from its checkpoint.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from tljax.records import console
from tljax.sweep import extras
from tljax.sweep.folder import SweepFolder
from tljax.sweep.launchers import options
from tljax.sweep.launchers.unit import STOP_SECONDS, CellProcess, Outcome, Unit
from tljax.sweep.space import SweepError
from tljax.training.signals import Interrupted

KNOWN = {
    'address': str,
    'num_cpus': options.number,
    'num_gpus': options.number,
    'memory_gb': options.number,
    'max_retries': options.count,
}
DEFAULTS = {'num_cpus': 1, 'num_gpus': 0, 'max_retries': 3}
MEMORY_SHARE = 0.9  # of a GPU, for all of its cells
POLL_SECONDS = 1.0


def run(units: Sequence[Unit], text: str, progress: Callable[[], None]) -> None:
    """Runs the open cells of a sweep and waits for them.

    Args:
        units: the open cells.
        text: the launcher's options.
        progress: called again and again; it prints the cells that were ended.

    Raises:
        SweepError: an option is not valid, or Ray is not installed.
        Interrupted: a signal ended it; the states of the running cells are saved.
    """
    chosen = DEFAULTS | options.read(text, KNOWN, 'ray')
    ray = extras.load('ray', 'ray')
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=chosen.get('address'), log_to_driver=False, logging_level='WARNING')
    except ConnectionError as error:
        raise SweepError(f'--launcher=ray: {error}') from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has replaced it
    try:
        _Tasks(ray, chosen).run(units, progress)
    finally:
        ray.shutdown()


class _Tasks:
    """The tasks of a sweep; each runs a cell."""

    def __init__(self, ray: Any, chosen: dict[str, Any]):
        self._ray, self._gpus = ray, chosen['num_gpus']
        self._retries = chosen['max_retries']
        self._needs = {key: chosen[key] for key in ('num_cpus', 'num_gpus', 'max_retries')}
        if 'memory_gb' in chosen:
            self._needs['memory'] = int(chosen['memory_gb'] * 2**30)
        self._task = ray.remote(work)

    def run(self, units: Sequence[Unit], progress: Callable[[], None]) -> None:
        """Runs some cells; one that a signal stopped is run again.

        Raises:
            Interrupted: a signal ended it.
        """
        attempts = dict.fromkeys((unit.cell for unit in units), 0)
        tasks = {self._start(unit): unit for unit in units}
        try:
            while tasks:
                ready, _ = self._ray.wait(list(tasks), timeout=POLL_SECONDS)
                for task in ready:
                    unit = tasks.pop(task)
                    attempts[unit.cell] += 1
                    stopped = self._outcome(task, unit) == Outcome.STOPPED
                    if stopped and attempts[unit.cell] <= self._retries:
                        tasks[self._start(unit)] = unit
                progress()
        except Interrupted:
            self._cancel(list(tasks))
            raise

    def _start(self, unit: Unit) -> Any:
        return self._task.options(name=unit.title, **self._needs).remote(unit, self._gpus)

    def _outcome(self, task: Any, unit: Unit) -> str | None:
        """How a task ended; a cell that ended all its nodes or workers has failed."""
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            line = f'{unit.title}: {error.cause!r:.300}'
            console.console.print(line, markup=False, soft_wrap=True)
        except self._ray.exceptions.RayError as error:
            folder = SweepFolder(unit.folder)
            if not folder.is_settled(unit.cell):
                folder.fail(unit.cell, error)
        return None

    def _cancel(self, tasks: list[Any]) -> None:
        """Cancels tasks, and waits until the states of their runs are saved."""
        for task in tasks:
            self._ray.cancel(task)
        deadline = time.monotonic() + STOP_SECONDS
        while tasks and time.monotonic() < deadline:
            _, tasks = self._ray.wait(tasks, timeout=POLL_SECONDS)


def work(unit: Unit, gpus: float) -> str:
    """The task of a cell; returns how it ended.

    Args:
        unit: the cell.
        gpus: the part of a GPU that the cell has, or the number of its GPUs.
    """
    if 0 < gpus < 1:
        share = f'{MEMORY_SHARE * gpus:.2f}'
        os.environ['XLA_PYTHON_CLIENT_MEM_FRACTION'] = share
    return CellProcess().run(unit).value
