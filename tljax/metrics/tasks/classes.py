"""One of K classes for each example."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import class_weights, scores, single_label
from tljax.metrics.class_answers import ClassAnswers
from tljax.metrics.losses import ClassWeighted, CrossEntropy
from tljax.types import Balance, Loss, Score

LOSS = CrossEntropy.__name__


@dataclasses.dataclass(slots=True, kw_only=True)
class Classes(ClassAnswers):
    """One of K classes for each example. Labels are [N] int32, and the outputs K logits."""

    one_label: ClassVar[bool] = True
    multi_label: ClassVar[bool] = False
    numbers: ClassVar[bool] = False
    score: ClassVar[Score] = scores.ACCURACY
    calibrated: ClassVar[bool] = True
    reads_rows: ClassVar[bool] = False
    keeps_outputs: ClassVar[bool] = True
    continues: ClassVar[bool] = False
    label_dtype: ClassVar[type] = np.int32

    def label_shape(self, count: int) -> tuple[int, ...]:
        """See `types.Task`."""
        return ()

    def outputs(self, count: int) -> int:
        """See `types.Task`."""
        return count

    def count(self, outputs: int) -> int:
        """See `types.Task`."""
        return outputs

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """Distributions [B, K] with all of their mass on the class."""
        return jax.nn.one_hot(labels, count)

    def default_loss(self) -> Loss:
        """See `types.Task`."""
        return CrossEntropy()

    def loss_problem(self, loss: Loss) -> str | None:
        """A problem with a loss of numbers; every loss of classes accepts distributions."""
        if getattr(loss, 'numbers', False):
            return f'which needs numbers as labels; these are classes, wanted {LOSS}'
        if getattr(loss, 'ordinal', False):
            return f'which needs ordered classes (OrderedClasses), wanted {LOSS}'
        return None

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """None, because examples can be drawn by their class, and every loss can be weighted."""
        return None

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """See `types.Task`."""
        return ClassWeighted(loss=loss, weights=class_weights.balanced(labels, count))

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """See `types.Task`."""
        return single_label.zeros(count)

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """See `single_label.sums`."""
        return single_label.sums(logits, labels, losses, mask)

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """See `single_label.summary`."""
        return single_label.summary(host)

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The probabilities of the classes: a softmax."""
        return jax.nn.softmax(logits)

    def average(self, logits: jax.Array) -> jax.Array:
        """The log of the views' mean probability, as logits."""
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), 1) - jnp.log(logits.shape[1])

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Whether the class has the largest logit; ties and NaN are wrong."""
        return self.decided(logits, labels) == labels

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """See `single_label.predicted`."""
        return single_label.predicted(logits, labels)

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The classes themselves."""
        return labels

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """See `types.Task`."""
        numbers = np.full(max(labels.max(initial=0), *classes) + 1, -1, np.int32)
        numbers[list(classes)] = np.arange(len(classes))
        kept = np.flatnonzero(np.isin(labels, classes))
        return kept, numbers[labels[kept]]

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """The name of the class."""
        return (class_names[int(label)],)

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """[N] int32."""
        return labels.astype(np.int32)

    def listed(self, labels: np.ndarray) -> list[Any]:
        """The class of each example."""
        return labels.tolist()

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The number of classes."""
        return f'{inputs} of {count} classes'
