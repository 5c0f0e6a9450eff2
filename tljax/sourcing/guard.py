"""Whether a source helps the target: short runs with it and without it, from the same start."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax import job as jobs
from tljax import model as models
from tljax import sharding, step
from tljax import state as states
from tljax.fitting import FittingStep
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.sourced import Sourced
from tljax.sourcing import draws
from tljax.sourcing.verdict import Losses, Verdict, verdict
from tljax.state import TrainState
from tljax.types import Batch, Params, Stats

Read = Callable[[Params, Stats, Batch], tuple[jax.Array, ...]]  # see `_reader`


def compare(job: Job, source: Sourced) -> Verdict:
    """Trains for some steps with a source and without it, on the same batches of the target.

    The phase is the longest in which the source counts, from where it begins but that no earlier
    one has trained. Its steps are spread over it: rates, and how much the source counts, run
    through all that they do in the whole of it. Every pair of runs holds out other images.

    Args:
        job: the experiment.
        source: weighed.
    """
    counting = [p for p in job.phases if p.length and source.counts(p, job.experiment)]
    phase = max(counting, key=lambda one: one.length)
    steps = min(source.config.trial_steps, phase.length)
    pairs, read = draws.make(job, source.config.trial_pairs), _reader(job)
    with_source, without = (_losses(job, pairs, one, phase, steps, read) for one in (source, None))
    return verdict(with_source, without, steps)


def _losses(
    job: Job, pairs: list[Job], source: Sourced | None, phase: PhasePlan, steps: int, read: Read
) -> list[Losses]:
    """Of what each pair holds out, after the run with the source, or that without; one program."""
    whole = dataclasses.replace(job, source=source)
    train_step = FittingStep(whole, phase, job.experiment.accumulate)
    found = []
    for pair in pairs:
        trial = dataclasses.replace(pair, source=source)
        state = _trained(trial, phase, steps, train_step)
        params, parts = states.evaluated(state), []
        for batch in jobs.eval_batches(trial, 'val'):
            *values, mask = read(params, state.stats, sharding.put_batch(job.mesh, batch))
            parts.append([np.asarray(one)[np.asarray(mask)] for one in values])
        found.append(Losses(*map(np.concatenate, zip(*parts, strict=True))))
    return found


def _trained(job: Job, phase: PhasePlan, steps: int, train_step: FittingStep) -> TrainState:
    """The state after so many steps of a phase."""
    state = jobs.first_state(job)
    for before, following in zip(job.phases[: phase.index], job.phases[1:], strict=False):
        if before.phase.solver is not None:
            state, _ = jobs.solve(job, state, before)
        state = jobs.next_state(job, state, following)
    source_ends = jobs.source_ends(job, phase)
    for number, batch in enumerate(jobs.train_batches(job, steps)):
        at = number * phase.length // steps
        if at >= source_ends:
            batch.pop('source', None)
        state = _moved(job, state, at)
        state, _ = train_step(state, sharding.put_batch(job.mesh, batch))
    return state


def _moved(job: Job, state: TrainState, at: int) -> TrainState:
    """The state as at another step of its phase: what follows the step does, nothing else."""

    def moved(leaf: Any) -> Any:
        return optax.ScaleByScheduleState(count=count()) if _is_schedule(leaf) else leaf

    def count() -> jax.Array:  # each its own, as steps take the arrays of a state
        return sharding.put_replicated(job.mesh, np.int32(at))

    opts = (state.opt, state.source and state.source.opt)
    opt, of_source = jax.tree.map(moved, opts, is_leaf=_is_schedule)
    source = state.source and dataclasses.replace(state.source, opt=of_source)
    return dataclasses.replace(state, step=count(), opt=opt, source=source)


def _is_schedule(leaf: Any) -> bool:
    return isinstance(leaf, optax.ScaleByScheduleState)


def _reader(job: Job) -> Read:
    """The function `(params, stats, batch)` to ids, losses and mask of all its images."""
    whole, rows = sharding.replicated(job.mesh), sharding.split(job.mesh)

    def of(params: Params, stats: Stats, batch: Batch) -> tuple[jax.Array, ...]:
        x = models.normalise(job.model.preprocessing, jnp.asarray(batch['image']))
        logits, _ = models.run(job.model, params, stats, x)
        targets = step.targets_of(jnp.asarray(batch['label']), job.model.num_classes)
        ids, mask = (jnp.asarray(batch[name]) for name in ('id', 'mask'))
        return ids, job.experiment.loss(logits, targets), mask

    return jax.jit(of, in_shardings=(whole, whole, rows), out_shardings=whole)
