"""The experiment: what a config file returns."""

import dataclasses

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
    Dtype,
    Head,
    InputError,
    Loss,
    Norm,
    Optimizer,
    Penalty,
    Preprocessing,
    Schedule,
    Source,
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
    """

    backbone: Backbone
    data: Source
    strategy: Strategy
    optimizer: Optimizer
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    loss: Loss = dataclasses.field(default_factory=CrossEntropy)
    augmentations: tuple[Augmentation, ...] = ()
    penalties: tuple[Penalty, ...] = ()  # added to the loss, in training alone
    source: LabelledSource | UnlabelledPool | None = (
        None  # samples that are trained beside the data
    )
    epochs: float = 10.0
    batch_size: int = 32  # over all devices
    clip_norm: float | None = None  # of the trained leaves' gradient; None for no clipping
    norm: Norm = Norm.AUTO  # what becomes of normalisation layers
    stochastic_norm: StochNorm | None = None  # where BatchNorm's statistics follow the batch
    adapters: tuple[Adapter, ...] = ()  # leaves beside the weights'; merged in this order
    ema_decay: float | None = None  # running means of the parameters are evaluated and kept
    compute_dtype: Dtype = Dtype.FLOAT32  # of training; parameters and statistics stay float32
    prefix_dtype: Dtype | None = None  # of the frozen stages below the trained; None: the same
    fold_prefix: bool = False  # computes them with BatchNorm folded into the layers before it
    cache_prefix: CachePrefix = CachePrefix.AUTO  # runs them once for all epochs
    remat: tuple[str, ...] = ()  # stages (patterns) whose activations are computed twice, not kept
    accumulate: int = 1  # parts in which a batch is worked on; BatchNorm sees each part alone
    cut_after: str | None = None  # the backbone's last stage to keep; None keeps all
    head: Head | str | None = None  # None: the family's own, new; 'pretrained': the weights' own
    preprocessing: Preprocessing | None = None  # None: what the weights want
    gray_range: tuple[float, ...] | None = None  # black and white of images deeper than 8 bits
    per_class: int | None = None  # labelled training images per class; None for all
    subset: Subset = dataclasses.field(default_factory=Subset)  # of it, for ablations
    balance: Balance = Balance.NONE  # of the classes in training
    validation_fraction: float = 0.1  # of each class, where the data has no split of its own
    evaluate: tuple[str, ...] = ('val',)  # splits to evaluate during training
    test_views: Views = dataclasses.field(default_factory=Centre)  # of the final test images
    evaluate_every_epochs: float = 1.0  # and at the end; saves a checkpoint each time
    checkpoint_every_steps: int | None = None  # between those, for long epochs
    log_every_steps: int = 50
    data_threads: int = 4
    cache_gigabytes: float = 20.0  # of disk for images decoded, as for features; 0 keeps neither
    seed: int = 0
    baselines: tuple[Strategy | WithoutSource, ...] = ()  # run after it; they have no adapters


# A run may be resumed with other values of these: they change no result.
HARMLESS = ('data_threads', 'cache_gigabytes', 'baselines')
PRETRAINED = 'pretrained'  # the head that came with the weights
ABSENT = 'absent'  # what a field is in the record of code that did not have it
