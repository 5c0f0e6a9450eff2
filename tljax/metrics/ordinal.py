"""Ordered classes: conditional probabilities, and metrics from the table of predicted classes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Sums = dict[str, jax.Array]
DRAWS = 1000  # of the bootstrap


def log_probabilities(logits: jax.Array) -> jax.Array:
    """The logarithms of the probabilities of K classes from K - 1 conditional logits.

    Logit k is that of a class above k, given that it is at least k.
    Source: Shi et al. 2023, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On
    Conditional Probabilities", equation 8.

    Args:
        logits: [..., K - 1].

    Returns:
        [..., K].
    """
    logits = logits.astype(jnp.float32)
    above = jnp.cumsum(jax.nn.log_sigmoid(logits), -1)  # of a class above k
    first = jnp.zeros_like(above[..., :1])
    return jnp.concatenate([first, above], -1) + jnp.concatenate(
        [jax.nn.log_sigmoid(-logits), first], -1
    )


def conditional_logits(log_p: jax.Array) -> jax.Array:
    """The inverse of `log_probabilities`: [..., K] to [..., K - 1]."""
    above = jax.lax.cumlogsumexp(log_p[..., ::-1], axis=log_p.ndim - 1)[..., ::-1]
    return above[..., 1:] - log_p[..., :-1]


def decided(logits: jax.Array) -> jax.Array:
    """The median class [...]: the number of classes that are exceeded with probability above 1/2.

    Source: the same, equation 9.
    """
    above = jnp.cumsum(jax.nn.log_sigmoid(logits.astype(jnp.float32)), -1)
    return (above > jnp.log(0.5)).sum(-1)


def with_nan_wrong(predicted: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Predicted classes [N]; those of NaN logits are the class at the other end."""
    last = logits.shape[-1]
    other = jnp.where(labels * 2 > last, 0, last)
    return jnp.where(jnp.isnan(logits).any(-1), other, predicted)


def zeros(count: int) -> Sums:
    """Sums of no example with K = `count` classes."""
    return {
        'loss': jnp.zeros((), jnp.float32),
        'count': jnp.zeros((), jnp.int32),
        'table': jnp.zeros((count, count), jnp.int32),
    }


def sums(logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> Sums:
    """The sums over one batch.

    Args:
        logits: [B, K - 1].
        labels: [B] int32.
        losses: [B] float32.
        mask: [B] bool; rows of padding do not count.

    Returns:
        `loss`, `count`, and `table` [K, K] int32: examples by true and predicted class.
    """
    count = logits.shape[-1] + 1
    predicted = with_nan_wrong(decided(logits), logits, labels)
    table = jnp.zeros((count, count), jnp.int32).at[labels, predicted].add(mask)
    return {
        'loss': jnp.where(mask, losses, 0.0).sum(),
        'count': mask.sum(),
        'table': table,
    }


def summary(host: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics from sums; None stands for a measure without a value.

    Returns:
        `loss`, `kappa` (with quadratic weights), `accuracy`, `mae` (the mean distance in classes),
        `count`, and `class_accuracy` [K].
    """
    count, table = int(host['count']), np.asarray(host['table'])
    support = table.sum(1)
    shares = zip(table.diagonal().tolist(), support.tolist(), strict=True)
    measures = measured(table) if count else dict.fromkeys(('kappa', 'accuracy', 'mae'), np.nan)
    return {
        'loss': float(host['loss']) / count if count else None,
        **{name: _number(value) for name, value in measures.items()},
        'count': count,
        'class_accuracy': [right / n if n else None for right, n in shares],
    }


def measured(table: np.ndarray) -> dict[str, np.ndarray]:
    """Quadratic-weighted kappa, accuracy and mean distance of tables [..., K, K] of counts.

    `sklearn.metrics.cohen_kappa_score(weights='quadratic')` agrees; NaN if all labels and all
    predictions are one class.

    Source: Cohen 1968, "Weighted kappa".
    """
    table = np.asarray(table, np.float64)
    size = table.shape[-1]
    distance = np.abs(np.arange(size)[:, None] - np.arange(size)[None])
    count = table.sum((-2, -1))
    expected = table.sum(-1)[..., :, None] * table.sum(-2)[..., None, :] / count[..., None, None]
    observed, chance = ((one * distance**2).sum((-2, -1)) for one in (table, expected))
    with np.errstate(divide='ignore', invalid='ignore'):
        kappa = np.where(chance > 0, 1 - observed / chance, np.nan)
    return {
        'kappa': kappa,
        'accuracy': np.trace(table, axis1=-2, axis2=-1) / count,
        'mae': (table * distance).sum((-2, -1)) / count,
    }


def intervals(table: np.ndarray, seed: int = 0) -> dict[str, list[float]]:
    """95 % bootstrap intervals, `{NAME_interval: [low, high]}`, over resampled examples.

    Resampling examples draws tables from a multinomial distribution, which is done directly.

    Args:
        table: [K, K] counts.
        seed: of the draws.
    """
    count = int(table.sum())
    if count < 2:
        return {}
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, (table / count).ravel(), DRAWS)
    values = measured(drawn.reshape(DRAWS, *table.shape))
    return {
        f'{name}_interval': [float(end) for end in np.percentile(value, [2.5, 97.5])]
        for name, value in values.items()
        if np.isfinite(value).all()
    }


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
