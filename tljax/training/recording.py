"""What the loop records: of the steps since the last record, and of an evaluation."""

from typing import Any

import numpy as np

from tljax import finite, metrics, report, sharding
from tljax import job as jobs
from tljax import state as states
from tljax.evaluation import Evaluate
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.progress import Progress


def record_training(
    job: Job, current: Progress, phase: PhasePlan, records: report.Records, clock: report.Clock
) -> None:
    """Reads the sums since the last record (the one wait for the device) and starts them anew."""
    finite.check_loss(job, current.totals)
    summary = metrics.scalars(metrics.summary(current.totals))
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
    report.print_record(record)
    zeros = jobs.zero_totals(job)
    current.totals = sharding.put_replicated(job.mesh, zeros)


def record_evaluation(
    job: Job, current: Progress, phase: PhasePlan, records: report.Records, evaluate: Evaluate
) -> dict[str, float] | None:
    """Evaluates the splits that are asked for; what of it ranks the checkpoint."""
    ranking = None
    for split in job.experiment.evaluate:
        if not len(job.splits.get(split, ())):
            continue
        found = evaluate(states.evaluated(current.state), current.state.stats, split)
        record = {**_place(job, current, phase, split), **metrics.scalars(found)}
        records.write(record)
        report.print_record(record)
        if split == 'val':
            ranking = metrics.ranking(found)
            current.rank(ranking)
    return ranking


def _place(job: Job, current: Progress, phase: PhasePlan, split: str) -> dict[str, Any]:
    epoch = current.step / job.steps_per_epoch
    return {'step': current.step, 'epoch': epoch, 'phase': phase.index, 'split': split}
