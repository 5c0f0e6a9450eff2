"""The classes that a config passes as `samples=`: source-domain samples that are trained too."""

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import Cutout, RandAugment
from tljax.data import subsets, unlabelled
from tljax.metrics.tasks import choice
from tljax.sample_transfer.size import clip_to_share
from tljax.sample_transfer.weighing import Uniform
from tljax.types import (
    Augmentation,
    BadFiles,
    DataSource,
    Domains,
    Examples,
    InputError,
    Loss,
    Reweighing,
    Weighing,
)


class Guard(enum.Enum):
    """What happens to samples that hurt the target in short runs."""

    DROP = 'drop'  # the run reports it and continues without them
    WARN = 'warn'  # the run reports it and keeps them
    OFF = 'off'  # no short runs


class SampleLabels(NamedTuple):
    """What the samples of a batch are trained on."""

    targets: jax.Array  # [B, K]
    labels: jax.Array  # [B] int32
    mask: jax.Array  # [B] bool, the samples whose loss counts


@dataclasses.dataclass(slots=True, kw_only=True)
class LabelledSource:
    """Labelled images of another data set, with their own classes, trained with the target's.

    Both domains share the backbone. Each has a head of the same form. The loss of a step is that of
    its target rows plus `fraction / (1 - fraction)` times that of its source rows, so all rows have
    equal weight, multiplied by the weights of the source examples. Until `until_epochs` the
    strength of the source's loss falls to 0 and the number of its rows stays the same; after it
    there are no source rows.

    Attributes:
        data: the source; only its `train` split is used.
        fraction: share of a step's rows; they are added to the target's `batch_size`.
        until_epochs: epochs of the target after which there are no source rows; none for all of
            training.
        weights: of the source examples.
        share_head: whether both have one head; the source's classes are then among the target's.
        per_class: source images per class; none for all.
        loss: of the source rows; none for the experiment's.
        guard: what happens if short runs find that the source does harm.
        trial_steps: steps of each short run.
        trial_pairs: pairs of short runs; each pair holds out other images.
        least_share: least effective sample size, as a share of the examples.
    """

    data: DataSource
    fraction: float = 0.5  # of a step's rows; they are added to the target's `batch_size`
    until_epochs: float | None = None
    weights: Weighing = dataclasses.field(default_factory=Uniform)
    share_head: bool = False  # one head for both; the source's classes are among the target's
    per_class: int | None = None
    loss: Loss | None = None  # None for the experiment's
    guard: Guard = Guard.DROP
    trial_steps: int = 100
    trial_pairs: int = 3
    least_share: float = 0.1

    def problems(self) -> list[str]:
        """The problems that `validate` reports."""
        problems = _problems(self)
        if not 0 < self.least_share <= 1:
            problems.append(f'least_share is {self.least_share}, wanted 0 < x <= 1')
        if self.per_class is not None and self.per_class < 1:
            problems.append(f'per_class is {self.per_class}, wanted 1 or more')
        return problems

    @property
    def own_head(self) -> bool:
        """Whether the samples have a head of their own."""
        return not self.share_head

    @property
    def weighted(self) -> bool:
        """Whether samples have classes and weights to report."""
        return True

    @property
    def reweighing(self) -> Reweighing | None:
        """The method that changes the weights during training, if there is one."""
        return self.weights if isinstance(self.weights, Reweighing) else None

    def examples(self, target: Examples, seed: int) -> Examples:
        """The samples. With a shared head, their labels are indices of the target's classes.

        Args:
            target: the target's training examples.
            seed: of the choice of `per_class` samples.

        Raises:
            InputError: images have several labels, or a class is not among the target's.
        """
        examples = self.data.splits()['train']
        if not (_is_plain(examples) and _is_plain(target)):
            raise InputError(
                'config.samples: images with several labels, numbers or ordered classes, wanted '
                'one class each, in both sets'
            )
        if self.per_class is not None:
            examples = examples.take(subsets.per_class(examples.labels, self.per_class, seed))
        return _relabelled(examples, target.class_names) if self.share_head else examples

    def initial_weights(self, domains: Domains) -> tuple[np.ndarray, bool]:
        """Weights of the readable samples [N], and whether they were clipped."""
        measured = self.weights.measure(domains)
        clipped = clip_to_share(measured, self.least_share)
        return clipped, not np.allclose(clipped, measured)

    def start_memory(self, count: int, epoch_steps: float, total_steps: int) -> Any:
        """The initial memory for `count` samples; see `Reweighing.begin`."""
        return self.reweighing.begin(count, epoch_steps, total_steps) if self.reweighing else {}

    def augmentations(
        self, default: Sequence[Augmentation]
    ) -> tuple[Sequence[Augmentation], Sequence[Augmentation] | None]:
        """The augmentations of trained images, and None because no weak view is needed."""
        return default, None

    def step_labels(
        self,
        labels: SampleLabels,
        rows: jax.Array,
        weak_logits: Callable[[], jax.Array],
        memory: Any,
    ) -> tuple[SampleLabels, Any]:
        """The labels of a step's samples, which are known; see `UnlabelledPool.step_labels`."""
        return labels, memory

    def final_record(self, class_names: Sequence[str], memory: Any) -> dict[str, Any]:
        """What the memory adds to the record of a finished run."""
        return {}


