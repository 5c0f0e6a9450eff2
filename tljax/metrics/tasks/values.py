"""One or several numbers for each example: regression."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import regression, scores
from tljax.metrics.losses import AbsoluteError, GaussianLikelihood, Huber, SquaredError
from tljax.types import Balance, InputError, Loss, Score

LOSSES = tuple(one.__name__ for one in (SquaredError, AbsoluteError, Huber, GaussianLikelihood))
LARGEST_OFFSET = 1e5  # deviations from 0; labels are float32, with 7 digits
GROUP, MOST_GROUPS = 10, 10  # examples of a stratum at least, and strata at most
CLASSLESS = 'these labels are numbers and have no classes'


@dataclasses.dataclass(slots=True, kw_only=True)
class Values:
    """K numbers for each example, such as an age or the two coordinates of a point.

    Labels are [N, K] float32. The network predicts standardised numbers: minus the mean of the
    training split, divided by its standard deviation. Predictions are in the units of the labels.
    The outputs are K numbers; with `variance`, also K logarithms of variances.

    Attributes:
        mean: of each number in the training split; () for 0.
        deviation: standard deviation of each number in the training split; () for 1.
        variance: whether the network also predicts a variance of each number.
        changed_by: kinds of augmentation that change a number, as `rotation`.
    """

    one_label: ClassVar[bool] = False
    multi_label: ClassVar[bool] = False
    numbers: ClassVar[bool] = True
    score: ClassVar[Score] = scores.EXPLAINED
    calibrated: ClassVar[bool] = False
    reads_rows: ClassVar[bool] = True  # Spearman's correlation ranks all examples at once
    keeps_outputs: ClassVar[bool] = True
    continues: ClassVar[bool] = False
    label_dtype: ClassVar[type] = np.float32

    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    variance: bool = False
    changed_by: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Messages for values from files; a config has none of them."""
        finite = all(map(math.isfinite, (*self.mean, *self.deviation)))
        fits = len(self.mean) == len(self.deviation) and all(x > 0 for x in self.deviation)
        if finite and fits:
            return []
        return [
            f'mean is {self.mean} and deviation {self.deviation}, wanted a positive deviation '
            'for each mean'
        ]

    def prepared(self, labels: np.ndarray, loss: Loss) -> 'Values':
        """The task with the mean and the deviation of the training split.

        Raises:
            InputError: a number is the same for all examples, or its deviation is lost in float32.
        """
        labels = np.asarray(labels, np.float64)
        mean, deviation = labels.mean(0), labels.std(0)
        if not (deviation > 0).all():
            place = int(np.flatnonzero(~(deviation > 0))[0])
            raise InputError(
                f'config.data: number {place + 1} of {labels.shape[1]} is {mean[place]:g} in all '
                'training examples, so there is nothing to predict'
            )
        if (np.abs(mean) > LARGEST_OFFSET * deviation).any():
            raise InputError(
                f'config.data: numbers are {mean} ± {deviation}, which float32 cannot separate; '
                'subtract a constant from them'
            )
        return dataclasses.replace(
            self,
            mean=tuple(mean.tolist()),
            deviation=tuple(deviation.tolist()),
            variance=getattr(loss, 'predicts_variance', False),
        )

    def counted(self, count: int) -> str:
        """`1 number` or `2 numbers`."""
        return f'{count} number{"s" if count > 1 else ""}'

    def label_shape(self, count: int) -> tuple[int, ...]:
        """See `types.Task`."""
        return (count,)

    def outputs(self, count: int) -> int:
        """K, or 2 K with variances."""
        return 2 * count if self.variance else count

    def count(self, outputs: int) -> int:
        """See `types.Task`."""
        return outputs // 2 if self.variance else outputs

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """The standardised numbers [B, K]."""
        mean, deviation = (jnp.asarray(x, jnp.float32)[None] for x in self._units(count))
        return (labels.astype(jnp.float32) - mean) / deviation

    def _units(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the deviation of each number [K]."""
        mean = np.asarray(self.mean or [0.0] * count)
        return mean, np.asarray(self.deviation or [1.0] * count)

    def default_loss(self) -> Loss:
        """See `types.Task`."""
        return GaussianLikelihood() if self.variance else SquaredError()

    def loss_problem(self, loss: Loss) -> str | None:
        """A problem with a loss of classes, or with variances that it does not need."""
        if not getattr(loss, 'numbers', False):
            return f'which needs classes; these labels are numbers, wanted {", ".join(LOSSES)}'
        return None

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """A problem with any balance, because there are no classes."""
        if balance is Balance.NONE:
            return None
        return f'which needs classes; these labels are numbers: wanted {Balance.NONE.value}'

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """Never called, because `balance_problem` refuses weights."""
        raise AssertionError(CLASSLESS)

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """See `types.Task`."""
        return regression.zeros(count)

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """See `regression.sums`."""
        count = labels.shape[-1]
        targets = self.targets(labels, count)
        return regression.sums(logits[:, :count], targets, losses, mask)

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """See `regression.summary`."""
        pairs = [(self._in_units(logits), labels) for logits, labels in rows]
        _, deviation = self._units(len(host['squared']))
        return regression.summary(host, deviation, pairs)

    def _in_units(self, logits: np.ndarray) -> np.ndarray:
        """The predicted numbers [N, K], float64, from outputs [N, O]."""
        count = self.count(logits.shape[-1])
        mean, deviation = self._units(count)
        return np.asarray(logits, np.float64)[:, :count] * deviation + mean

    def intervals(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """See `regression.intervals`."""
        return regression.intervals(self._in_units(logits), labels)

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The numbers [B, K] in the units of the labels; with `variance`, then their deviations."""
        count = self.count(logits.shape[-1])
        mean, deviation = (jnp.asarray(x, jnp.float32)[None] for x in self._units(count))
        values = logits[:, :count] * deviation + mean
        if not self.variance:
            return values
        spread = jnp.sqrt(GaussianLikelihood.variances(logits[:, count:]))
        return jnp.concatenate([values, spread * deviation], -1)

    def average(self, logits: jax.Array) -> jax.Array:
        """The mean of the views' numbers; variances are those of the mixture of the views."""
        if not self.variance:
            return logits.mean(1)
        means, variances = jnp.split(logits, 2, -1)
        mean = means.mean(1)
        mixed = GaussianLikelihood.variances(variances).mean(1) + means.var(1)
        return jnp.concatenate([mean, jnp.log(mixed)], -1)

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """None, because a number is only more or less close."""
        return None

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The predicted numbers [N, K]."""
        return self._in_units(logits)

    def scored(self, decided: np.ndarray, labels: np.ndarray) -> float | None:
        """The mean R²."""
        return float(regression.measured(decided, labels)['r2'].mean())

    def class_logits(self, logits: np.ndarray) -> np.ndarray:
        """Never called, because there are no classes."""
        raise AssertionError(CLASSLESS)

    def best(self, row: np.ndarray) -> int:
        """Never called, because there are no classes."""
        raise AssertionError(CLASSLESS)

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """Up to ten groups of equal size by the first number."""
        groups = int(np.clip(len(labels) // GROUP, 1, MOST_GROUPS))
        order = np.argsort(np.argsort(labels[:, 0], kind='stable'), kind='stable')
        return (order * groups // max(len(labels), 1)).astype(np.int32)

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Raises an InputError."""
        raise InputError(f'config.subset.classes: {CLASSLESS}')

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """`age 31` for each number."""
        return tuple(f'{name} {x:.4g}' for name, x in zip(class_names, label.tolist(), strict=True))

    def shown(self, row: np.ndarray, names: Sequence[str], most: int) -> list[str]:
        """`age 31.2`, or `age 31.2 ± 4.1`."""
        spread = [f' ± {x:.3g}' for x in row[len(names) :]] or [''] * len(names)
        pairs = zip(names, row, spread, strict=False)
        return [f'{name} {value:>9.5g}{more}' for name, value, more in pairs]

    def cells(self, row: np.ndarray, names: Sequence[str]) -> dict[str, str | float]:
        """A column of each number, and with variances `NAME_deviation`."""
        columns = [*names, *(f'{name}_deviation' for name in names)]
        return {name: float(x) for name, x in zip(columns, row, strict=False)}

    def record(self, row: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """`predicted` by number, and with variances `deviations`."""
        values = [float(f'{x:.7g}') for x in row]
        record = {'predicted': dict(zip(names, values, strict=False))}
        if spread := values[len(names) :]:
            record['deviations'] = dict(zip(names, spread, strict=True))
        return record

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """[N, K] float32."""
        return labels.astype(np.float32)

    def listed(self, labels: np.ndarray) -> list[Any]:
        """The numbers of each example."""
        return labels.tolist()

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The number of numbers, and the mean and deviation of each."""
        pairs = zip(labels.mean(0), labels.std(0), strict=True)
        values = ', '.join(f'{mean:.4g} ± {deviation:.3g}' for mean, deviation in pairs)
        return f'{inputs} with {self.counted(count)} each, {values} in train'
