"""The prefix cache: outputs of a phase's frozen stages, computed once for all of its epochs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import devices, features
from tljax.augment.compose import Operation
from tljax.config.experiment import ConfigError
from tljax.config.phases import PhasePlan
from tljax.data import pipeline
from tljax.features import Features, TrainingViews
from tljax.models.views import Centre
from tljax.records import console
from tljax.training import jobs
from tljax.training.evaluation import Evaluate, Evaluation
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Balance, CachePrefix, Dtype, Examples, Params, Stats


@dataclasses.dataclass(frozen=True)
class CachedFeatures:
    """Replaces the images of a split by their features; a `pipeline.Substitute`.

    Attributes:
        values: [M, 1, ...], in memory or on the disk.
        rows: the row of `values` for each example or position; -1 if the image was unreadable.
        first: the position of the first of `rows`; None if they are by example.
    """

    values: Any
    rows: np.ndarray
    first: int | None = None

    @classmethod
    def of(
        cls, examples: Examples, extracted: Features, first: int | None = None
    ) -> 'CachedFeatures':
        """The features of examples, of which unreadable ones were left out."""
        rows = np.full(len(examples), -1)
        rows[extracted.places] = np.arange(len(extracted))
        return cls(extracted.values, rows, first)

    def __call__(self, index: int, position: int) -> tuple[np.ndarray, bool]:
        """The features of an example, and whether its image was readable."""
        row = self.rows[index if self.first is None else position - self.first]
        return self.values[max(row, 0)][0], bool(row >= 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixCache:
    """The cached outputs of a phase's frozen stages.

    Attributes:
        first: the first stage that trains, which reads them.
        shape: shape and dtype of one example's features.
        train: the features of the training images, or of their augmented views.
        evaluated: the features of the splits that are evaluated during training, by name.
    """

    first: str
    shape: jax.ShapeDtypeStruct
    train: CachedFeatures
    evaluated: Mapping[str, CachedFeatures]


def check(job: Job) -> None:
    """Raises: ConfigError: a prefix cache is required, and no phase can have one."""
    if job.experiment.cache_prefix is not CachePrefix.ALWAYS:
        return
    reasons = [obstacle(job, phase) for phase in job.phases]
    if all(reasons):
        lines = [f'phase {index + 1}: {reason}' for index, reason in enumerate(reasons)]
        raise ConfigError('\n'.join(['config.cache_prefix is always, and cannot be:', *lines]))


def obstacle(job: Job, phase: PhasePlan) -> str | None:
    """Why a phase cannot have a prefix cache; None if it can."""
    if not phase.length:
        return 'it has no steps'
    if job.model.task.continues:
        return 'a row continues the text of the step before'
    below = _below(job, phase)
    if not below:
        return 'no stage below the trained ones is frozen'
    if phase.cut.updates_statistics & set(below):
        return 'the statistics of frozen stages follow the batch under this norm policy'
    for one in job.experiment.augmentations:
        if not isinstance(one, Operation):
            return f'{type(one).__name__} looks at other images or makes several'
    if job.samples and job.samples.matter_in(phase):
        return 'samples of a source are trained beside the target'
    penalties = job.penalties_in(phase)
    if penalties and penalties.of_start and not penalties.shares_prefix:
        return 'a penalty runs the starting network on the images'
    return None


def serves(job: Job, phase: PhasePlan) -> bool:
    """Whether a phase trains with a prefix cache."""
    setting = job.experiment.cache_prefix
    if setting is CachePrefix.NEVER or obstacle(job, phase):
        return False
    return setting is CachePrefix.ALWAYS or _pays(job, phase)


def prepare(
    job: Job, phase: PhasePlan, state: TrainState, now: int, stop: int
) -> PrefixCache | None:
    """Computes the prefix cache of a phase, or reads it from the disk.

    Args:
        job: the experiment.
        phase: one of its phases.
        state: the state at step `now`.
        now: the present step of training.
        stop: the step after the last of the phase.

    Returns:
        The cache; None if the phase trains without one.
    """
    if not serves(job, phase):
        return None
    train, cut = job.splits['train'], phase.cut.first
    if job.experiment.augmentations:
        order, views = _training_views(job, range(now, stop))
        train = train.take(order)
        extracted = extract(job, state, train, cut, views=views)
        cached = CachedFeatures.of(train, extracted, now * job.experiment.batch_size)
    else:
        extracted = extract(job, state, train, cut)
        cached = CachedFeatures.of(train, extracted)
    _announce(job, _below(job, phase)[-1], extracted)
    values = extracted.values
    return PrefixCache(
        first=cut,
        shape=jax.ShapeDtypeStruct(values.shape[2:], np.dtype(values.dtype)),
        train=cached,
        evaluated=_evaluated(job, phase, state),
    )


def make_evaluate(job: Job, cache: PrefixCache) -> Evaluate:
    """`evaluation.make_evaluate` on cached features, for evaluation during training."""
    suffix = Evaluation.of(job.experiment, job.model, job.mesh, Centre(), cache.first)

    def evaluate(
        params: Params, stats: Stats, split: str, *, final: bool = False
    ) -> dict[str, Any]:
        assert not final, 'the final evaluation is one of images'
        return suffix(params, stats, job.splits[split], cache.evaluated[split])

    return evaluate


def _below(job: Job, phase: PhasePlan) -> tuple[str, ...]:
    """The frozen stages below the first trained one."""
    return job.model.names[: job.model.names.index(phase.cut.first)]


def _pays(job: Job, phase: PhasePlan) -> bool:
    """Whether training repeats images without augmentation, and their features fit in memory."""
    if job.experiment.augmentations:
        return False
    repeats = phase.length * job.experiment.batch_size > len(job.splits['train'])
    count = sum(map(len, job.splits.values()))
    return repeats and features.fits(job.model, job.params, job.stats, count, phase.cut.first)


def _training_views(job: Job, steps: range) -> tuple[np.ndarray, TrainingViews]:
    """The example at each position of some steps of training, and its augmented view there."""
    experiment, size = job.experiment, job.experiment.batch_size
    balanced = experiment.balance is Balance.SAMPLE
    example_at = pipeline.order_of(
        job.splits['train'],
        job.model.preprocessing,
        experiment.batch_size,
        experiment.seed,
        balanced=balanced,
    )
    order = [example_at(position) for position in range(steps.start * size, steps.stop * size)]
    views = TrainingViews(
        augmentations=experiment.augmentations,
        key=jobs.keys(experiment.seed)[1],
        steps=np.repeat(steps, size)[:, None],
    )
    return np.array(order), views


def _evaluated(job: Job, phase: PhasePlan, state: TrainState) -> dict[str, CachedFeatures]:
    """The features of the splits that are evaluated during training, computed as in evaluation."""
    if phase.averaged and any(jax.tree.leaves([phase.averaged[n] for n in _below(job, phase)])):
        return {}  # running means of leaves that trained before still change, and are evaluated
    cached = {}
    for name in job.experiment.evaluate:
        split = job.splits.get(name)
        if split is not None and len(split):
            extracted = extract(job, state, split, phase.cut.first, plain=True)
            cached[name] = CachedFeatures.of(split, extracted)
    return cached


def extract(
    job: Job,
    state: TrainState,
    examples: Examples,
    cut: str,
    *,
    views: TrainingViews | None = None,
    plain: bool = False,
) -> Features:
    """The outputs of the stages below a cut.

    Args:
        job: the experiment.
        state: the parameters and statistics of the stages.
        examples: the images.
        cut: the first stage that is not run.
        views: the views that training would see; None for the images without augmentation.
        plain: whether to compute in float32 without folding, as evaluation does.
    """
    experiment = job.experiment
    dtype = Dtype.FLOAT32 if plain else experiment.prefix_dtype or experiment.compute_dtype
    params, stats = state.params, state.stats
    if jax.process_count() > 1:  # each process computes on its own devices
        params, stats = jax.device_get(devices.put_replicated(job.mesh, (params, stats)))
    return features.extract(
        job.model,
        params,
        stats,
        examples,
        cut=cut,
        pooling=None,
        dtype=jnp.dtype(dtype.value),
        compute=dtype,
        folded=experiment.fold_prefix and not plain,
        views=views,
        on_device=False,
        **vars(experiment.reading),
    )


def _announce(job: Job, last: str, extracted: Features) -> None:
    if jax.process_index():
        return
    read = len(extracted) - extracted.computed
    from_disk = f', {read:,} of them read from the disk' if read else ''
    values = extracted.values
    size = console.bytes_text(float(np.prod(values.shape)) * values.dtype.itemsize)
    what = 'views' if job.experiment.augmentations else job.model.preprocessing.inputs
    console.console.print(
        f'Prefix cache: outputs of stages up to {last} for {len(extracted):,} {what}{from_disk}, '
        f'{size}.'
    )
