"""Computes one step of a run again, and shows where its first value that is not finite arises."""

import contextlib
import dataclasses
import functools
import pathlib
import shutil
import tempfile
from typing import Any

from tljax.config.phases import PhasePlan
from tljax.records import checksums, console, ranking, runs, writers
from tljax.records.checkpoint import Checkpoints
from tljax.records.checksums import CheckpointError
from tljax.records.runs import CHECKPOINTS
from tljax.training import batches, jobs, loop, run_folder, step_trace
from tljax.training.compiled_step import CompiledStep
from tljax.training.evaluation import make_evaluate
from tljax.training.jobs import Job
from tljax.training.profiling import Profile
from tljax.training.progress import resumed_or_started
from tljax.training.replay_table import announce
from tljax.training.source_guard import preparation
from tljax.training.states import TrainState
from tljax.training.step_trace import ValueRange
from tljax.training.wall_time import WallTime
from tljax.types import Batch, InputError


def replay(workdir: pathlib.Path, number: int, out: pathlib.Path | None = None) -> list[ValueRange]:
    """Computes a step of a run again and prints the range of its values.

    The run continues from its newest intact checkpoint before the step, as a resumed run does, in
    a temporary folder; nothing is written into its own. On other devices the values differ by
    rounding.

    Args:
        workdir: the folder of the run.
        number: the step, counted from 1.
        out: where all ranges are written as JSON; None for nowhere.

    Returns:
        The ranges, in the order in which the values are computed.

    Raises:
        InputError: there is no such step, or the run or its data cannot be read.
        NotFiniteError: an earlier step ends the run.
    """
    experiment, _ = runs.records(workdir)
    with console.quiet():
        job = jobs.setup(experiment)
        run_folder.write_splits(job, workdir)  # compares them with those of the run
        if not 1 <= number <= job.steps:
            raise InputError(f'step {number}: the run has the steps 1 to {job.steps}')
        job = preparation.prepare(job, workdir)
    with tempfile.TemporaryDirectory(prefix='tljax-replay-') as name:
        folder = pathlib.Path(name)
        before = copy_checkpoint(workdir / CHECKPOINTS, folder / CHECKPOINTS, number - 1)
        start = f'the checkpoint of step {before}' if before else 'the start of training'
        more = number - 1 - before
        console.console.print(
            f'Step {number} of {job.steps} from {start}'
            + (f', after {more} more steps.' if more else '.')
        )
        with console.quiet():
            reached = _reached(job, folder, number)
            ranges = reached.trace(job)
    ids = batches.ids_of(job, number)  # those of a batch on the devices have 32 bits
    announce(number, ids, ranges)
    if out is not None:
        content = {'step': number, 'ids': ids, 'ranges': [vars(one) for one in ranges]}
        writers.write_json(out, content)
    return ranges


def copy_checkpoint(source: pathlib.Path, target: pathlib.Path, last: int) -> int:
    """Copies the newest intact checkpoint up to a step, and the best one of its phase.

    Args:
        source: a run's `checkpoints/`.
        target: the folder of the copy.
        last: the largest step.

    Returns:
        The step of the checkpoint; 0 if there is none.
    """
    for step in reversed(ranking.steps(source)):
        if step > last:
            continue
        try:
            _copy(source, target, step)
        except CheckpointError as error:
            console.console.print(f'Warning: {error}', soft_wrap=True, markup=False)
            continue
        best = ranking.record_of(source, step).get('best')
        if best and int(best[-1]) != step:
            _copy(source, target, int(best[-1]))
        return step
    return 0


def _copy(source: pathlib.Path, target: pathlib.Path, step: int) -> None:
    checksums.verify(source, step)
    sums = checksums.path_of(target, step)
    sums.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(checksums.path_of(source, step), sums)
    shutil.copytree(source / 'steps' / str(step), target / 'steps' / str(step))


class _Reached(Exception):  # noqa: N818  (not an error)
    """The run has reached the step; it has the state before it, and its batch."""

    def __init__(self, phase: PhasePlan, state: TrainState, batch: Batch, parts: int, cached: bool):
        super().__init__('reached')
        self.phase, self.state, self.batch = phase, state, batch
        self.parts, self.cached = parts, cached

    def trace(self, job: Job) -> list[ValueRange]:
        """The ranges of the step."""
        return step_trace.trace(
            job, self.phase, self.state, self.batch, self.parts, cached=self.cached
        )


class _StepsBefore:
    """A `CompiledStep` that raises `_Reached` instead of computing a step, counted from 1."""

    def __init__(
        self,
        number: int,
        job: Job,
        phase: PhasePlan,
        accumulate: int,
        features: Any,
        first_step: int,
        **options: Any,
    ):
        self._left = number - 1 - first_step
        self._phase, self._cached, self._accumulate = phase, features is not None, accumulate
        arguments = (job, phase, accumulate, features, first_step)
        self._compile = functools.partial(CompiledStep, *arguments, **options)
        self._compiled: CompiledStep | None = None

    @property
    def accumulate(self) -> int:
        """See `CompiledStep`."""
        return self._compiled.accumulate if self._compiled else self._accumulate

    def __call__(self, state: TrainState, batch: Batch) -> Any:
        """See `CompiledStep`."""
        if self._left == 0:
            raise _Reached(self._phase, state, batch, self.accumulate, self._cached)
        self._left -= 1
        self._compiled = self._compiled or self._compile()
        return self._compiled(state, batch)


def _reached(job: Job, folder: pathlib.Path, number: int) -> _Reached:
    """Continues a run in a folder up to a step.

    Raises:
        InputError: the run ended before the step, because a phase ran out of patience.
    """
    job = _without_records(job)
    with contextlib.closing(Checkpoints(folder / CHECKPOINTS)) as checkpoints:
        current = resumed_or_started(job, checkpoints)
        records = writers.Records(folder, current.step, current.phase)
        try:
            loop.run(
                job,
                current,
                checkpoints,
                records,
                make_evaluate(job),
                WallTime(),
                Profile(None, folder),
                make_step=functools.partial(_StepsBefore, number),
            )
        except _Reached as reached:
            return reached
        finally:
            records.close()
    raise InputError(f'step {number}: the run ended at step {current.step}')


def _without_records(job: Job) -> Job:
    """The job without the records, evaluations and checkpoints that change no later step."""
    changes: dict[str, Any] = {'checkpoint_every_steps': None, 'log_every_steps': job.steps}
    if not any(phase.phase.patience is not None for phase in job.phases):
        changes |= {'evaluate': (), 'evaluate_every_epochs': job.experiment.epochs + job.steps}
    return dataclasses.replace(job, experiment=dataclasses.replace(job.experiment, **changes))
