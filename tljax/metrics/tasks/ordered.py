"""One of K classes that have an order, such as grades."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import ordinal, scores
from tljax.metrics.class_answers import ClassAnswers
from tljax.metrics.losses import CORN
from tljax.metrics.tasks.classes import Classes
from tljax.types import Balance, Loss, Score

LOSS = CORN.__name__


@dataclasses.dataclass(slots=True, kw_only=True)
class Ordered(ClassAnswers):
    """One of K ordered classes for each example; an error by one class is less than by two.

    Labels are [N] int32. The outputs are K - 1 logits: of a class above k, given that it is at
    least k (`ordinal.log_probabilities`). The predicted class is the median.
    """

    one_label: ClassVar[bool] = True
    multi_label: ClassVar[bool] = False
    numbers: ClassVar[bool] = False
    score: ClassVar[Score] = scores.KAPPA
    calibrated: ClassVar[bool] = False
    reads_rows: ClassVar[bool] = False
    keeps_outputs: ClassVar[bool] = True
    continues: ClassVar[bool] = False
    label_dtype: ClassVar[type] = np.int32

    def counted(self, count: int) -> str:
        """`5 ordered classes`."""
        return f'{count} ordered classes'

    def label_shape(self, count: int) -> tuple[int, ...]:
        """See `types.Task`."""
        return ()

    def outputs(self, count: int) -> int:
        """K - 1."""
        return count - 1

    def count(self, outputs: int) -> int:
        """See `types.Task`."""
        return outputs + 1

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """Distributions [B, K] with all of their mass on the class."""
        return jax.nn.one_hot(labels, count)

    def default_loss(self) -> Loss:
        """See `types.Task`."""
        return CORN()

    def loss_problem(self, loss: Loss) -> str | None:
        """A problem with a loss of other outputs than K - 1 conditional logits."""
        if getattr(loss, 'ordinal', False):
            return None
        return f'which does not fit ordered classes, wanted {LOSS}'

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """None, because examples can be drawn by their class, and the loss can be weighted."""
        return None

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """See `types.Task`."""
        return Classes().weighted(loss, labels, count)

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """See `types.Task`."""
        return ordinal.zeros(count)

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """See `ordinal.sums`."""
        return ordinal.sums(logits, labels, losses, mask)

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """See `ordinal.summary`."""
        return ordinal.summary(host)

    def intervals(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """See `ordinal.intervals`."""
        size = logits.shape[-1] + 1
        table = np.zeros((size, size), int)
        np.add.at(table, (labels, self.decided(logits, labels)), 1)
        return ordinal.intervals(table)

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The probabilities of the classes."""
        return jnp.exp(ordinal.log_probabilities(logits))

    def class_logits(self, logits: np.ndarray) -> np.ndarray:
        """The logarithms of the probabilities."""
        return np.asarray(ordinal.log_probabilities(jnp.asarray(logits)))

    def average(self, logits: jax.Array) -> jax.Array:
        """The conditional logits of the views' mean probabilities."""
        log_p = jax.nn.logsumexp(ordinal.log_probabilities(logits), 1) - jnp.log(logits.shape[1])
        return ordinal.conditional_logits(log_p)

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The median class; NaN counts as wrong."""
        outputs = jnp.asarray(logits)
        median = ordinal.decided(outputs)
        return np.asarray(ordinal.with_nan_wrong(median, outputs, jnp.asarray(labels)))

    def scored(self, decided: np.ndarray, labels: np.ndarray) -> float | None:
        """The weighted kappa; NaN if all labels and all predictions are one class."""
        size = int(max(decided.max(), labels.max())) + 1
        table = np.bincount(labels * size + decided, minlength=size**2).reshape(size, size)
        return float(ordinal.measured(table)['kappa'])

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Whether the class is the median."""
        return self.decided(logits, labels) == labels

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The classes themselves."""
        return labels

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """See `types.Task`; the classes are ordered as they are listed."""
        return Classes().only(labels, classes)

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """The name of the class."""
        return (class_names[int(label)],)

    def best(self, row: np.ndarray) -> int:
        """The median class of probabilities [K]."""
        return int(np.searchsorted(np.cumsum(row), 0.5 * row.sum()))

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """[N] int32."""
        return labels.astype(np.int32)

    def listed(self, labels: np.ndarray) -> list[Any]:
        """The class of each example."""
        return labels.tolist()

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The number of classes."""
        return f'{inputs} of {count} ordered classes'
