"""Whether a source helps the target: a short run with it, and one without, from the same start."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

from tljax import inputs, sharding, solved_head
from tljax import job as jobs
from tljax import model as models
from tljax import state as states
from tljax.batches import eval_batches, train_batches
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
    one has trained. Its steps are spread over it: rates, and how much the source counts, run
    through all that they do in the whole of it.

    Args:
        job: the experiment.
        source: weighed.
    """
    counting = [p for p in job.phases if p.length and source.counts(p, job.experiment)]
    phase = max(counting, key=lambda one: one.length)
    steps = min(source.config.trial_steps, phase.length)
    losses = []
    for one in (source, None):
        trial = dataclasses.replace(job, source=one)
        state = _trained(trial, phase, steps)
        losses.append(_losses(trial, states.evaluated(state), state.stats))
    return verdict(losses[0], losses[1], steps)


def _trained(job: Job, phase: PhasePlan, steps: int) -> TrainState:
    """The state after so many steps of a phase, by its own program."""
    state = jobs.first_state(job)
    for before, following in zip(job.phases[: phase.index], job.phases[1:], strict=False):
        if before.phase.solver is not None:
            state, _ = solved_head.solve(job, state, before)
        state = jobs.next_state(job, state, following)
    train_step = FittingStep(job, phase, job.experiment.accumulate)
    source_ends = jobs.source_ends(job, phase)
    for number, batch in enumerate(train_batches(job, steps)):
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


def _losses(job: Job, params: Params, stats: Stats) -> np.ndarray:
    """The loss of every validation image, [N]."""
    whole, rows = sharding.replicated(job.mesh), sharding.split(job.mesh)

    def of(params: Params, stats: Stats, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x = models.normalise(job.model.preprocessing, jnp.asarray(batch['image']))
        logits, _ = models.run(job.model, params, stats, x)
        targets = inputs.targets_of(jnp.asarray(batch['label']), job.model.num_classes)
        return job.experiment.loss(logits, targets), jnp.asarray(batch['mask'])

    run = jax.jit(of, in_shardings=(whole, whole, rows), out_shardings=whole)
    found = [np.asarray(part) for part in _batchwise(job, run, params, stats)]
    return np.concatenate(found)


def _batchwise(job: Job, run: Any, params: Params, stats: Stats) -> Iterator[np.ndarray]:
    for batch in eval_batches(job, 'val'):
        losses, mask = run(params, stats, sharding.put_batch(job.mesh, batch))
        yield np.asarray(losses)[np.asarray(mask)]
