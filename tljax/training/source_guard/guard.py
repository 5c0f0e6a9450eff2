"""Whether a source helps the target: short runs with it and without it, from the same start."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.models.views import Centre
from tljax.training import batch_inputs, states, walk
from tljax.training.batches import Feed
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

    The phase is the one that trains on the source for the most steps; no earlier phase is trained
    before it. The steps of a short run are spread over the phase, so that learning rates, and the
    weight of the source, take the values that they have in the whole of it. Where an earlier phase
    may run out of patience, the phase begins at its earliest step, which has the most of the
    source. Every pair of runs holds out other images.

    Args:
        job: the experiment.
        source: weighed.
    """
    phase = max(job.phases, key=lambda one: source.steps_of(one, job.experiment))
    steps = min(source.config.trial_steps, phase.length)
    pairs, read = draws.make(job, source.config.trial_pairs), Reader(job)
    with_source, without = (_losses(job, pairs, one, phase, steps, read) for one in (source, None))
    return verdict(with_source, without, steps, phase.length)


def _losses(
    job: Job, pairs: list[Job], source: Sourced | None, phase: PhasePlan, steps: int, read: 'Reader'
) -> list[Losses]:
    """Of what each pair holds out, after the run with the source, or that without; one program."""
    whole = dataclasses.replace(job, source=source)
    train_step = FittingStep(whole, phase, job.experiment.accumulate, at=phase.earliest)
    found = []
    for pair in pairs:
        trial = dataclasses.replace(pair, source=source)
        state = _trained(trial, phase, steps, train_step)
        found.append(read(states.evaluated(state), state.stats, trial.splits['val']))
    return found


def _trained(job: Job, phase: PhasePlan, steps: int, train_step: FittingStep) -> TrainState:
    """The state after so many steps, spread over a phase."""
    state, feed = walk.start_of(job, phase), Feed(job, phase, steps=steps)
    for number in range(steps):
        of_phase = number * phase.length // steps
        step = phase.earliest + of_phase
        state = walk.moved(job.mesh, state, step, of_phase)
        state, _ = train_step(state, feed.take(step))
    return state


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
