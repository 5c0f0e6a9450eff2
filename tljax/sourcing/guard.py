"""Whether a source helps the target: a short run with it, and one without, from the same start."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from tljax import job as jobs
from tljax import model as models
from tljax import optim, sharding, step
from tljax import state as states
from tljax.fitting import FittingStep
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.sourced import Sourced
from tljax.state import TrainState
from tljax.types import Batch, Params, Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a pair of short runs says, on the target's validation images.

    Attributes:
        steps: of each.
        with_source: mean loss.
        without: mean loss.
        difference: of the first from the second, each image held against itself.
        interval: of 95 %, of that mean over images; it knows of no other draw of batches.
        count: of images.
    """

    steps: int
    with_source: float
    without: float
    difference: float
    interval: tuple[float, float]
    count: int

    @property
    def hurts(self) -> bool:
        """Whether the loss is higher with the source, beyond doubt."""
        return self.interval[0] > 0

    @property
    def helps(self) -> bool:
        """Whether it is lower, beyond doubt."""
        return self.interval[1] < 0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {'says': self.says}

    @property
    def says(self) -> str:
        """In a word."""
        return 'hurts' if self.hurts else 'helps' if self.helps else 'unclear'


def verdict(with_source: np.ndarray, without: np.ndarray, steps: int) -> Verdict:
    """The verdict of the losses [N] of the same images; a single image decides nothing."""
    paired = with_source.astype(np.float64) - without
    mean, count = float(paired.mean()), len(paired)
    half = float('inf')
    if count > 1:
        error = paired.std(ddof=1) / np.sqrt(count)
        half = float(scipy.stats.t.ppf(0.975, count - 1) * error)
    return Verdict(
        steps=steps,
        with_source=float(with_source.mean()),
        without=float(without.mean()),
        difference=mean,
        interval=(mean - half, mean + half),
        count=count,
    )


def compare(job: Job, source: Sourced) -> Verdict:
    """Trains for some steps with a source and without it, on the same batches of the target.

    The phase is the longest in which the source counts, from where it begins but that no earlier
    one has trained; its rates and what the source counts run through all that they do in the
    whole of it, in fewer steps.

    Args:
        job: the experiment.
        source: weighed.
    """
    counting = [p for p in job.phases if p.length and source.counts(p, job.experiment)]
    phase = max(counting, key=lambda one: one.length)
    steps = min(source.config.trial_steps, phase.length)
    short = _shortened(job, phase, steps)
    until = max(1, round(source.until * steps / job.steps))
    losses = []
    for one in (dataclasses.replace(source, until=until), None):
        trial = dataclasses.replace(job, source=one)
        state = _trained(trial, short, steps)
        losses.append(_losses(trial, states.evaluated(state), state.stats))
    return verdict(*losses, steps)


def _shortened(job: Job, phase: PhasePlan, steps: int) -> PhasePlan:
    """A phase whose rates run through in so many steps."""
    faster = phase.length / steps

    def learning_rate(n: Any) -> Any:
        return phase.learning_rate(n * faster)

    optimizer = optim.make(
        job.experiment.optimizer,
        phase.phase.rules,
        phase.labels,
        learning_rate,
        job.experiment.clip_norm,
        phase.phase.rates,
    )
    return dataclasses.replace(
        phase, start=0, stop=steps, optimizer=optimizer, learning_rate=learning_rate
    )


def _trained(job: Job, phase: PhasePlan, steps: int) -> TrainState:
    """The state after the steps."""
    state = jobs.first_state(job)
    for before, following in zip(job.phases[: phase.index], job.phases[1:], strict=False):
        if before.phase.solver is not None:
            state, _ = jobs.solve(job, state, before)
        state = jobs.next_state(job, state, following)
    train_step = FittingStep(job, phase, job.experiment.accumulate)
    for number, batch in enumerate(jobs.train_batches(job, steps)):
        if not jobs.has_source(job, phase, number):
            batch.pop('source', None)
        state, _ = train_step(state, sharding.put_batch(job.mesh, batch))
    return state


def _losses(job: Job, params: Params, stats: Stats) -> np.ndarray:
    """The loss of every validation image, [N]."""
    whole, rows = sharding.replicated(job.mesh), sharding.split(job.mesh)

    def of(params: Params, stats: Stats, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x = models.normalise(job.model.preprocessing, jnp.asarray(batch['image']))
        logits, _ = models.run(job.model, params, stats, x)
        targets = step.targets_of(jnp.asarray(batch['label']), job.model.num_classes)
        return job.experiment.loss(logits, targets), jnp.asarray(batch['mask'])

    run = jax.jit(of, in_shardings=(whole, whole, rows), out_shardings=whole)
    found = [np.asarray(part) for part in _batchwise(job, run, params, stats)]
    return np.concatenate(found)


def _batchwise(job: Job, run: Any, params: Params, stats: Stats) -> Iterator[np.ndarray]:
    for batch in jobs.eval_batches(job, 'val'):
        losses, mask = run(params, stats, sharding.put_batch(job.mesh, batch))
        yield np.asarray(losses)[np.asarray(mask)]
