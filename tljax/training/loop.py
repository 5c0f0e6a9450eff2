"""The training loop: the steps, records, evaluations and checkpoints of every phase."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.records import console, writers
from tljax.records.checkpoint import Checkpoints
from tljax.strategies import schedules
from tljax.training import nonfinite, prefix_cache, signals, walk
from tljax.training.batches import Feed
from tljax.training.clock import Clock
from tljax.training.compiled_step import CompiledStep
from tljax.training.evaluation import Evaluate
from tljax.training.jobs import Job
from tljax.training.profiling import Profile
from tljax.training.progress import Progress, announce_solution, go_back
from tljax.training.recording import record_evaluation, record_training
from tljax.training.signals import Interrupted, Paused
from tljax.training.states import TrainState
from tljax.training.wall_time import WallTime
from tljax.types import OnNonfinite, Solution


def run(
    job: Job,
    current: Progress,
    checkpoints: Checkpoints,
    records: writers.Records,
    evaluate: Evaluate,
    times: WallTime,
    profile: Profile,
    until_step: float = math.inf,
    make_step: Callable[..., Any] = CompiledStep,
) -> None:
    """Trains the remaining steps of all phases.

    Args:
        job: the experiment.
        current: the progress to continue from; it is updated.
        checkpoints: where checkpoints are saved.
        records: where metrics are written.
        evaluate: evaluates a split.
        times: splits the time of the run.
        profile: captures some of the steps.
        until_step: the run pauses at its first evaluation at this step or later, unless that is its
            end.
        make_step: makes the step of a phase, with the arguments of `CompiledStep`.

    Raises:
        Paused: the run has reached `until_step`; its state is saved.
        Interrupted: a signal stopped the run; its state is saved.
        NotFiniteError: a loss or a value is not finite.
    """
    nonfinite.check_start(current)
    with console.progress(job.steps, current.step, job.model.preprocessing.inputs) as update:
        shared = (checkpoints, records, evaluate, times, profile, update, until_step, make_step)
        loop, present = _Loop(job, current, *shared), job.phases[current.phase]
        try:
            walk.walk(job, job.phases[present.index + 1 :], loop.visit, loop.finish(present))
        finally:
            profile.close(current.step)


@dataclasses.dataclass
class _Loop:
    """The values that the steps of all phases share; see `run`."""

    job: Job
    current: Progress
    checkpoints: Checkpoints
    records: writers.Records
    evaluate: Evaluate
    times: WallTime
    profile: Profile
    update: Any  # of the progress bar
    until_step: float
    make_step: Callable[..., Any]

    def visit(self, phase: PhasePlan, state: TrainState, solution: Solution | None) -> TrainState:
        """Trains a phase from its start; see `walk.Visit`."""
        self.current.begin_phase(state)
        announce_solution(solution)
        if solution is not None and phase is self.job.phases[-1]:
            # It replaces the checkpoint of this step, which has the head from before the solution.
            validation = self._measure(phase, self.evaluate)
            with self.times.stage('save'):
                self.checkpoints.replace(*self._checkpoint(), validation)
        return self.finish(phase)

    def finish(self, phase: PhasePlan) -> TrainState:
        """Trains the rest of the present phase; returns the state at its end."""
        if self.current.unevaluated or not self.current.over(phase):
            self._train(phase)
        if phase.phase.patience is not None:
            go_back(self.job, self.current, phase, self.checkpoints)
        return self.current.state

    def _train(self, phase: PhasePlan) -> None:
        job, current, experiment = self.job, self.current, self.job.experiment
        due = schedules.marks(experiment.evaluate_every_epochs, job.steps_per_epoch, job.steps)
        end = current.starts[-1] + phase.length
        with self.times.stage('features'):
            cache = prefix_cache.prepare(job, phase, current.state, current.step, end)
        feed = Feed(job, phase, substitute=cache and cache.train, position=current.data)
        train_step = self._compile(phase, cache.shape if cache else None)
        evaluate = self.evaluate
        if cache and cache.evaluated:
            evaluate = prefix_cache.make_evaluate(job, cache)
        add = jax.jit(totals.add)
        skips = nonfinite.Skips(job, current, self.records)
        clock = Clock(experiment.batch_size)
        self.times.begin_work()
        with signals.deferred(), self.times.stage('step'):
            if current.unevaluated:
                self._evaluate_again(phase, evaluate)
            while not current.over(phase):
                if current.step in due and current.step >= self.until_step:
                    raise Paused(current.step)
                with clock.waiting(), self.times.stage('data'):
                    batch = feed.take(current.step)
                with self.profile.step(current.step + 1, current.state):
                    current.state, sums = train_step(current.state, batch)
                current.accumulate = train_step.accumulate
                skipped = sums.pop('skipped', None)
                current.totals = add(current.totals, sums)
                current.step += 1
                clock.tick(sums['count'])
                if skipped is not None:
                    skips.add(current.step, skipped)
                with self.times.stage('other'):
                    self.profile.end(current.step, current.state)
                self.update(current.step, clock.images_per_second, clock.waiting_share)
                at_mark = current.step in due or current.step == end
                if at_mark or current.step % experiment.log_every_steps == 0:
                    skips.read_all()
                    record_training(job, current, phase, self.records, clock, self.times)
                validation = None
                if at_mark:
                    validation = self._evaluate(phase, evaluate)
                    clock.restart()
                every = experiment.checkpoint_every_steps
                stop = signals.received()
                if at_mark or stop or (every and current.step % every == 0):
                    skips.read_all()
                    current.data = feed.position
                    with self.times.stage('save'):
                        self.checkpoints.save(*self._checkpoint(), validation)
                if stop:
                    raise Interrupted(stop, current.step)
        current.data = feed.position

    def _compile(self, phase: PhasePlan, features: jax.ShapeDtypeStruct | None) -> Any:
        """The step of a phase; the arrays of penalties, which it takes, are measured first."""
        job, current = self.job, self.current
        with self.times.stage('features'):
            _ = job.penalty_arrays
        with self.times.stage('compile'):
            return self.make_step(
                job,
                phase,
                current.accumulate,
                features,
                current.step,
                skip_nonfinite=job.experiment.on_nonfinite is OnNonfinite.SKIP,
            )

    def _measure(self, phase: PhasePlan, evaluate: Evaluate) -> dict[str, float] | None:
        """Evaluates and records the present step."""
        with self.times.stage('evaluation'):
            return record_evaluation(self.job, self.current, phase, self.records, evaluate)

    def _evaluate(self, phase: PhasePlan, evaluate: Evaluate) -> dict[str, float] | None:
        """Evaluates the present step, unless a signal stops the evaluation."""
        try:
            return self._measure(phase, evaluate)
        except Interrupted:
            self.current.unevaluated = True
            return None

    def _evaluate_again(self, phase: PhasePlan, evaluate: Evaluate) -> None:
        """Evaluates the step of a checkpoint whose evaluation was stopped by a signal."""
        with signals.interruptible():
            validation = self._measure(phase, evaluate)
        self.current.unevaluated = False
        with self.times.stage('save'):
            self.checkpoints.replace(*self._checkpoint(), validation)

    def _checkpoint(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """The present step, its arrays and its record, after a check that all values are finite."""
        current = self.current
        nonfinite.check(self.job, current)
        current.wall_time = self.times.split()
        record = current.record()
        self.checkpoints.keep(int(current.best[-1]) if current.best else None)
        return current.step, {'state': current.state, 'totals': current.totals}, record
