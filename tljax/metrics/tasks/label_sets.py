"""A set of classes for each example, possibly empty."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import class_weights, multi_label, scores
from tljax.metrics.class_answers import ClassAnswers
from tljax.metrics.losses import BinaryCrossEntropy
from tljax.types import Balance, Loss, Score

LOSS = BinaryCrossEntropy.__name__


@dataclasses.dataclass(slots=True, kw_only=True)
class LabelSets(ClassAnswers):
    """A set of the K classes for each example, possibly empty.

    Labels are [N, K] uint8, 1 for each class of the set. The outputs are K logits, each of the
    probability that its class is in the set.
    """

    one_label: ClassVar[bool] = False
    multi_label: ClassVar[bool] = True
    numbers: ClassVar[bool] = False
    score: ClassVar[Score] = scores.PRECISION
    calibrated: ClassVar[bool] = True
    reads_rows: ClassVar[bool] = True  # mean average precision ranks all examples at once
    keeps_outputs: ClassVar[bool] = True
    continues: ClassVar[bool] = False
    label_dtype: ClassVar[type] = np.uint8

    def label_shape(self, count: int) -> tuple[int, ...]:
        """See `types.Task`."""
        return (count,)

    def outputs(self, count: int) -> int:
        """See `types.Task`."""
        return count

    def count(self, outputs: int) -> int:
        """See `types.Task`."""
        return outputs

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """The sets [B, K] as 0 and 1."""
        return labels.astype(jnp.float32)

    def default_loss(self) -> Loss:
        """See `types.Task`."""
        return BinaryCrossEntropy()

    def loss_problem(self, loss: Loss) -> str | None:
        """A problem with a loss of numbers, or one whose targets must sum to 1."""
        if getattr(loss, 'numbers', False):
            return f'which needs numbers as labels; these are classes, wanted {LOSS}'
        if getattr(loss, 'ordinal', False):
            return f'which needs ordered classes (OrderedClasses), wanted {LOSS}'
        if not getattr(loss, 'one_label', False):
            return None
        return (
            'which needs one label per image; these images have any number of labels, wanted '
            f'{LOSS}'
        )

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """A problem with drawing examples by class, and with the weights of a loss."""
        if balance is Balance.SAMPLE:
            return (
                'which needs one label per image: wanted '
                f'{Balance.WEIGH.value} or {Balance.NONE.value}'
            )
        fits = isinstance(loss, BinaryCrossEntropy) and not loss.positive_weights
        if balance is Balance.WEIGH and not fits:
            return (
                f'which sets positive_weights of the loss: wanted {LOSS} without positive_weights'
            )
        return None

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """The loss with `positive_weights`; `balance_problem` refuses other losses."""
        assert isinstance(loss, BinaryCrossEntropy)
        return dataclasses.replace(loss, positive_weights=class_weights.positive(labels))

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """See `types.Task`."""
        return multi_label.zeros(count)

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """See `multi_label.sums`."""
        return multi_label.sums(logits, labels, losses, mask)

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """See `multi_label.summary`."""
        return multi_label.summary(host, rows)

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The probability of each class: a sigmoid."""
        return jax.nn.sigmoid(logits)

    def average(self, logits: jax.Array) -> jax.Array:
        """The logits of the views' mean probabilities."""
        positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return jax.nn.logsumexp(positive, 1) - jax.nn.logsumexp(negative, 1)

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Whether all K decisions of an example are right."""
        return ((logits > 0) == labels).all(1)

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The sets of classes [N, K] bool."""
        return logits > 0

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The sets themselves; an example counts for each of its classes."""
        return labels

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Removes other classes from the sets; sets that were empty before are kept."""
        chosen = labels[:, list(classes)]
        kept = np.flatnonzero(chosen.any(1) | ~labels.any(1))
        return kept, chosen[kept]

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """The names of the classes of the set."""
        return tuple(class_names[one] for one in np.flatnonzero(label).tolist())

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """[N, K] bool."""
        return labels > 0

    def listed(self, labels: np.ndarray) -> list[Any]:
        """The list of classes of each example."""
        return [np.flatnonzero(row).tolist() for row in labels]

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The number of classes, and the mean number of labels."""
        return f'{inputs} of {count} classes, {labels.sum() / len(labels):.2g} labels each'
