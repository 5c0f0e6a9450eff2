"""Goes through the phases of an experiment, and gives each the state that it starts from."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.training import jobs, solved_head
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Solution


class Visit(Protocol):
    """Trains a phase, or a part of it, and returns the state at its end.

    `state` is the state at its start, and `solution` the result of its solver, if it has one.
    """

    def __call__(
        self, phase: PhasePlan, state: TrainState, solution: Solution | None
    ) -> TrainState: ...


def walk(
    job: Job, phases: Iterable[PhasePlan], visit: Visit, state: TrainState | None = None
) -> TrainState:
    """Trains consecutive phases; returns the state at the end of the last one.

    Args:
        job: the experiment.
        phases: consecutive phases of it.
        visit: trains the steps of a phase.
        state: the state at the end of the phase before these; None before the first phase.
    """
    for phase in phases:
        state, solution = enter(job, phase, state)
        state = visit(phase, state, solution)
    assert state is not None
    return state


def enter(
    job: Job, phase: PhasePlan, before: TrainState | None
) -> tuple[TrainState, Solution | None]:
    """The state at the first step of a phase, and the solution of its solver, if it has one.

    A solver has already replaced the head in that state.

    Args:
        job: the experiment.
        phase: one of its phases.
        before: the state at the end of the phase before it; None for the first phase.
    """
    state = jobs.first_state(job) if before is None else jobs.next_state(job, before, phase)
    if phase.phase.solver is None:
        return state, None
    return solved_head.solve(job, state, phase)


def start_of(job: Job, phase: PhasePlan) -> TrainState:
    """The state at the start of a phase if the phases before it train no steps.

    Solvers of those phases, and its own, do run.
    """
    return walk(job, job.phases[: phase.index + 1], lambda phase, state, solution: state)


def at_step(mesh: Mesh, state: TrainState, step: int, step_of_phase: int) -> TrainState:
    """The state with other counts of steps, from which learning rates are computed.

    Moments of the optimizer, and the counts that correct their bias, do not change.

    Args:
        mesh: the devices that hold the state.
        state: the state to change.
        step: the step of the experiment.
        step_of_phase: the step of the phase.
    """

    def count(value: int) -> jax.Array:  # a new array each, because a step donates its state
        return devices.put_replicated(mesh, np.int32(value))

    def rescheduled(leaf: Any) -> Any:
        return leaf._replace(count=count(step_of_phase)) if _is_schedule(leaf) else leaf

    opts = (state.opt, state.source and state.source.opt)
    opt, samples_opt = jax.tree.map(rescheduled, opts, is_leaf=_is_schedule)
    samples = state.source and dataclasses.replace(state.source, opt=samples_opt)
    return dataclasses.replace(state, step=count(step), opt=opt, source=samples)


def _is_schedule(leaf: Any) -> bool:
    return isinstance(leaf, optax.ScaleByScheduleState)
