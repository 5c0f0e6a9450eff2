"""Compares short runs with samples and without them, from the same starting values."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.models.views import Centre
from tljax.training import states, walk
from tljax.training.batches import Feed
from tljax.training.compiled_step import CompiledStep
from tljax.training.evaluation import Evaluation
from tljax.training.jobs import Job
from tljax.training.source_data import Samples
from tljax.training.source_guard import draws
from tljax.training.source_guard.verdict import Losses, Verdict, verdict
from tljax.training.states import TrainState
from tljax.types import Examples, Params, Stats


def compare(job: Job, samples: Samples) -> Verdict:
    """Trains for some steps with samples and without them, on the same batches of the target.

    Short runs train the phase with the most steps on samples; the phases before it train no steps.
    Their steps are spread over the phase, so that learning rates and the strength of samples take
    the same values as in the complete phase. If an earlier phase can run out of patience, the phase
    starts at its earliest step, where it has the most samples. Every pair of runs holds out
    other images.

    Args:
        job: the experiment.
        samples: the samples with their weights.
    """
    phase = max(job.phases, key=samples.steps_in)
    steps = min(samples.config.trial_steps, phase.length)
    pairs, read_losses = draws.make(job, samples.config.trial_pairs), LossReader(job)
    with_samples, without = (
        _losses(job, pairs, one, phase, steps, read_losses) for one in (samples, None)
    )
    return verdict(with_samples, without, steps, phase.length)


def _losses(
    job: Job,
    pairs: list[Job],
    samples: Samples | None,
    phase: PhasePlan,
    steps: int,
    read_losses: 'LossReader',
) -> list[Losses]:
    """The losses of held-out images after one run of each pair; all runs share one program."""
    job = dataclasses.replace(job, samples=samples)
    train_step = CompiledStep(job, phase, job.experiment.accumulate, first_step=phase.earliest)
    losses = []
    for pair in pairs:
        trial = dataclasses.replace(pair, samples=samples)
        state = _trained(trial, phase, steps, train_step)
        losses.append(read_losses(states.evaluated(state), state.stats, trial.splits['val']))
    return losses


def _trained(job: Job, phase: PhasePlan, steps: int, train_step: CompiledStep) -> TrainState:
    """The state after `steps` steps that are spread over a phase."""
    state, feed = walk.start_of(job, phase), Feed(job, phase, steps=steps)
    for number in range(steps):
        step_of_phase = number * phase.length // steps
        step = phase.earliest + step_of_phase
        state = walk.at_step(job.mesh, state, step, step_of_phase)
        state, _ = train_step(state, feed.take(step))
    return state


class LossReader:
    """Computes the loss of every image, with the program that evaluates the job."""

    def __init__(self, job: Job):
        self._evaluation = Evaluation.of(job.experiment, job.model, job.mesh, Centre())

        @functools.partial(jax.jit, out_shardings=devices.replicated(job.mesh))
        def losses(logits: jax.Array, rows: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            targets = job.model.targets(rows['label'])
            return rows['id'], job.experiment.loss(logits, targets), rows['mask']

        self._losses = losses

    def __call__(self, params: Params, stats: Stats, examples: Examples) -> Losses:
        """The losses of all examples, including those of other processes."""
        parts = []
        for batch, _, logits in self._evaluation.batches(params, stats, examples):
            rows: Any = {name: batch[name] for name in ('id', 'label', 'mask')}
            *values, mask = self._losses(logits, devices.put_batch(self._evaluation.mesh, rows))
            parts.append([np.asarray(one)[np.asarray(mask)] for one in values])
        return Losses(*map(np.concatenate, zip(*parts, strict=True)))
