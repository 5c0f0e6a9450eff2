"""The loop: what happens at every step, in every phase."""

import dataclasses
import time
from typing import Any

import jax

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.records import console, writers
from tljax.records.checkpoint import Checkpoints
from tljax.strategies import schedules
from tljax.training import jobs, nonfinite, prefix_cache
from tljax.training.batches import train_batches
from tljax.training.clock import Clock
from tljax.training.evaluation import Evaluate
from tljax.training.jobs import Job
from tljax.training.memory_fallback import FittingStep
from tljax.training.progress import SAVED, Progress, enter, go_back
from tljax.training.recording import record_evaluation, record_training
from tljax.training.signals import Interrupted, Signals


def run(
    job: Job,
    current: Progress,
    checkpoints: Checkpoints,
    records: writers.Records,
    evaluate: Evaluate,
    started: float,
) -> None:
    """Every step that is left, in every phase."""
    nonfinite.check_start(current)
    loop = _Loop(job, current, checkpoints, records, evaluate, started)
    with console.progress(job.steps, current.step) as update, Signals() as signals:
        while True:
            phase = job.phases[current.phase]
            if not current.over(phase):
                loop.train(phase, update, signals)
            if phase.phase.patience is not None:
                go_back(job, current, phase, checkpoints)
            if current.phase + 1 == len(job.phases):
                return
            enter(job, current, job.phases[current.phase + 1])


@dataclasses.dataclass
class _Loop:
    """What the steps of every phase share."""

    job: Job
    current: Progress
    checkpoints: Checkpoints
    records: writers.Records
    evaluate: Evaluate
    started: float
    batches: Any = None  # of the present phase

    def train(self, phase: PhasePlan, update: Any, signals: Signals) -> None:
        """The steps that are left of a phase."""
        job, current, experiment = self.job, self.current, self.job.experiment
        due = schedules.marks(experiment.evaluate_every_epochs, job.steps_per_epoch, job.steps)
        end = current.starts[-1] + phase.length
        prefix = prefix_cache.prepare(job, phase, current.state, current.step, end)
        self.batches = _batches(job, current, prefix)
        clock = Clock(experiment.batch_size)
        train_step = FittingStep(job, phase, current.accumulate, prefix, current.step)
        evaluate = _evaluate_in(job, prefix, self.evaluate)
        add = jax.jit(totals.add)
        source_ends = jobs.source_ends(job, phase)
        clock.restart()
        while not current.over(phase):
            with clock.waiting():
                batch = next(self.batches)
                if current.step >= source_ends:
                    batch.pop('source', None)
                batch = devices.put_batch(job.mesh, batch)
            current.state, sums = train_step(current.state, batch)
            current.accumulate = train_step.accumulate
            current.totals = add(current.totals, sums)
            current.step += 1
            clock.tick(sums['count'])
            update(current.step, clock.images_per_second, clock.waiting_share)
            at_mark = current.step in due or current.step == end
            if at_mark or current.step % experiment.log_every_steps == 0:
                record_training(job, current, phase, self.records, clock)
            validation = None
            if at_mark:
                validation = record_evaluation(job, current, phase, self.records, evaluate)
                clock.restart()
            every = experiment.checkpoint_every_steps
            stop = signals.received(current.step)
            if at_mark or stop or (every and current.step % every == 0):
                self.save(validation)
            if stop:
                raise Interrupted(stop, current.step)
        current.data = self.batches.get_state()

    def save(self, validation: dict[str, float] | None) -> None:
        """A checkpoint of the present step, ranked by its validation, if there was one."""
        current = self.current
        nonfinite.check(self.job, current)
        record = {name: getattr(current, name) for name in SAVED}
        record['data'] = self.batches.get_state()
        record['seconds'] = current.seconds + time.perf_counter() - self.started
        self.checkpoints.keep(int(current.best[-1]) if current.best else None)
        arrays = {'state': current.state, 'totals': current.totals}
        self.checkpoints.save(current.step, arrays, record, validation)


def _batches(job: Job, current: Progress, prefix: prefix_cache.Ahead | None) -> Any:
    """The batches from the present step on."""
    batches: Any = iter(train_batches(job, job.steps, prefix.train if prefix else None))
    if current.data is not None:
        batches.set_state(current.data)
    return batches


def _evaluate_in(job: Job, prefix: prefix_cache.Ahead | None, usual: Evaluate) -> Evaluate:
    """How splits are evaluated in a phase: by what its frozen stages gave, where that is there."""
    if prefix is None or not prefix.evaluated:
        return usual
    return prefix_cache.make_evaluate(job, prefix)