@dataclasses.dataclass(slots=True, kw_only=True)
class UnlabelledPool:
    """Images without labels, which are trained on the network's own predictions.

    Each image gets a weakly and a strongly augmented view in the same step. If the network is sure
    of its prediction for the weak view, that is the target of the strong view, through the target's
    head. A prediction is sure if its probability is at least `threshold`; with `balanced`, the
    threshold is lower for classes that are predicted rarely so far.

    Attributes:
        data: the source; only its `train` split is used, without its labels.
        paths: folders, files and lists of images, instead of `data`.
        fraction: share of a step's rows; they are added to the target's `batch_size`.
        until_epochs: epochs of the target after which there are no source rows; none for all of
            training.
        threshold: least probability of a prediction that becomes a target.
        balanced: whether the threshold is lower for classes that are predicted rarely.
        weak: augmentations of the view that is predicted; none for the experiment's.
        strong: augmentations of the trained view, after the weak ones.
        guard: what happens if short runs find that the images do harm.
        trial_steps: steps of each short run.
        trial_pairs: pairs of short runs; each pair holds out other images.

    Source: Sohn et al. 2020, "FixMatch"; the thresholds are those of Zhang et al. 2021, "FlexMatch:
    Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling", equations 5, 7 and 11.
    """

    data: DataSource | None = None
    paths: tuple[str, ...] = ()
    fraction: float = 0.5  # of a step's rows; they are added to the target's `batch_size`
    until_epochs: float | None = None
    threshold: float = 0.95
    balanced: bool = True
    weak: tuple[Augmentation, ...] | None = None  # None for the experiment's
    strong: tuple[Augmentation, ...] = (RandAugment(), Cutout())
    guard: Guard = Guard.DROP
    trial_steps: int = 100
    trial_pairs: int = 3

    def problems(self) -> list[str]:
        """The problems that `validate` reports."""
        problems = _problems(self)
        if not 0 < self.threshold < 1:
            problems.append(f'threshold is {self.threshold}, wanted 0 < x < 1')
        if (self.data is None) == (not self.paths):
            problems.append(f'data is {self.data} and paths {self.paths}, wanted one of them')
        return problems

    @property
    def own_head(self) -> bool:
        """See `LabelledSource.own_head`."""
        return False

    @property
    def weighted(self) -> bool:
        """See `LabelledSource.weighted`."""
        return False

    @property
    def reweighing(self) -> Reweighing | None:
        """See `LabelledSource.reweighing`."""
        return None

    def examples(self, target: Examples, seed: int) -> Examples:
        """The images; labels of `data` are ignored. See `LabelledSource.examples`."""
        if not _is_plain(target):
            raise InputError(
                'config.samples: a pool gets one label per image, and the target has several '
                'labels per image, numbers or ordered classes'
            )
        if self.data is not None:
            examples = self.data.splits()['train']
        else:
            examples = unlabelled.read(self.paths, BadFiles.ERROR)
        labels = np.zeros(len(examples), np.int32)
        return dataclasses.replace(
            examples, labels=labels, class_names=target.class_names, task=target.task
        )

    def initial_weights(self, domains: Domains) -> tuple[np.ndarray, bool]:
        """See `LabelledSource.initial_weights`."""
        return np.ones(domains.count), False

    def start_memory(self, count: int, epoch_steps: float, total_steps: int) -> Any:
        """See `LabelledSource.start_memory`; `label` [N] int32 is -1 for no prediction yet."""
        return {'label': np.full(count, -1, np.int32)}

    def augmentations(
        self, default: Sequence[Augmentation]
    ) -> tuple[Sequence[Augmentation], Sequence[Augmentation] | None]:
        """The augmentations of strong views, and those of weak ones."""
        weak = default if self.weak is None else self.weak
        return (*weak, *self.strong), weak

    def step_labels(
        self,
        labels: SampleLabels,
        rows: jax.Array,
        weak_logits: Callable[[], jax.Array],
        memory: Any,
    ) -> tuple[SampleLabels, Any]:
        """Replaces the labels of a step's samples by the network's sure predictions.

        Args:
            labels: their mask excludes padding.
            rows: [B] indices into the N samples.
            weak_logits: returns the logits [B, K] of the weak views.
            memory: `label` [N] int32, the last sure prediction for each image; -1 for none.

        Returns:
            The labels, whose mask excludes unsure predictions too, and the memory after the step.
        """
        logits = weak_logits()
        probabilities = jax.nn.softmax(logits)
        label, sure = probabilities.argmax(-1).astype(jnp.int32), probabilities.max(-1)
        known = memory['label']
        taken = labels.mask & (sure >= self.thresholds(known, logits.shape[-1])[label])
        settled = labels.mask & (sure >= self.threshold)
        known = known.at[rows].set(jnp.where(settled, label, known[rows]))
        targets = jax.nn.one_hot(label, logits.shape[-1])
        return SampleLabels(targets, label, taken), {'label': known}

    def thresholds(self, known: jax.Array, classes: int) -> jax.Array:
        """The probability [K] from which a prediction is trained on.

        It is at least half of `threshold`. FlexMatch's thresholds begin at 0, where a new head
        predicts the same class for every image.

        Args:
            known: [N] the last sure prediction for each image; -1 for none.
            classes: K.
        """
        if not self.balanced:
            return jnp.full(classes, self.threshold)
        counts = jnp.zeros(classes).at[known].add(jnp.where(known >= 0, 1.0, 0.0))
        most = jnp.maximum(counts.max(), len(known) - counts.sum())
        learned = counts / jnp.maximum(most, 1)
        return self.threshold * (1 + learned / (2 - learned)) / 2

    def final_record(self, class_names: Sequence[str], memory: Any) -> dict[str, Any]:
        """The number of images whose last sure prediction is each class."""
        known = np.asarray(memory['label'])
        counts = np.bincount(known[known >= 0], minlength=len(class_names))
        return {'labelled': dict(zip(class_names, counts.tolist(), strict=True))}


