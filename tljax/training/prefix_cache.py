"""A phase's frozen stages, run ahead of it: once for all epochs, and kept for other runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import features
from tljax.augment.compose import Operation
from tljax.config.experiment import ConfigError
from tljax.config.phases import PhasePlan
from tljax.data import pipeline
from tljax.features import Features, TrainingViews
from tljax.models.views import Centre
from tljax.records import console
from tljax.strategies.cut import find_cut
from tljax.training import jobs
from tljax.training.evaluation import Evaluate, Evaluation
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Balance, CachePrefix, Dtype, Examples, Params, Stats


@dataclasses.dataclass(frozen=True)
class InPlace:
    """What stands in the place of the images of a split: see `pipeline.InPlace`.

    Attributes:
        values: [M, 1, ...], in memory or on the disk.
        rows: by example, or by position, the row of `values`; -1 where the image was bad.
        first: the position of the first of `rows`; None where they go by example.
    """

    values: Any
    rows: np.ndarray
    first: int | None = None

    def __call__(self, index: int, position: int) -> tuple[np.ndarray, bool]:
        """The features of an example, and whether it has any."""
        row = self.rows[index if self.first is None else position - self.first]
        return self.values[max(row, 0)][0], bool(row >= 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a phase has of its frozen stages.

    Attributes:
        first: the stage that reads it, the first that trains.
        shape: of one example's.
        dtype: likewise.
        train: of the training images, or of their views.
        evaluated: of the splits that are evaluated during training, by their names.
    """

    first: str
    shape: tuple[int, ...]
    dtype: np.dtype
    train: InPlace
    evaluated: Mapping[str, InPlace]


def check(job: Job) -> None:
    """Raises: ConfigError: frozen stages are to be run ahead always, and in no phase they can."""
    if job.experiment.cache_prefix is not CachePrefix.ALWAYS:
        return
    found = [obstacle(job, phase) for phase in job.phases]
    if all(found):
        lines = [f'phase {index + 1}: {reason}' for index, reason in enumerate(found)]
        raise ConfigError('\n'.join(['config.cache_prefix is always, and cannot be:', *lines]))


def obstacle(job: Job, phase: PhasePlan) -> str | None:
    """Why the frozen stages of a phase cannot be run ahead; None where they can."""
    experiment = job.experiment
    if not phase.length:
        return 'it has no steps'
    cut = find_cut(job.model, phase.labels, experiment.norm)
    below = job.model.names[: job.model.names.index(cut.first)]
    if not below:
        return 'no stage below the trained ones is frozen'
    if cut.updates_statistics & set(below):
        return 'the statistics of frozen stages follow the batch under this norm policy'
    for one in experiment.augmentations:
        if not isinstance(one, Operation):
            return f'{type(one).__name__} looks at other images or makes several'
    if job.source and job.source.counts(phase, experiment):
        return 'samples of a source are trained beside the target'
    penalties = job.anchor.plan(phase.index) if job.anchor else None
    if penalties and penalties.of_start and not penalties.shares_prefix:
        return 'a penalty runs the starting network on the images'
    return None


def prepare(job: Job, phase: PhasePlan, state: TrainState, now: int, stop: int) -> Ahead | None:
    """Runs a phase's frozen stages ahead, or finds what they gave on the disk.

    Args:
        job: the experiment.
        phase: one of its phases.
        state: at the step `now`.
        now: the step that training is at, within the phase.
        stop: the step that the phase ends before.

    Returns:
        None where the phase does without.
    """
    wanted = job.experiment.cache_prefix
    if wanted is CachePrefix.NEVER or obstacle(job, phase):
        return None
    if wanted is CachePrefix.AUTO and not _pays(job, phase):
        return None
    train = job.splits['train']
    first = find_cut(job.model, phase.labels, job.experiment.norm).first
    if job.experiment.augmentations:
        shown, views = _shown(job, range(now, stop))
        found = _extract(job, state, train.take(shown), first, views=views)
        in_place = InPlace(found.values, _rows(train.take(shown), found), now * _batch(job))
    else:
        found = _extract(job, state, train, first)
        in_place = InPlace(found.values, _rows(train, found))
    _announce(job, first, found)
    return Ahead(
        first=first,
        shape=tuple(found.values.shape[2:]),
        dtype=np.dtype(found.values.dtype),
        train=in_place,
        evaluated=_evaluated(job, phase, state, first),
    )


