"""`Experiment`, the dataclass that a config file returns."""

import dataclasses

from tljax.data.pipeline import Reading
from tljax.data.subsets import Subset
from tljax.metrics.losses import CrossEntropy
from tljax.models.stochastic_norm import StochNorm
from tljax.models.views import Centre
from tljax.sample_transfer import LabelledSource, UnlabelledPool, WithoutSource
from tljax.strategies.schedules import Constant
from tljax.types import (
    Adapter,
    Augmentation,
    Backbone,
    Balance,
    CachePrefix,
    DataSource,
    Dtype,
    Head,
    InputError,
    Loss,
    MeshShape,
    Norm,
    OnNonfinite,
    Optimizer,
    Penalty,
    Preprocessing,
    Schedule,
    Sharding,
    Strategy,
    TextPreprocessing,
    Tracker,
    Views,
)


class ConfigError(InputError):
    """Fields of an experiment cannot be used; the message has a line for each problem."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Experiment:
    """Describes one run and its baselines, with everything that changes a result.

    An epoch is one pass over the training split, after `per_class` and the validation split have
    been applied.

    Attributes:
        backbone: the network and the origin of its weights.
        data: the images, their labels and their splits.
        strategy: the trained parameters and the phases of training.
        optimizer: updates the trained parameters; it has the learning rate.
        schedule: changes the learning rate over the steps.
        loss: the function that training minimises.
        augmentations: random changes of training images, on the device, in this order.
        penalties: terms that are added to the training loss.
        samples: images of a source domain that are trained together with the data.
        epochs: passes over the training split.
        batch_size: images per step, over all devices.
        clip_norm: largest gradient norm of the trained parameters; none for no clipping.
        on_nonfinite: whether a step that is not finite stops the run, or is skipped and counted.
        norm: whether normalisation layers use statistics of the batch or running statistics.
        stochastic_norm: mixes both kinds of statistics at random, channel by channel.
        adapters: small modules that are added to the layers of the network, in this order.
        ema_decay: decay of the parameters' running means, which are evaluated and kept.
        compute_dtype: type of computation in training; parameters and statistics stay float32.
        prefix_dtype: the same for the frozen stages below the trained ones; none: compute_dtype.
        fold_prefix: folds BatchNorm of the frozen stages into the layers before it.
        cache_prefix: whether outputs of the frozen stages are computed once for all epochs.
        remat: patterns of stages whose activations are recomputed in the backward pass.
        accumulate: parts into which a batch is split; BatchNorm uses each part's statistics.
        sharding: whether every device holds the complete state of training, or a part of it.
        mesh: how the devices are arranged; it has an effect with `sharding=fsdp` only.
        cut_after: last stage of the backbone that is kept; none keeps all.
        head: none for a new head of the usual kind, pretrained for the head of the weights.
        preprocessing: size and normalisation of images, or vocabulary and length of texts; none
            for those of the weights.
        gray_range: black and white level of images with more than 8 bits.
        per_class: labelled training images per class; none for all.
        subset: selects a part of the data, for ablations.
        balance: how training treats classes of different frequency.
        validation_fraction: part of each class that becomes the validation split if there is none.
        evaluate: splits that are evaluated during training.
        test_views: views of each test image whose probabilities are averaged, at the end.
        keep_features: whether predictions.npz also has the pooled input of the head.
        report: whether the run writes its page, report.html.
        trackers: services that get the metrics and the result, beside the run's folder.
        evaluate_every_epochs: epochs between evaluations; each one saves a checkpoint.
        checkpoint_every_steps: steps between additional checkpoints, for long epochs.
        log_every_steps: steps between records of the training loss.
        data_threads: threads that decode images.
        cache_gigabytes: disk space for decoded images and features; 0 stores neither.
        seed: seed of all random numbers: initial values, order of images, augmentation.
        data_seed: seed of the choice of the labelled, validation and mislabelled images; none for
            the same as `seed`.
        baselines: strategies that are trained afterwards for comparison, without adapters.
    """

    backbone: Backbone
    data: DataSource
    strategy: Strategy
    optimizer: Optimizer
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    loss: Loss = dataclasses.field(default_factory=CrossEntropy)
    augmentations: tuple[Augmentation, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    samples: LabelledSource | UnlabelledPool | None = None
    epochs: float = 10.0
    batch_size: int = 32
    clip_norm: float | None = None
    on_nonfinite: OnNonfinite = OnNonfinite.STOP
    norm: Norm = Norm.AUTO
    stochastic_norm: StochNorm | None = None
    adapters: tuple[Adapter, ...] = ()
    ema_decay: float | None = None
    compute_dtype: Dtype = Dtype.FLOAT32
    prefix_dtype: Dtype | None = None
    fold_prefix: bool = False
    cache_prefix: CachePrefix = CachePrefix.AUTO
    remat: tuple[str, ...] = ()
    accumulate: int = 1
    sharding: Sharding = Sharding.REPLICATED
    mesh: MeshShape = dataclasses.field(default_factory=MeshShape)
    cut_after: str | None = None
    head: Head | str | None = None
    preprocessing: Preprocessing | TextPreprocessing | None = None
    gray_range: tuple[float, ...] | None = None
    per_class: int | None = None
    subset: Subset = dataclasses.field(default_factory=Subset)
    balance: Balance = Balance.NONE
    validation_fraction: float = 0.1
    evaluate: tuple[str, ...] = ('val',)
    test_views: Views = dataclasses.field(default_factory=Centre)
    keep_features: bool = False
    report: bool = True
    trackers: tuple[Tracker, ...] = ()
    evaluate_every_epochs: float = 1.0
    checkpoint_every_steps: int | None = None
    log_every_steps: int = 50
    data_threads: int = 4
    cache_gigabytes: float = 20.0
    seed: int = 0
    data_seed: int | None = None
    baselines: tuple[Strategy | WithoutSource, ...] = ()

    @property
    def image_seed(self) -> int:
        """The seed that chooses images: `data_seed`, or else `seed`."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def reading(self) -> Reading:
        """The batch size, threads and cache with which images are read."""
        return Reading(
            batch_size=self.batch_size,
            threads=self.data_threads,
            cache_gigabytes=self.cache_gigabytes,
        )


# A run may be resumed with other values of these fields, because they change no result, or its
# rounding only.
HARMLESS = (
    'data_threads',
    'cache_gigabytes',
    'baselines',
    'keep_features',
    'report',
    'trackers',
    'sharding',
    'mesh',
)
PRETRAINED = 'pretrained'  # the value of `head` for the head of the weights
ABSENT = 'absent'  # stands for a field that a record of another version does not have
