"""The next token after each token of a text: the task of a language model."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import scores
from tljax.metrics.class_answers import ClassAnswers
from tljax.metrics.losses import TokenCrossEntropy
from tljax.types import Balance, Loss, Score

LOSS = TokenCrossEntropy.__name__


@dataclasses.dataclass(slots=True, kw_only=True)
class NextToken(ClassAnswers):
    """The next token after each token of a window of a text.

    Labels are the numbers of the next tokens [N, T] int32, and the outputs V logits for each token,
    [B, T, V]. An example is a window, and its loss the mean over its tokens.

    Attributes:
        window: tokens of a window.
    """

    one_label: ClassVar[bool] = False
    multi_label: ClassVar[bool] = False
    numbers: ClassVar[bool] = False
    score: ClassVar[Score] = scores.PERPLEXITY
    calibrated: ClassVar[bool] = False
    reads_rows: ClassVar[bool] = False
    keeps_outputs: ClassVar[bool] = False  # a row of the vocabulary for each token
    continues: ClassVar[bool] = True
    label_dtype: ClassVar[type] = np.int32
    window: int = 64

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return [] if self.window > 0 else [f'window is {self.window}, wanted more than 0']

    def label_shape(self, count: int) -> tuple[int, ...]:
        """The tokens of a window."""
        return (self.window,)

    def outputs(self, count: int) -> int:
        """See `types.Task`."""
        return count

    def count(self, outputs: int) -> int:
        """See `types.Task`."""
        return outputs

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """The numbers of the tokens, because distributions would need too much memory."""
        return labels

    def default_loss(self) -> Loss:
        """See `types.Task`."""
        return TokenCrossEntropy()

    def loss_problem(self, loss: Loss) -> str | None:
        """A problem with a loss that does not read numbers of tokens."""
        if isinstance(loss, TokenCrossEntropy):
            return None
        return f'which is for labels of examples; a language model wants {LOSS}'

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """A problem with any balance, because there are no classes."""
        if balance is Balance.NONE:
            return None
        return f'which needs classes; a language model wants {Balance.NONE.value}'

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """The loss itself; `balance_problem` refuses weights."""
        return loss

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """See `types.Task`."""
        return {
            'loss': jnp.zeros(()),
            'correct': jnp.zeros((), jnp.float32),
            'count': jnp.zeros((), jnp.int32),
        }

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """`correct` is the share of a window's tokens that have the largest logit."""
        right = (logits.argmax(-1) == labels).mean(1)
        return {
            'loss': jnp.where(mask, losses, 0.0).sum(),
            'correct': jnp.where(mask, right, 0.0).sum(),
            'count': mask.sum(dtype=jnp.int32),
        }

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """`perplexity` is the exponential of the loss; `token_accuracy` is a share of tokens."""
        count = max(int(host['count']), 1)
        loss = float(host['loss']) / count
        return {
            'loss': loss,
            'perplexity': math.exp(min(loss, 700.0)) if math.isfinite(loss) else loss,
            'token_accuracy': float(host['correct']) / count,
            'count': int(host['count']),
        }

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The probabilities of the next tokens: a softmax."""
        return jax.nn.softmax(logits)

    def average(self, logits: jax.Array) -> jax.Array:
        """The log of the mean probability, as logits."""
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), 1) - jnp.log(logits.shape[1])

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """None, because a window is neither right nor wrong."""
        return None

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The most probable next tokens [N, T]."""
        return logits.argmax(-1)

    def scored(self, decided: np.ndarray, labels: np.ndarray) -> float | None:
        """None, because the loss is a mean over examples."""
        return None

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """One group."""
        return np.zeros(len(labels), np.int32)

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """All examples, because they have no classes."""
        return np.arange(len(labels)), labels

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """The tokens."""
        return tuple(class_names[int(one)] for one in np.ravel(label))

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """[N, T] int32."""
        return labels.astype(np.int32)

    def listed(self, labels: np.ndarray) -> list[Any]:
        """None for each window, because the tokens follow from the texts."""
        return [None] * len(labels)

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The number of tokens."""
        return f'windows of {labels.size:,} tokens, {count:,} different'
