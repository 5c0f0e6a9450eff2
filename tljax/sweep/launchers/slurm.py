"""Runs the cells of a sweep as a SLURM job array, through submitit.

A job that reaches its time limit, or that is preempted, saves the state of its run and enters the
queue again.
"""

import contextlib
import getpass
import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tljax.records import console, writers
from tljax.sweep import extras
from tljax.sweep.folder import SweepFolder
from tljax.sweep.launchers import options
from tljax.sweep.launchers.unit import CellProcess, Outcome, Unit
from tljax.sweep.space import SweepError
from tljax.training.signals import Interrupted

OWN = {
    'cluster': str,
    'cells_per_job': options.count,
    'wait': options.truth,
    'timeout_min': options.count,
    'signal_delay_s': options.count,
}
OF_EVERY_ENGINE = {  # as submitit's AutoExecutor names them
    'cpus_per_task': options.count,
    'gpus_per_node': options.count,
    'mem_gb': options.number,
}
OF_SLURM = {
    'partition': str,
    'array_parallelism': options.count,
    'account': str,
    'qos': str,
    'constraint': str,
    'nodelist': str,
    'exclude': str,
    'gres': str,
    'comment': str,
    'setup': str,
    'use_srun': options.truth,
}
CLUSTERS = ('slurm', 'local')
DEFAULTS = {'cluster': 'slurm', 'cells_per_job': 1, 'wait': True, 'timeout_min': 60}
SIGNAL_DELAY = 90  # seconds between the warning and the end of a job; submitit's default
MARGIN_SECONDS = 15.0  # of that time, for submitit to put the job into the queue again
GRACE_SECONDS = 300.0  # in which a preempted job that SLURM has warned is ended by SLURM
REQUEUES = 1000  # of a job at its time limit; each one goes on from a checkpoint
ARRAY_SIZE = 1000  # SLURM's default limit, MaxArraySize, is 1001
LOCAL_JOBS = 2  # at the same time, without SLURM
POLL_SECONDS = {'slurm': 10.0, 'local': 0.5}
JOBS_FILE = 'jobs.json'


def run(units: Sequence[Unit], text: str, progress: Callable[[], None]) -> None:
    """Submits the open cells of a sweep, and waits for them unless `wait=false`.

    Cells whose earlier job is still in the queue are not submitted again.

    Args:
        units: the open cells.
        text: the launcher's options.
        progress: called again and again; it prints the cells that were ended.

    Raises:
        SweepError: an option is not valid, or there is no SLURM.
        Interrupted: a signal ended the waiting; the jobs go on.
    """
    chosen = DEFAULTS | options.read(text, OWN | OF_EVERY_ENGINE | OF_SLURM, 'slurm')
    _check(chosen['cluster'])
    jobs = _Jobs(units[0].folder / 'slurm', chosen['cluster'])
    queued = jobs.queued()
    submitted = jobs.submit([unit for unit in units if unit.cell not in queued], chosen)
    print_ = console.console.print
    print_(f'{submitted} cells submitted, {len(queued)} were in the queue.', highlight=False)
    if not chosen['wait']:
        return
    try:
        jobs.wait([unit.cell for unit in units], progress)
    except Interrupted:
        print_('The jobs go on; the same command shows their progress, and scancel ends them.')
        raise
    for unit in units:
        if not SweepFolder(unit.folder).is_settled(unit.cell):
            line = f'{unit.title}: its job has ended and the cell is not done{jobs.note(unit.cell)}'
            print_(line, markup=False, soft_wrap=True)


def _check(cluster: str) -> None:
    if cluster not in CLUSTERS:
        raise SweepError(f'--launcher_options: cluster={cluster}, wanted {" or ".join(CLUSTERS)}')
    missing = [name for name in ('sbatch', 'srun', 'squeue') if shutil.which(name) is None]
    if cluster == 'slurm' and missing:
        raise SweepError(f'--launcher=slurm: this host has no {", ".join(missing)}')


class CellsJob:
    """The work of a job: some cells, one after the other."""

    def __init__(self, units: Sequence[Unit], stop_seconds: float):
        self.units, self.stop_seconds = tuple(units), stop_seconds

    def __call__(self) -> list[str]:
        """Runs the cells; returns how each one ended."""
        self._process = CellProcess(self.stop_seconds)
        outcomes = []
        for unit in self.units:
            outcomes.append(self._process.run(unit).value)
            if outcomes[-1] == Outcome.STOPPED:
                _wait_for_the_end()
                break
        return outcomes

    def checkpoint(self) -> Any:
        """Stops the present run with its state saved; submitit calls it before it requeues."""
        from submitit.helpers import DelayedSubmission

        self._process.stop()
        return DelayedSubmission(CellsJob(self.units, self.stop_seconds))