def make_evaluate(job: Job, ahead: Ahead) -> Evaluate:
    """`evaluation.make_evaluate` for the splits that `ahead` has, in the middle of training."""
    whole = Evaluation.of(job.experiment, job.model, job.mesh, Centre())
    above = dataclasses.replace(whole, first=ahead.first)

    def evaluate(
        params: Params, stats: Stats, split: str, *, final: bool = False
    ) -> dict[str, Any]:
        assert not final, 'the final evaluation is one of images'
        return above(params, stats, job.splits[split], ahead.evaluated[split])

    return evaluate


def _pays(job: Job, phase: PhasePlan) -> bool:
    """Whether images are shown again as they are, and their features have room in memory."""
    if job.experiment.augmentations:
        return False
    examples = sum(map(len, job.splits.values()))
    again = phase.length * _batch(job) > len(job.splits['train'])
    cut = find_cut(job.model, phase.labels, job.experiment.norm).first
    return again and features.fits(job.model, job.params, job.stats, examples, cut)


def _batch(job: Job) -> int:
    return job.experiment.batch_size


def _shown(job: Job, steps: range) -> tuple[np.ndarray, TrainingViews]:
    """The example at each position of some steps of training, and how it is seen there."""
    experiment = job.experiment
    balanced = experiment.balance is Balance.SAMPLE
    at = pipeline.stream(job.splits['train'].labels, experiment.seed, balanced=balanced)
    shown = [at(p) for p in range(steps.start * _batch(job), steps.stop * _batch(job))]
    views = TrainingViews(
        augmentations=experiment.augmentations,
        key=jobs.keys(experiment.seed)[1],
        steps=np.repeat(steps, _batch(job))[:, None],
    )
    return np.array(shown), views


def _evaluated(job: Job, phase: PhasePlan, state: TrainState, first: str) -> dict[str, InPlace]:
    """Of the splits that are evaluated during training, as evaluation computes them."""
    found = {}
    below = job.model.names[: job.model.names.index(first)]
    if phase.averaged and any(jax.tree.leaves([phase.averaged[name] for name in below])):
        return found  # running means of what trained before go on moving, and are evaluated
    for name in job.experiment.evaluate:
        split = job.splits.get(name)
        if split is not None and len(split):
            own = _extract(job, state, split, first, plain=True)
            found[name] = InPlace(own.values, _rows(split, own))
    return found


def _extract(
    job: Job,
    state: TrainState,
    examples: Examples,
    first: str,
    *,
    views: TrainingViews | None = None,
    plain: bool = False,
) -> Features:
    experiment = job.experiment
    dtype = Dtype.FLOAT32 if plain else experiment.prefix_dtype or experiment.compute_dtype
    params, stats = state.params, state.stats
    if jax.process_count() > 1:  # each process computes on its own devices
        params, stats = jax.device_get((params, stats))
    return features.extract(
        job.model,
        params,
        stats,
        examples,
        cut=first,
        pooling=None,
        dtype=jnp.dtype(dtype.value),
        compute=dtype,
        folded=experiment.fold_prefix and not plain,
        views=views,
        on_device=False,
        cache_gigabytes=experiment.cache_gigabytes,
        batch_size=experiment.batch_size,
        threads=experiment.data_threads,
    )


def _rows(examples: Examples, found: Features) -> np.ndarray:
    """The row of each example among what was found; -1 for one that was left out."""
    rows = np.full(len(examples), -1)
    rows[found.places] = np.arange(len(found))
    return rows


def _announce(job: Job, first: str, found: Features) -> None:
    if jax.process_index():
        return
    last = job.model.names[job.model.names.index(first) - 1]
    kept = len(found) - found.computed
    from_disk = f', {kept:,} of them found on the disk' if kept else ''
    size = console.bytes_text(float(np.prod(found.values.shape)) * found.values.dtype.itemsize)
    what = 'views' if job.experiment.augmentations else 'images'
    console.console.print(
        f'Frozen stages up to {last} were run ahead: {len(found):,} {what}{from_disk}, {size}.'
    )
