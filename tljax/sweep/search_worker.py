"""A worker of searches: begins trials, lets the best go on, and ends the searches.

Any number of workers can run the same search. A lease lets one of them decide at a time, and a
lease for each cell keeps two of them from running the same trial.
"""

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from tljax.metrics import totals
from tljax.records import lease as leases
from tljax.records import writers
from tljax.records.folder_lock import BusyError
from tljax.records.lease import Lease
from tljax.strategies import schedules
from tljax.sweep import cost, halving, worker
from tljax.sweep.cells import Cell
from tljax.sweep.folder import SweepFolder
from tljax.sweep.halving import Trial
from tljax.sweep.search import Study
from tljax.sweep.space import SweepError
from tljax.sweep.trials import JOURNAL, Trials
from tljax.training import jobs

TURN_SECONDS = 0.1
METRICS_FILE = 'metrics.jsonl'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What this process does next: a trial, its cell, and the lease of the cell."""

    trial: Trial
    cell: Cell
    lease: Lease


class SearchWorker:
    """Runs the trials of one search.

    Args:
        folder: of the sweep.
        name: of the sweep.
        study: the search.
        record: called with the lease of the search when it has a new trial.
        announce: prints a line.
        delete_checkpoints: whether the checkpoints of a cell are deleted when it is done.
    """

    def __init__(
        self,
        folder: SweepFolder,
        name: str,
        study: Study,
        *,
        record: Callable[[], object],
        announce: Callable[[str], None],
        delete_checkpoints: bool = False,
    ):
        self.folder, self.study = folder, study
        self.trials = Trials(folder.path / name / JOURNAL, study)
        self._record, self._announce = record, announce
        self._delete = delete_checkpoints
        self._turn = folder.path / 'leases' / f'search-{study.name}.json'

    def run(self) -> None:
        """Runs trials until none is left for this worker.

        Raises:
            Interrupted: a signal stopped this process; the state of its trial is saved.
            SweepError: the budget is too small for one run.
            OSError: the disk is full.
        """
        while (work := self._next()) is not None:
            try:
                with work.lease:
                    self._train(work)
            except BusyError:  # somebody trains in the folder of the cell, without this sweep
                return

    def cells(self) -> list[Cell]:
        """The cells of all trials."""
        return [self._cell(trial) for trial in self.trials.all()]

    def summary(self) -> str:
        """The result of the search so far, and its steps."""
        trials, budget = self.trials.all(), self.study.search.budget_steps
        complete = [trial for trial in trials if trial.is_complete and not trial.ended]
        steps = sum(trial.step for trial in trials)
        failed = sum(self.folder.failure(cell.name) is not None for cell in self.cells())
        text = f'{len(trials)} trials, {len(complete)} of them with all steps'
        text += f', {failed} failed' if failed else ''
        if complete:
            best = max(complete, key=lambda trial: (trial.values[-1], -trial.number))
            values = self.trials.values(best.number)
            settings = ', '.join(f'{path}={value}' for path, value in values.items())
            text += f'; the best on validation, {100 * best.values[-1]:.1f} %, has {settings}'
        title = f'Search of {self.study.title}' if self.study.title else 'Search'
        return f'{title}: {text}; {steps} of {budget} steps used.'

    def _next(self) -> Work | None:
        with _Turn(self._turn):
            trials = self.trials.all()
            return self._resumed(trials) or self._promoted(trials) or self._new(trials)

    def _resumed(self, trials: Sequence[Trial]) -> Work | None:
        """A trial whose process was stopped."""
        for trial in trials:
            if trial.is_running and (work := self._claim(trial)):
                return work
        return None

    def _promoted(self, trials: Sequence[Trial]) -> Work | None:
        budget = self.study.search.budget_steps
        return self._advanced(halving.promotion(trials, budget))

    def _advanced(self, trial: Trial | None) -> Work | None:
        if trial is None:
            return None
        goal = halving.next_goal(trial)
        self.trials.advance(trial.number, goal)
        return self._claim(dataclasses.replace(trial, goal=goal))

    def _new(self, trials: Sequence[Trial]) -> Work | None:
        """A new trial, or one that uses the rest of the budget; without one the search ends."""
        budget = self.study.search.budget_steps
        spare = budget - halving.steps_used(trials)
        cheapest = min((trial.rungs[0] for trial in trials), default=0)
        drawn = self.trials.draw(self.study.cell) if cheapest <= spare else None
        if drawn is not None:
            values, cell = drawn
            rungs = rungs_of(cell, self.study.search.pruner)
            if rungs[-1] > budget:
                raise SweepError(
                    f'Search: budget_steps is {budget}, wanted at least the {rungs[-1]} steps of '
                    'a run'
                )
            if halving.may_begin(trials, budget, rungs):
                number = self.trials.begin(values, cell, rungs)
                self._record()
                return self._claim(Trial(number=number, rungs=tuple(rungs), goal=rungs[0]))
        if (trial := halving.leftover(trials, budget)) is not None:
            return self._advanced(trial)
        if not any(trial.is_running for trial in trials):
            self._end(trials)
        return None

    def _claim(self, trial: Trial) -> Work | None:
        """The work of a trial; None if another process runs its cell."""
        cell = self._cell(trial)
        lease = self.folder.acquire(cell.name)
        return Work(trial=trial, cell=cell, lease=lease) if lease else None

    def _cell(self, trial: Trial) -> Cell:
        cell = self.study.cell(self.trials.values(trial.number))
        assert cell is not None  # it was checked when the trial began
        return cell

    def _train(self, work: Work) -> None:
        """Trains a trial until its goal, and records its validation values."""
        trial, name = work.trial, work.cell.name
        if not self.folder.is_settled(name):
            until = trial.goal if trial.goal < trial.rungs[-1] else math.inf
            worker.run(self.folder, work.cell, delete_checkpoints=self._delete, until_step=until)
        if failure := self.folder.failure(name):
            self.trials.fail(trial.number)
            self._announce(f'{work.cell.title}: failed: {failure.kind}: {failure.message}')
            return
        values = values_at(curve(self.folder.workdir(name)), trial)
        self.trials.report(trial.number, values)
        percent = 100 * values[trial.goal]
        steps = f'{trial.goal} of {trial.rungs[-1]} steps'
        self._announce(f'{work.cell.title}: val {percent:.1f} % after {steps}')

    def _end(self, trials: Sequence[Trial]) -> None:
        """Ends the trials that wait at a rung, and records their validation curves."""
        for trial in trials:
            if trial.is_paused:
                cell = self._cell(trial)
                self.folder.prune(cell.name, curve(self.folder.workdir(cell.name)))
                if self._delete:
                    self.folder.delete_checkpoints(cell.name)
                self.trials.prune(trial.number)


def curve(workdir: pathlib.Path) -> dict[int, float]:
    """The validation value after each evaluation of a run: its score, larger is better.

    Equal scores are ordered by the loss, which changes the value by less than 0.0001.
    """
    values = {}
    for record in writers.read_metrics(workdir / METRICS_FILE):
        if record['split'] == 'val':
            score = totals.ranking(record)['score']
            loss = max(record['loss'], 0.0)
            values[record['step']] = score - 1e-4 * loss / (1 + loss)
    return values


def values_at(curve: dict[int, float], trial: Trial) -> dict[int, float]:
    """The best validation value until each rung, up to the goal of a trial.

    Raises:
        SweepError: the run was not validated, so that it cannot be searched.
    """
    result = {}
    for rung in trial.rungs:
        before = [value for step, value in curve.items() if step <= rung]
        if not before:
            raise SweepError(
                'Search: the trials have no validation result; wanted validation images and '
                "'val' in config.evaluate"
            )
        if rung <= trial.goal:
            result[rung] = max(before)
    return result


def rungs_of(cell: Cell, pruner: str | None) -> tuple[int, ...]:
    """The steps at which the run of a cell may pause, each an evaluation, and its last step."""
    steps, marks = _lengths(_Group(cost.group(cell.experiment), cell.experiment))
    shares = halving.SHARES if pruner else (1.0,)
    return tuple(sorted({min(mark for mark in marks if mark >= share * steps) for share in shares}))


@dataclasses.dataclass(frozen=True)
class _Group:
    """Experiments whose runs have equally many steps; one stands for all."""

    name: str
    experiment: Any = dataclasses.field(compare=False)


@functools.cache
def _lengths(group: _Group) -> tuple[int, frozenset[int]]:
    """The steps of a run, and those that it is evaluated after."""
    job = jobs.setup(group.experiment)
    every = group.experiment.evaluate_every_epochs
    return job.steps, schedules.marks(every, job.steps_per_epoch, job.steps)


class _Turn:
    """Waits for a lease, and holds it."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def __enter__(self) -> None:
        while (lease := leases.acquire(self._path)) is None:
            time.sleep(TURN_SECONDS)
        self._lease = lease

    def __exit__(self, *_: object) -> None:
        self._lease.release()
