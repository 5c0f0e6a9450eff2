"""Whether a source helps the target: short runs with it and without it, from the same start."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.models.views import Centre
from tljax.training import batch_inputs, jobs, solved_head, states
from tljax.training.batches import train_batches
from tljax.training.evaluation import Evaluation
from tljax.training.jobs import Job
from tljax.training.memory_fallback import FittingStep
from tljax.training.source_data import Sourced
from tljax.training.source_guard import draws
from tljax.training.source_guard.verdict import Losses, Verdict, verdict
from tljax.training.states import TrainState
from tljax.types import Examples, Params, Stats


def compare(job: Job, source: Sourced) -> Verdict:
    """Trains for some steps with a source and without it, on the same batches of the target.

    The phase is the longest in which the source counts, from where it begins but that no earlier
    one has trained. Its steps are spread over it: rates, and how much the source counts, run
    through all that they do in the whole of it. Every pair of runs holds out other images.

    Args:
        job: the experiment.
        source: weighed.
    """
    counting = [p for p in job.phases if source.seen(p, job.experiment)]
    phase = max(counting, key=lambda one: one.length)
    steps = min(source.config.trial_steps, phase.length)
    pairs, read = draws.make(job, source.config.trial_pairs), Reader(job)
    with_source, without = (_losses(job, pairs, one, phase, steps, read) for one in (source, None))
    return verdict(with_source, without, steps, phase.length)


def _losses(
    job: Job, pairs: list[Job], source: Sourced | None, phase: PhasePlan, steps: int, read: 'Reader'
) -> list[Losses]:
    """Of what each pair holds out, after the run with the source, or that without; one program."""
    whole = dataclasses.replace(job, source=source)
    train_step = FittingStep(whole, phase, job.experiment.accumulate)
    found = []
    for pair in pairs:
        trial = dataclasses.replace(pair, source=source)
        state = _trained(trial, phase, steps, train_step)
        found.append(read(states.evaluated(state), state.stats, trial.splits['val']))
    return found


def _trained(job: Job, phase: PhasePlan, steps: int, train_step: FittingStep) -> TrainState:
    """The state after so many steps of a phase."""
    state = jobs.first_state(job)
    for before, following in zip(job.phases[: phase.index], job.phases[1:], strict=False):
        if before.phase.solver is not None:
            state, _ = solved_head.solve(job, state, before)
        state = jobs.next_state(job, state, following)
    source_ends = jobs.source_ends(job, phase)
    for number, batch in enumerate(train_batches(job, steps)):
        at = number * phase.length // steps
        if phase.start + at >= source_ends:
            batch.pop('source', None)
        state = _moved(job, state, phase, at)
        state, _ = train_step(state, devices.put_batch(job.mesh, batch))
    return state


def _moved(job: Job, state: TrainState, phase: PhasePlan, at: int) -> TrainState:
    """The state as at another step of its phase: what follows the step does, nothing else."""

    def moved(leaf: Any) -> Any:
        return optax.ScaleByScheduleState(count=count(at)) if _is_schedule(leaf) else leaf

    def count(value: int) -> jax.Array:  # each its own, as steps take the arrays of a state
        return devices.put_replicated(job.mesh, np.int32(value))

    opts = (state.opt, state.source and state.source.opt)
    opt, of_source = jax.tree.map(moved, opts, is_leaf=_is_schedule)
    source = state.source and dataclasses.replace(state.source, opt=of_source)
    return dataclasses.replace(state, step=count(phase.start + at), opt=opt, source=source)


def _is_schedule(leaf: Any) -> bool:
    return isinstance(leaf, optax.ScaleByScheduleState)


class Reader:
    """Reads the loss of every image, by the program that evaluates the run."""

    def __init__(self, job: Job):
        self._evaluation = Evaluation.of(job.experiment, job.model, job.mesh, Centre())
        whole = devices.replicated(job.mesh)

        @functools.partial(jax.jit, out_shardings=whole)
        def losses(logits: jax.Array, rows: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            targets = batch_inputs.targets_of(rows['label'], job.model.num_classes)
            return rows['id'], job.experiment.loss(logits, targets), rows['mask']

        self._losses = losses

    def __call__(self, params: Params, stats: Stats, examples: Examples) -> Losses:
        """Of all of them, whichever process has them."""
        parts = []
        for batch, _, logits in self._evaluation.batches(params, stats, examples):
            rows: Any = {name: batch[name] for name in ('id', 'label', 'mask')}
            *values, mask = self._losses(logits, devices.put_batch(self._evaluation.mesh, rows))
            parts.append([np.asarray(one)[np.asarray(mask)] for one in values])
        return Losses(*map(np.concatenate, zip(*parts, strict=True)))
