"""Metrics of predicted numbers: sums over batches, exact values of all examples, and intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

Sums = dict[str, jax.Array]
MEASURES = ('r2', 'rmse', 'mae', 'spearman')
IN_UNITS = ('rmse', 'mae')  # they have a mean over several numbers only if units agree
DRAWS, MOST_RANKED = 1000, 2_000_000  # of the bootstrap; draws times examples that are ranked
LEAST_DRAWS = 200
AT_ONCE = 200_000  # resampled numbers in memory


def zeros(count: int) -> Sums:
    """Sums of no example with K = `count` numbers each."""
    return {
        'loss': jnp.zeros((), jnp.float32),
        'count': jnp.zeros((), jnp.int32),
        **{name: jnp.zeros(count, jnp.float32) for name in ('squared', 'absolute')},
        **{name: jnp.zeros(count, jnp.float32) for name in ('total', 'squares')},
    }


def sums(predicted: jax.Array, targets: jax.Array, losses: jax.Array, mask: jax.Array) -> Sums:
    """The sums over one batch.

    Args:
        predicted: [B, K], standardised.
        targets: [B, K], standardised; so their sums lose few digits.
        losses: [B] float32.
        mask: [B] bool; rows of padding do not count.

    Returns:
        `loss`, `count`, and of each number [K] the sums of squared and absolute errors, of the
        targets (`total`) and of their squares.
    """

    def over(values: jax.Array) -> jax.Array:
        return jnp.where(mask[:, None], values, 0.0).sum(0)

    errors = predicted - targets
    return {
        'loss': jnp.where(mask, losses, 0.0).sum(),
        'count': mask.sum(),
        'squared': over(errors**2),
        'absolute': over(jnp.abs(errors)),
        'total': over(targets),
        'squares': over(targets**2),
    }


def from_sums(host: Mapping[str, Any], deviation: np.ndarray) -> dict[str, np.ndarray]:
    """R², RMSE and MAE of each number [K] from sums; NaN where a measure has no value.

    Args:
        host: see `sums`.
        deviation: [K], the unit of standardised values.
    """
    count = max(int(host['count']), 1)
    squared, total = (np.asarray(host[name], np.float64) for name in ('squared', 'total'))
    spread = np.asarray(host['squares'], np.float64) - total**2 / count
    return {
        'r2': _explained(squared, spread),
        'rmse': np.sqrt(squared / count) * deviation,
        'mae': np.asarray(host['absolute'], np.float64) / count * deviation,
    }


def measured(predicted: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """R², RMSE, MAE and Spearman's rank correlation of each number; NaN without a value.

    `sklearn.metrics.r2_score` and `scipy.stats.spearmanr` agree.

    Args:
        predicted: [..., N, K], in the units of the labels.
        labels: [..., N, K].

    Returns:
        Each [..., K].
    """
    errors = predicted - labels
    spread = ((labels - labels.mean(-2, keepdims=True)) ** 2).sum(-2)
    ranks = (scipy.stats.rankdata(x, axis=-2) for x in (predicted, labels))
    return {
        'r2': _explained((errors**2).sum(-2), spread),
        'rmse': np.sqrt((errors**2).mean(-2)),
        'mae': np.abs(errors).mean(-2),
        'spearman': _correlation(*ranks),
    }


def _explained(squared: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """1 minus the share of the squared deviations from the mean that is left as errors."""
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(spread > 0, 1 - squared / spread, np.nan)


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = (one - one.mean(-2, keepdims=True) for one in (x, y))
    with np.errstate(divide='ignore', invalid='ignore'):
        return (x * y).sum(-2) / np.sqrt((x**2).sum(-2) * (y**2).sum(-2))


def summary(
    host: Mapping[str, Any],
    deviation: np.ndarray,
    rows: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> dict[str, Any]:
    """Metrics from sums, or exact ones from all examples if there are `rows`.

    Args:
        host: see `sums`.
        deviation: [K], the unit of standardised values.
        rows: predictions and labels [N, K] of batches, in the units of the labels.

    Returns:
        `loss`, `count`, means over the numbers (`r2`, and `spearman` from rows), and lists with a
        value of each number (`value_r2`, `value_rmse`, ...). `rmse` and `mae`, which are in units,
        exist only for a single number. None stands for a measure without a value.
    """
    count = int(host['count'])
    loss = float(host['loss']) / count if count else None
    if rows:
        predicted, labels = (
            np.concatenate([np.asarray(row[i], np.float64) for row in rows]) for i in (0, 1)
        )
        values = measured(predicted, labels) if len(labels) else {}
    else:
        values = from_sums(host, deviation) if count else {}
    return {'loss': loss, **_means(values), 'count': count, **_lists(values)}


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    means = {
        name: _number(value.mean())
        for name, value in values.items()
        if name not in IN_UNITS or len(value) == 1
    }
    return {'r2': None, **means}


def _lists(values: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    return {f'value_{name}': [_number(x) for x in value] for name, value in values.items()}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def intervals(predicted: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """95 % bootstrap intervals of all measures, by percentiles over resampled examples.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.

    Args:
        predicted: [N, K].
        labels: [N, K].
        seed: of the draws.

    Returns:
        `{NAME_interval: [low, high]}` for each measure of `summary`, and lists of them for
        `value_NAME_interval`; without a value where a draw has none.
    """
    count, numbers = labels.shape
    if count < 2 or not np.isfinite(predicted).all():
        return {}
    draws = int(np.clip(MOST_RANKED // (count * numbers), LEAST_DRAWS, DRAWS))
    rng = np.random.default_rng(seed)
    predicted, labels = predicted.astype(np.float64), labels.astype(np.float64)
    drawn, size = [], max(1, AT_ONCE // (count * numbers))
    for start in range(0, draws, size):
        rows = rng.integers(0, count, (min(size, draws - start), count))
        drawn.append(measured(predicted[rows], labels[rows]))
    values = {name: np.concatenate([one[name] for one in drawn]) for name in MEASURES}  # [D, K]
    overall = {
        f'{name}_interval': _ends(value.mean(1))
        for name, value in values.items()
        if name not in IN_UNITS or numbers == 1
    }
    each = {f'value_{name}_interval': [_ends(x) for x in v.T] for name, v in values.items()}
    return {name: ends for name, ends in overall.items() if ends} | each


def _ends(values: np.ndarray) -> list[float] | None:
    """The 2.5 % and 97.5 % percentiles; None if some draws have no value."""
    if not np.isfinite(values).all():
        return None
    return [float(end) for end in np.percentile(values, [2.5, 97.5])]
