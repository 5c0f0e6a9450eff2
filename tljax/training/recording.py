"""Records the steps since the last record, and the evaluations, of a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.records import console, writers
from tljax.training import jobs, nonfinite, signals, states
from tljax.training.clock import Clock
from tljax.training.evaluation import Evaluate
from tljax.training.jobs import Job
from tljax.training.progress import Progress
from tljax.training.wall_time import WallTime
from tljax.types import OnNonfinite


def record_training(
    job: Job,
    current: Progress,
    phase: PhasePlan,
    records: writers.Records,
    clock: Clock,
    times: WallTime,
) -> None:
    """Records the sums of the steps since the last record, and sets them to zero.

    Reading the sums waits for the device.
    """
    nonfinite.check_loss(job, current.totals)
    start, skipped = current.starts[-1], sum(s > current.starts[-1] for s in current.skipped)
    # A skipped step does not move the schedule, which counts updates.
    record = of_training(job, phase, current.totals, current.step, start + skipped, clock)
    if job.experiment.on_nonfinite is OnNonfinite.SKIP:
        record['skipped_steps'] = len(current.skipped)
    record['wall_time'] = times.split()
    records.write(record)
    console.print_record(record, job.model.preprocessing.inputs)
    current.totals = devices.put_replicated(job.mesh, jobs.zero_totals(job))


def record_evaluation(
    job: Job, current: Progress, phase: PhasePlan, records: writers.Records, evaluate: Evaluate
) -> dict[str, float] | None:
    """Evaluates and records the splits of `config.evaluate`; returns the ranking by `val`.

    Raises:
        Interrupted: a signal stopped the evaluation; nothing is recorded.
    """
    ranking = None
    with signals.interruptible():
        measured = {
            split: evaluate(states.evaluated(current.state), current.state.stats, split)
            for split in job.experiment.evaluate
            if len(job.splits.get(split, ()))
        }
    for split, metrics in measured.items():
        record = of_evaluation(job, phase, split, metrics, current.step)
        records.write(record)
        console.print_record(record, job.model.preprocessing.inputs)
        if split == 'val':
            ranking = totals.ranking(metrics)
            current.rank(ranking)
    return ranking


def of_training(
    job: Job, phase: PhasePlan, sums: totals.Sums, step: int, start: int, clock: Clock
) -> dict[str, Any]:
    """The record of the steps since the last record.

    Args:
        job: the experiment.
        phase: the present phase.
        sums: of these steps.
        step: the number of steps that were trained.
        start: the first step of the phase; later by the steps that were skipped in it.
        clock: measures the speed.
    """
    return {
        **_place(job, phase, 'train', step),
        **totals.scalars(totals.summary(job.model.task, sums)),
        'learning_rate': np.asarray(phase.learning_rate(step - 1 - start)).item(),
        'images_per_second': clock.images_per_second,
        'waiting_share': clock.waiting_share,
        'seconds_left': clock.seconds_left(job.steps - step),
    }


def of_evaluation(
    job: Job, phase: PhasePlan, split: str, metrics: Mapping[str, Any], step: int
) -> dict[str, Any]:
    """The record of an evaluation after a step."""
    return {**_place(job, phase, split, step), **totals.scalars(metrics)}


def _place(job: Job, phase: PhasePlan, split: str, step: int) -> dict[str, Any]:
    epoch = step / job.steps_per_epoch
    return {'step': step, 'epoch': epoch, 'phase': phase.index, 'split': split}
