"""The walk through the phases of an experiment: the one place where a phase follows another."""

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
    """What happens in a phase once it is entered: its steps, or a part of them.

    `solution` is that of the phase's solver, None for a phase that has steps. Returns the state at
    the end of the phase.
    """

    def __call__(
        self, phase: PhasePlan, state: TrainState, solution: Solution | None
    ) -> TrainState: ...


def walk(
    job: Job, phases: Iterable[PhasePlan], visit: Visit, state: TrainState | None = None
) -> TrainState:
    """Enters and visits one phase after the other.

    Args:
        job: the experiment.
        phases: consecutive phases of it.
        visit: trains the steps of a phase.
        state: at the end of the phase before these; None where they begin with the first.

    Returns:
        The state at the end of the last phase.
    """
    for phase in phases:
        state, solution = enter(job, phase, state)
        state = visit(phase, state, solution)
    assert state is not None
    return state


def enter(
    job: Job, phase: PhasePlan, before: TrainState | None
) -> tuple[TrainState, Solution | None]:
    """The state that the steps of a phase start from.

    Args:
        job: the experiment.
        phase: one of its phases.
        before: the state at the end of the phase before it; None for the first phase.

    Returns:
        The state, with the head solved where the phase has a solver; and that solver's solution.
    """
    state = jobs.first_state(job) if before is None else jobs.next_state(job, before, phase)
    if phase.phase.solver is None:
        return state, None
    return solved_head.solve(job, state, phase)


def start_of(job: Job, phase: PhasePlan) -> TrainState:
    """The state that a phase starts from where no phase before it trains a step.

    Solvers of the phases before it, and its own, have done their work.
    """
    return walk(job, job.phases[: phase.index + 1], lambda phase, state, solution: state)


def moved(mesh: Mesh, state: TrainState, step: int, step_of_phase: int) -> TrainState:
    """The state as if it stood at another step: its count of steps and its schedules are moved.

    Moments of the optimizer, and the counts that correct their bias, stay as they are.

    Args:
        mesh: the devices that hold it.
        state: of the network and of the source's own head.
        step: of the experiment.
        step_of_phase: that learning rates are taken from.
    """

    def count(value: int) -> jax.Array:  # a new array each, because a step donates its arguments
        return devices.put_replicated(mesh, np.int32(value))

    def rescheduled(leaf: Any) -> Any:
        return leaf._replace(count=count(step_of_phase)) if _is_schedule(leaf) else leaf

    opts = (state.opt, state.source and state.source.opt)
    opt, of_source = jax.tree.map(rescheduled, opts, is_leaf=_is_schedule)
    source = state.source and dataclasses.replace(state.source, opt=of_source)
    return dataclasses.replace(state, step=count(step), opt=opt, source=source)


def _is_schedule(leaf: Any) -> bool:
    return isinstance(leaf, optax.ScaleByScheduleState)