@dataclasses.dataclass(slots=True, kw_only=True)
class WithoutSource:
    """Among `baselines`: the same run without samples."""


def _is_plain(examples: Examples) -> bool:
    """Whether each example has one class, and the outputs are logits of the classes."""
    task = choice.of(examples)
    return task.one_label and task.calibrated


def _relabelled(examples: Examples, class_names: tuple[str, ...]) -> Examples:
    """The examples with labels that are indices into other class names."""
    unknown = [name for name in examples.class_names if name not in class_names]
    if unknown:
        raise InputError(
            f'config.samples.share_head is on and the source has classes {unknown}, wanted some of '
            f'the target’s, {list(class_names)}'
        )
    numbers = np.array([class_names.index(name) for name in examples.class_names], np.int32)
    return dataclasses.replace(examples, labels=numbers[examples.labels], class_names=class_names)


def _problems(source: LabelledSource | UnlabelledPool) -> list[str]:
    fraction, until_epochs, problems = source.fraction, source.until_epochs, []
    if not 0 < fraction < 1:
        problems.append(f'fraction is {fraction}, wanted 0 < x < 1')
    if until_epochs is not None and not 0 < until_epochs < math.inf:
        problems.append(f'until_epochs is {until_epochs}, wanted more than 0')
    for name in ('trial_steps', 'trial_pairs'):
        if getattr(source, name) < 1:
            problems.append(f'{name} is {getattr(source, name)}, wanted 1 or more')
    return problems
