"""Trains the heads of several jobs together, each with the result that it would have alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.config import config_json, phases
from tljax.config.experiment import ConfigError, Experiment
from tljax.metrics import totals
from tljax.models.stages import HEAD
from tljax.records.predictions import SplitPredictions
from tljax.strategies import schedules
from tljax.training import jobs as jobs_
from tljax.training import nonfinite, prefix_cache, recording, signals
from tljax.training.clock import Clock
from tljax.training.head_grid import program, tables
from tljax.training.head_grid.program import Grid, Program
from tljax.training.head_grid.splits import EvaluatedSplit
from tljax.training.head_grid.tables import Steps, Stream, Table
from tljax.training.jobs import Job
from tljax.training.nonfinite import NotFiniteError
from tljax.training.states import TrainState
from tljax.types import InputError

STATES_BYTES = 2**31  # of the states of one program
COPIES = 8  # of a head: values and two moments, now and at the best step, and two in a step


@dataclasses.dataclass
class TrainedHead:
    """The head of a job and the records of its training.

    Attributes:
        job: the experiment.
        records: of metrics.jsonl.
        best: score, minus the loss, and step of the best evaluation; None without validation.
        failed: whether a loss or a value was not finite.
        state: with the best head, or without validation the last one.
        predictions: of that head, by split.
    """

    job: Job
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: tuple[float, float, int] | None = None
    failed: bool = False
    state: TrainState | None = None
    predictions: dict[str, SplitPredictions] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        job, experiment = self.job, self.job.experiment
        self.marks = schedules.marks(
            experiment.evaluate_every_epochs, job.steps_per_epoch, job.steps
        )
        every = experiment.log_every_steps
        self.events = self.marks | set(range(every, job.steps + 1, every))

    @property
    def step(self) -> int:
        """The step of `state`."""
        return self.best[-1] if self.best else self.job.steps

    def rank(self, metrics: dict[str, Any], step: int) -> bool:
        """Whether an evaluation is the best so far; of equal ones the latest is."""
        values = totals.ranking(metrics)
        rank = (values['score'], -values['loss'], step)
        if self.best is None or rank > self.best:
            self.best = rank
            return True
        return False


def train(experiments: Sequence[Experiment]) -> list[TrainedHead | None]:
    """Trains the heads of experiments that `conditions.obstacle` allows.

    They have to agree in everything but the learning rate, weight decay, schedule, epochs, seeds,
    and the selection of labelled images.

    Returns:
        The heads, in the same order; None for an experiment that cannot run, or that would train
        without a prefix cache.

    Raises:
        InputError: the experiments do not share the prefix, or an image cannot be read.
        Interrupted: a signal stopped the training; nothing is saved.
    """
    jobs = _set_up(experiments)
    _check([job for job in jobs if job])
    heads = [job and TrainedHead(job) for job in jobs]
    trained = [head for head in heads if head]
    size = _heads_per_program(trained[0].job) if trained else 1
    for start in range(0, len(trained), size):
        _Training(trained[start : start + size]).run()
    return heads


def _set_up(experiments: Sequence[Experiment]) -> list[Job | None]:
    """The jobs of experiments; those that differ in the optimizer only share all but the plan."""
    by_rest: dict[str, Job | None] = {}
    jobs: list[Job | None] = []
    for experiment in experiments:
        rest = dataclasses.replace(experiment, optimizer=experiments[0].optimizer)
        key = config_json.to_json(rest)
        if key not in by_rest:
            by_rest[key] = _job(experiment)
        jobs.append(_with_optimizer(by_rest[key], experiment))
    return jobs


def _job(experiment: Experiment) -> Job | None:
    try:
        job = jobs_.setup(experiment)
    except InputError:  # the run alone reports it
        return None
    return job if prefix_cache.serves(job, job.phases[0]) else None


def _with_optimizer(job: Job | None, experiment: Experiment) -> Job | None:
    if job is None or job.experiment is experiment:
        return job
    plans = phases.make(experiment, job.model, job.params, job.splits)
    return dataclasses.replace(job, experiment=experiment, phases=plans)


def _heads_per_program(job: Job) -> int:
    """The number of heads whose states fit into a fixed amount of memory.

    It depends on no machine, because another number can change the last digits of a result.
    """
    head = sum(int(np.prod(leaf.shape)) * 4 for leaf in jax.tree.leaves(job.params[HEAD]))
    return max(1, STATES_BYTES // (COPIES * head))


def _check(jobs: Sequence[Job]) -> None:
    """Raises a `ConfigError` if the jobs do not share the frozen stages and the classes."""
    for job in jobs:
        first = jobs[0]
        if job.splits['train'].class_names != first.splits['train'].class_names:
            raise ConfigError('the experiments have different classes')
        if job.splits.keys() != first.splits.keys() or not _same_prefix(job, first):
            raise ConfigError('the experiments have different frozen stages or splits')


def _same_prefix(one: Job, other: Job) -> bool:
    below = [{n: x for n, x in job.params.items() if n != HEAD} for job in (one, other)]
    return _equal(*below) and _equal(one.stats, other.stats)


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a is b or np.array_equal(a, b) for a, b in pairs)


class _Training:
    """The training of heads from start to end."""

    def __init__(self, heads: Sequence[TrainedHead]):
        self._heads = heads
        jobs = [head.job for head in heads]
        self._table: Table = tables.make(jobs, 'train', plain=False)
        self._features = jnp.asarray(self._table.features)
        pairs = zip(jobs, self._table.rows, strict=True)
        self._streams = [Stream(job, rows) for job, rows in pairs]
        self._rates = [tables.learning_rates(job) for job in jobs]
        names = {*jobs[0].experiment.evaluate, 'val', 'test'}
        self._splits = {
            name: EvaluatedSplit(jobs, name)
            for name in sorted(names & jobs[0].splits.keys())
            if any(len(job.splits[name]) for job in jobs)
        }
        self._program = Program(jobs)
        self._grid: Grid = self._program.start(jobs)
        self._clock = Clock(jobs[0].experiment.batch_size)

    def run(self) -> None:
        """Trains, and gives every head its state and its predictions."""
        events = sorted(set().union(*(head.events for head in self._heads)))
        length = max(np.diff([0, *events]).tolist())
        reset = np.zeros(len(self._heads), bool)
        with signals.heard():
            for start, stop in zip([0, *events], events, strict=False):
                steps = self._steps(start, length)
                self._grid = self._program.advance(
                    self._grid, reset, steps, stop - start, self._features
                )
                reset = self._record(stop, stop - start)
        self._conclude()

    def _steps(self, start: int, length: int) -> Steps:
        """The steps from `start` on; those after the last of a job repeat others."""
        batches = [stream.batches(start, length) for stream in self._streams]
        numbers = start + np.arange(length)
        last = [head.job.steps - 1 for head in self._heads]
        pairs = zip(self._rates, last, strict=True)
        return Steps(
            rows=np.stack([rows for rows, _ in batches], 1),
            labels=np.stack([labels for _, labels in batches], 1),
            rates=np.stack([rates[np.minimum(numbers, end)] for rates, end in pairs], 1),
            active=np.stack([numbers <= end for end in last], 1),
        )

    def _record(self, step: int, steps: int) -> np.ndarray:
        """Records a step; returns the heads that did, [C] bool."""
        sums = jax.device_get(self._grid.sums)
        self._clock.count(steps)
        recorded = np.array([step in head.events and not head.failed for head in self._heads])
        for place in np.flatnonzero(recorded).tolist():
            self._record_training(self._heads[place], _at(sums, place), step)
        if any(step in head.marks for head in self._heads):
            self._evaluate(step)
        return recorded

    def _record_training(self, head: TrainedHead, sums: totals.Sums, step: int) -> None:
        try:
            nonfinite.check_loss(head.job, sums)
        except NotFiniteError:
            head.failed = True
            return
        (phase,) = head.job.phases
        record = recording.of_training(head.job, phase, sums, step, 0, self._clock)
        head.records.append(record)

    def _evaluate(self, step: int) -> None:
        """Records the evaluations of the heads that are due, and keeps the best states."""
        better = np.zeros(len(self._heads), bool)
        chosen = self._heads[0].job.experiment.evaluate
        for name in [name for name in chosen if name in self._splits]:
            results = self._splits[name].evaluate(self._program, self._grid.states.params)
            for place, head in enumerate(self._heads):
                metrics, finite = results[place]
                head.failed |= step in head.marks and not finite
                if step not in head.marks or head.failed or not len(head.job.splits[name]):
                    continue
                (phase,) = head.job.phases
                head.records.append(recording.of_evaluation(head.job, phase, name, metrics, step))
                if name == 'val':
                    better[place] = head.rank(metrics, step)
        self._grid = program.keep_best(self._grid, better)
        self._clock.restart()

    def _conclude(self) -> None:
        validated = np.array([head.best is not None for head in self._heads])
        self._grid = program.keep_best(self._grid, ~validated)
        predicted = {
            name: split.predict(self._program, self._grid.best.params)
            for name, split in self._splits.items()
            if name in ('val', 'test')
        }
        best = jax.device_get(self._grid.best)
        job = self._heads[0].job
        shapes: TrainState = jobs_.checkpoint_shapes(job, job.phases[0])['state']
        for place, head in enumerate(self._heads):
            state: TrainState = _at(best, place)
            head.failed |= not all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
            head.state = _full_state(head.job, state, shapes)
            head.predictions = {name: split[place] for name, split in predicted.items()}


def _full_state(job: Job, state: TrainState, shapes: TrainState) -> TrainState:
    """The state of a job with its complete network, from the state of its head."""
    leaves, wanted = jax.tree.leaves(state.opt), jax.tree.leaves(shapes.opt)
    assert [leaf.shape for leaf in leaves] == [leaf.shape for leaf in wanted]
    return TrainState(
        step=state.step,
        params={**job.params, HEAD: state.params[HEAD]},
        stats=job.stats,
        opt=jax.tree.unflatten(jax.tree.structure(shapes.opt), leaves),
    )


def _at(stacked: Any, place: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], stacked)
