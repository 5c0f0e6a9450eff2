"""What the loop records: of the steps since the last record, and of an evaluation."""

from typing import Any

import numpy as np

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.records import console, writers
from tljax.training import jobs, nonfinite, states
from tljax.training.clock import Clock
from tljax.training.evaluation import Evaluate
from tljax.training.jobs import Job
from tljax.training.progress import Progress


def record_training(
    job: Job, current: Progress, phase: PhasePlan, records: writers.Records, clock: Clock
) -> None:
    """Reads the sums since the last record (the one wait for the device) and starts them anew."""
    nonfinite.check_loss(job, current.totals)
    summary = totals.scalars(totals.summary(current.totals))
    step_of_phase = current.step - 1 - current.starts[-1]
    record = {
        **_place(job, current, phase, 'train'),
        **summary,
        'learning_rate': np.asarray(phase.learning_rate(step_of_phase)).item(),
        'images_per_second': clock.images_per_second,
        'waiting_share': clock.waiting_share,
        'seconds_left': clock.seconds_left(job.steps - current.step),
    }
    records.write(record)
    console.print_record(record)
    zeros = jobs.zero_totals(job)
    current.totals = devices.put_replicated(job.mesh, zeros)


def record_evaluation(
    job: Job, current: Progress, phase: PhasePlan, records: writers.Records, evaluate: Evaluate
) -> dict[str, float] | None:
    """Evaluates the splits that are asked for; what of it ranks the checkpoint."""
    ranking = None
    for split in job.experiment.evaluate:
        if not len(job.splits.get(split, ())):
            continue
        found = evaluate(states.evaluated(current.state), current.state.stats, split)
        record = {**_place(job, current, phase, split), **totals.scalars(found)}
        records.write(record)
        console.print_record(record)
        if split == 'val':
            ranking = totals.ranking(found)
            current.rank(ranking)
    return ranking


def _place(job: Job, current: Progress, phase: PhasePlan, split: str) -> dict[str, Any]:
    epoch = current.step / job.steps_per_epoch
    return {'step': current.step, 'epoch': epoch, 'phase': phase.index, 'split': split}