def _wait_for_the_end() -> None:
    """Waits until SLURM ends this job, which has had a SIGTERM.

    SLURM puts a preempted job into the queue again only if it has not ended by itself.
    """
    if os.environ.get('SUBMITIT_EXECUTOR') == 'slurm':
        time.sleep(GRACE_SECONDS)


class _Jobs:
    """The jobs of a sweep's folder, by cell."""

    def __init__(self, folder: pathlib.Path, cluster: str):
        self._folder, self._cluster = folder, cluster
        self._processes: dict[str, Any] = {}
        self._ids: dict[str, str] = {}
        if cluster == 'slurm':
            with contextlib.suppress(OSError, ValueError):
                self._ids = json.loads((folder / JOBS_FILE).read_text())

    def queued(self) -> set[str]:
        """The cells whose job waits or runs."""
        alive = self._alive()
        return {cell for cell, job in self._ids.items() if job in alive}

    def submit(self, units: Sequence[Unit], chosen: dict[str, Any]) -> int:
        """Submits jobs for some cells; returns the number of cells."""
        submitit = extras.load('submitit', 'slurm')
        executor = submitit.AutoExecutor(
            self._folder, cluster=self._cluster, slurm_max_num_timeout=REQUEUES
        )
        executor.update_parameters(**_parameters(chosen))
        stop_seconds = max(chosen.get('signal_delay_s', SIGNAL_DELAY) - MARGIN_SECONDS, 1.0)
        shares = _shares(units, chosen)
        for first in range(0, len(shares), ARRAY_SIZE):
            part = shares[first : first + ARRAY_SIZE]
            jobs = executor.submit_array([CellsJob(share, stop_seconds) for share in part])
            for job, share in zip(jobs, part, strict=True):
                self._processes[job.job_id] = job
                self._ids |= {unit.cell: job.job_id for unit in share}
        if self._cluster == 'slurm':
            writers.write_json(self._folder / JOBS_FILE, self._ids)
        return len(units)

    def wait(self, cells: Collection[str], progress: Callable[[], None]) -> None:
        """Waits until the jobs of some cells have ended."""
        wanted = {self._ids[cell] for cell in cells}
        while wanted & self._alive():
            progress()
            time.sleep(POLL_SECONDS[self._cluster])
        progress()

    def note(self, cell: str) -> str:
        """The last line that the job of a cell wrote about an error."""
        lines = []
        with contextlib.suppress(OSError):
            path = self._folder / f'{self._ids[cell]}_0_log.err'
            lines = path.read_text(errors='replace').split('\n')
        return next((f': {line}' for line in reversed(lines) if line.strip()), '')

    def _alive(self) -> set[str]:
        """The jobs that wait or run; of SLURM all of this user's."""
        if self._cluster == 'local':
            return {name for name, job in self._processes.items() if not job.done()}
        command = ['squeue', '--noheader', '--array', '--format=%i', f'--user={getpass.getuser()}']
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return set(self._ids.values())  # SLURM does not answer; the next call may succeed
        return set(done.stdout.split())


def _parameters(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options as submitit names them."""
    slurm = {key: value for key, value in chosen.items() if key in OF_SLURM}
    if 'setup' in slurm:
        slurm['setup'] = [slurm['setup']]
    slurm['signal_delay_s'] = chosen.get('signal_delay_s', SIGNAL_DELAY)
    slurm['additional_parameters'] = {'requeue': True}
    common = {key: value for key, value in chosen.items() if key in OF_EVERY_ENGINE}
    return {
        'name': 'tljax-sweep',
        'timeout_min': chosen['timeout_min'],
        **common,
        **{f'slurm_{key}': value for key, value in slurm.items()},
    }


def _shares(units: Sequence[Unit], chosen: dict[str, Any]) -> list[Sequence[Unit]]:
    """The cells of each job."""
    if chosen['cluster'] == 'local':
        jobs = min(chosen.get('array_parallelism', LOCAL_JOBS), len(units))
        return [units[index::jobs] for index in range(jobs)]
    size = chosen['cells_per_job']
    return [units[first : first + size] for first in range(0, len(units), size)]
