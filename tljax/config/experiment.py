"""The experiment: what a config file returns."""

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
    Norm,
    Optimizer,
    Penalty,
    Preprocessing,
    Schedule,
    Strategy,
    Views,
)


class ConfigError(InputError):
    """A field of an experiment that cannot be used; a line for each."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Experiment:
    """One run, and what it is compared with.

    Everything that changes a result is here. Epochs are passes over the training split, after
    `per_class` and the validation split have been taken.

    Attributes:
        backbone: the network, and where its weights come from.
        data: the images, their labels and their splits.
        strategy: which parameters train, and in which phases.
        optimizer: of the trained parameters, with its learning rate.
        schedule: how the learning rate changes over the steps.
        loss: what training minimises.
        augmentations: of training images, on the device, in this order.
        penalties: terms that are added to the loss, in training only.
        samples: of another domain, which are trained in addition to the data.
        epochs: passes over the training split.
        batch_size: images of a step, over all devices.
        clip_norm: largest norm of the trained parameters' gradient; none for no clipping.
        norm: whether normalisation layers use the batch's statistics or their running ones.
        stochastic_norm: mixes the batch's statistics with the running ones, channel by channel.
        adapters: small modules that are added to the layers of the network, in this order.
        ema_decay: decay of running means of the parameters, which are evaluated and kept.
        compute_dtype: of training; parameters and statistics stay float32.
        prefix_dtype: of the frozen stages below the trained ones; none for compute_dtype.
        fold_prefix: folds BatchNorm of the frozen stages into the layers before it.
        cache_prefix: whether the frozen stages run once for all epochs.
        remat: stages (patterns) whose activations are computed twice and not kept.
        accumulate: parts in which a batch is computed; BatchNorm sees each part alone.
        cut_after: the last stage of the backbone to keep; none keeps all.
        head: none for a new one of the family's kind, pretrained for the one in the weights.
        preprocessing: of images; none for what the weights expect.
        gray_range: black and white of images deeper than 8 bits.
        per_class: labelled training images per class; none for all.
        subset: a part of the data, for ablations.
        balance: what is done about classes that are more frequent than others, in training.
        validation_fraction: of each class, where the data has no validation split of its own.
        evaluate: splits that are evaluated during training.
        test_views: of each test image at the end, over which probabilities are averaged.
        keep_features: whether predictions.npz has the pooled input of the head of each image.
        report: whether the run ends with a page, report.html.
        evaluate_every_epochs: epochs between evaluations; each saves a checkpoint.
        checkpoint_every_steps: steps between further checkpoints, for long epochs.
        log_every_steps: steps between records of the training loss.
        data_threads: threads that decode images.
        cache_gigabytes: disk space for decoded images, and for features; 0 keeps neither.
        seed: of everything random.
        baselines: strategies that are trained after it, for comparison; they have no adapters.
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
    cut_after: str | None = None
    head: Head | str | None = None
    preprocessing: Preprocessing | None = None
    gray_range: tuple[float, ...] | None = None
    per_class: int | None = None
    subset: Subset = dataclasses.field(default_factory=Subset)
    balance: Balance = Balance.NONE
    validation_fraction: float = 0.1
    evaluate: tuple[str, ...] = ('val',)
    test_views: Views = dataclasses.field(default_factory=Centre)
    keep_features: bool = False
    report: bool = True
    evaluate_every_epochs: float = 1.0
    checkpoint_every_steps: int | None = None
    log_every_steps: int = 50
    data_threads: int = 4
    cache_gigabytes: float = 20.0
    seed: int = 0
    baselines: tuple[Strategy | WithoutSource, ...] = ()

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading(
            batch_size=self.batch_size,
            threads=self.data_threads,
            cache_gigabytes=self.cache_gigabytes,
        )


# A run may be resumed with other values of these: they change no result.
HARMLESS = ('data_threads', 'cache_gigabytes', 'baselines', 'keep_features', 'report')
PRETRAINED = 'pretrained'  # the head that came with the weights
ABSENT = 'absent'  # what a field is in the record of code that did not have it
