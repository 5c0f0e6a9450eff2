"""Kinds of task: what is predicted, the loss, and the scores."""

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np


class Balance(enum.Enum):
    """How class imbalance is handled."""

    NONE = 'none'
    SAMPLE = 'sample'  # samples all classes equally often, repeating rare examples; one label only
    WEIGH = 'weigh'  # weights the loss by inverse frequency; with several labels, the positives'


@runtime_checkable
class Loss(Protocol):
    """A loss per example.

    A loss whose targets must sum to 1, so that it needs exactly one label per image, has the class
    attribute `one_label = True`; it is rejected for other data.
    """

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, O] outputs of the head and targets to [B] losses.

        The task makes the targets: distributions [B, K]; for sets of classes [B, K] in [0, 1].
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """The metric that compares the networks of a task: it picks checkpoints and ranks runs.

    Attributes:
        name: its name among the metrics.
        title: its name for readers.
        lower_is_better: whether a smaller value is better.
        shown: further shares in the lines of training, `{name: title}`.
        measured: further metrics in these lines that are no shares, such as errors in units.
        share: the metric that is a share of the examples, so that it has a binomial interval; None
            without such a metric.
        share_title: its name for readers.
    """

    name: str
    title: str
    lower_is_better: bool = False
    shown: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measured: Mapping[str, str] = dataclasses.field(default_factory=dict)
    share: str | None = None
    share_title: str = ''

    @property
    def compared(self) -> str:
        """The metric with an interval that compares results: the share, or else the score."""
        return self.share or self.name

    @property
    def compared_title(self) -> str:
        """The name of `compared` for readers."""
        return self.share_title or self.title

    def ranked(self, value: float | None) -> float:
        """A value whose order is from worse to better; the worst one without a value."""
        if self.lower_is_better:
            return -math.inf if value is None else -value
        return 0.0 if value is None else value


@runtime_checkable
class Task(Protocol):
    """What a network predicts for an example, and how its predictions are scored.

    K is the number of classes or of predicted numbers, and O the number of outputs of the head.
    Methods on batches are traced by JAX. Methods on all labels of a split take host arrays
    [N, ...].
    """

    one_label: ClassVar[bool]  # whether an example has exactly one of K classes
    multi_label: ClassVar[bool]  # whether an example has a set of the K classes
    numbers: ClassVar[bool]  # whether an example has K numbers instead of classes
    calibrated: ClassVar[bool]  # whether outputs are logits, which a temperature can calibrate
    score: ClassVar[Score]  # the metric that picks the checkpoint
    reads_rows: ClassVar[bool]  # whether `summary` reads the rows of all examples, not only sums
    keeps_outputs: ClassVar[bool]  # whether a run records the outputs for each example
    continues: ClassVar[bool]  # whether a row continues that of the step before, as a text does
    label_dtype: ClassVar[type]  # of the labels in a batch

    def prepared(self, labels: np.ndarray, loss: Loss) -> 'Task':
        """The task with what it takes from the labels of the training split and from the loss.

        Raises:
            InputError: the labels cannot be predicted.
        """
        ...

    def counted(self, count: int) -> str:
        """K for readers, such as `10 classes`."""
        ...

    def label_shape(self, count: int) -> tuple[int, ...]:
        """The shape of a label in a batch, with K = `count`."""
        ...

    def outputs(self, count: int) -> int:
        """O, the outputs of a head for K = `count`."""
        ...

    def count(self, outputs: int) -> int:
        """K of a head with O = `outputs`."""
        ...

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """Labels [B, ...] of a batch to the float32 targets of the loss."""
        ...

    def default_loss(self) -> Loss:
        """The loss where no experiment states one."""
        ...

    def loss_problem(self, loss: Loss) -> str | None:
        """Why a loss does not fit, as the end of the sentence `LOSS is X, ...`; None if it fits."""
        ...

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """Why classes cannot be balanced so, as the end of a sentence; None if they can."""
        ...

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """The loss with weights that balance the labels of the training split."""
        ...

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """The sums of no example."""
        ...

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """The sums of a batch, by the names of `zeros`; at least `loss` and `count`.

        Args:
            logits: [B, O].
            labels: [B, ...].
            losses: [B] float32.
            mask: [B] bool; rows of padding do not count.
        """
        ...

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """Metrics from sums on the host, at least `loss` and `count`.

        Args:
            host: the sums.
            rows: batches of outputs [B, O] and labels [B, ...] without padding, if `reads_rows`.
        """
        ...

    def intervals(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """95 % intervals of metrics of `summary`, `{NAME_interval: [low, high]}`; may be empty.

        The interval of the score's share is left out, because it follows from its value alone.

        Args:
            logits: [N, O].
            labels: [N, ...].
        """
        ...

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The predictions [B, K] for users, such as probabilities, from outputs [B, O].

        A task may add further values after the K, such as the standard deviations of numbers.
        """
        ...

    def best(self, row: np.ndarray) -> int:
        """The predicted class from one row of `predicted`."""
        ...

    def shown(self, row: np.ndarray, names: Sequence[str], most: int) -> list[str]:
        """The prediction of one example as cells of a line.

        Args:
            row: of the result of `predicted`.
            names: [K], of the classes or numbers.
            most: the largest number of classes in the line.
        """
        ...

    def cells(self, row: np.ndarray, names: Sequence[str]) -> dict[str, str | float]:
        """The prediction of one example as columns of a table."""
        ...

    def record(self, row: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """The prediction of one example as entries of a JSON object."""
        ...

    def average(self, logits: jax.Array) -> jax.Array:
        """The outputs [B, O] of the mean prediction of several views [B, V, O]."""
        ...

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Whether each prediction is right, [N] bool; None if predictions are not right or wrong.

        Args:
            logits: [N, O].
            labels: [N, ...].
        """
        ...

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What is predicted for each example, in the form of its label.

        Args:
            logits: [N, O].
            labels: [N, ...], so that ties and NaN can count as wrong.
        """
        ...

    def scored(self, decided: np.ndarray, labels: np.ndarray) -> float | None:
        """The score of predictions as `decided` returns them; None if it is a mean over examples.

        Args:
            decided: [N, ...].
            labels: [N, ...].
        """
        ...

    def class_logits(self, logits: np.ndarray) -> np.ndarray:
        """Logits [N, K] of the probabilities of classes, from outputs [N, O]."""
        ...

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The groups of which every part of a split has its share: [N] int, or [N, K] 0 or 1."""
        ...

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The indices [M] of the examples of some classes, and their labels among these classes."""
        ...

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """One label for readers, such as the names of its classes."""
        ...

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """Labels as predictions.npz has them, [N, ...]."""
        ...

    def listed(self, labels: np.ndarray) -> list[Any]:
        """Labels for JSON."""
        ...

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The labels of the training split for readers, such as `images of 10 classes`.

        `inputs` names what the network reads.
        """
        ...
