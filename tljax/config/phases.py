"""Plans the phases of an experiment: their steps, trained parameters and learning rates."""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import jax
import optax

from tljax.config.experiment import ConfigError, Experiment
from tljax.models import adapters, stages
from tljax.models.stages import Model
from tljax.strategies import partition, schedules
from tljax.strategies.cut import Cut, find_cut
from tljax.types import Examples, Params, Phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """A phase with its steps, its trained parameters and its learning rate.

    If an earlier phase runs out of patience, this one starts before `start`, but not before
    `earliest`.

    Attributes:
        index: its place among the phases, from 0.
        start: its first step.
        stop: the step after its last.
        earliest: the first step at which it can start.
        phase: the strategy's description of it.
        labels: per leaf, `frozen` or the group that trains it.
        cut: the stages that it trains.
        averaged: per leaf, whether it has a running mean, because this phase or an earlier one
            trains it. None without running means.
        optimizer_at: makes what updates the trained leaves, from the optimizer's learning rate (a
            number, or a traced array).
        multiplier: of that learning rate, a function of the step within the phase.
        base_rate: the optimizer's learning rate in the experiment.
    """

    index: int
    start: int
    stop: int
    earliest: int = 0
    phase: Phase
    labels: Params
    cut: Cut
    averaged: Params | None
    optimizer_at: Callable[[jax.Array | float], optax.GradientTransformation]
    multiplier: optax.Schedule
    base_rate: float

    @property
    def length(self) -> int:
        """The number of its steps; 0 if a solver replaces them."""
        return self.stop - self.start

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Updates the trained leaves."""
        return self.optimizer_at(self.base_rate)

    def learning_rate(self, step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        """The learning rate at a step within the phase."""
        return self.base_rate * self.multiplier(step)


def make(
    experiment: Experiment, model: Model, params: Params, splits: Mapping[str, Examples]
) -> tuple[PhasePlan, ...]:
    """Plans the phases of an experiment.

    Args:
        experiment: the strategy, the optimizer and the schedule.
        model: the network.
        params: its parameters or their shapes, with the stages in forward order.
        splits: the data; the sizes of `train` and `val` are used.

    Raises:
        InputError: a phase is not valid, or its rules do not fit the parameters.
    """
    phases = experiment.strategy.phases(params)
    _check_phases(phases, experiment, splits)
    examples = len(splits['train'])
    steps_per_epoch = examples / experiment.batch_size
    lengths = [_length(phase, experiment, examples) for phase in phases]
    marks = schedules.marks(experiment.evaluate_every_epochs, steps_per_epoch, sum(lengths))
    plans: list[PhasePlan] = []
    for phase, length in zip(phases, lengths, strict=True):
        before = plans[-1] if plans else None
        plan = _plan(phase, length, before, experiment, model, params, steps_per_epoch)
        earliest = _earliest_stop(before, marks) if before else 0
        plans.append(dataclasses.replace(plan, earliest=earliest))
    adapters.check_trained([partition.trained(plan.labels) for plan in plans])
    return tuple(plans)


def _plan(
    phase: Phase,
    length: int,
    before: PhasePlan | None,
    experiment: Experiment,
    model: Model,
    params: Params,
    steps_per_epoch: float,
) -> PhasePlan:
    """Plans a phase of a number of steps that follows another one."""
    index, start = (before.index + 1, before.stop) if before else (0, 0)
    labels = partition.assign(params, phase.rules, experiment.norm)
    labels = partition.since(labels, before.labels if before else None, index)
    cut = find_cut(model, labels, experiment.norm)
    if phase.solver and cut.trainable != {stages.HEAD}:
        raise ConfigError(f'phase {index + 1} has a solver, wanted rules that train only the head')
    schedule = phase.schedule or experiment.schedule
    multiplier = schedule.multiplier(steps_per_epoch, max(length, 1))

    def optimizer_at(rate: jax.Array | float) -> optax.GradientTransformation:
        return partition.make(
            experiment.optimizer,
            phase.rules,
            labels,
            lambda step: rate * multiplier(step),
            experiment.clip_norm,
            phase.rates,
        )

    return PhasePlan(
        index=index,
        start=start,
        stop=start + length,
        phase=phase,
        labels=labels,
        cut=cut,
        averaged=_averaged(experiment, labels, before),
        optimizer_at=optimizer_at,
        multiplier=multiplier,
        base_rate=experiment.optimizer.learning_rate,
    )


def _check_phases(
    phases: tuple[Phase, ...], experiment: Experiment, splits: Mapping[str, Examples]
) -> None:
    problems = [f'phase {i + 1}: {line}' for i, p in enumerate(phases) for line in p.problems()]
    validated = 'val' in experiment.evaluate and len(splits['val'])
    if any(phase.patience for phase in phases) and not validated:
        problems.append("patience is set, wanted validation images and 'val' in config.evaluate")
    if all(phase.solver for phase in phases):
        problems.append('every phase has a solver, wanted one with steps')
    if problems:
        name = type(experiment.strategy).__name__
        raise ConfigError('\n'.join(f'config.strategy ({name}): {line}' for line in problems))


def _length(phase: Phase, experiment: Experiment, examples: int) -> int:
    if phase.solver:
        return 0
    if phase.steps is not None:
        return phase.steps
    epochs = experiment.epochs if phase.epochs is None else phase.epochs
    return schedules.steps(epochs, examples, experiment.batch_size)


def _earliest_stop(phase: PhasePlan, marks: Collection[int]) -> int:
    """The first step at which a phase can end, by its length or by its patience.

    Patience ends it earliest if its first evaluation remains the best.
    """
    full = phase.earliest + phase.length
    if phase.phase.patience is None:
        return full
    later = sorted(mark for mark in marks if mark > phase.earliest)
    return min([full, *later[phase.phase.patience :][:1]])


def _averaged(experiment: Experiment, labels: Params, before: PhasePlan | None) -> Params | None:
    if experiment.ema_decay is None:
        return None
    trained = partition.trained(labels)
    if before is None:
        return trained
    return jax.tree.map(lambda now, earlier: now or earlier, trained, before.averaged)
