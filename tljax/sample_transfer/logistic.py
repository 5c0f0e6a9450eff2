"""Density ratios from a logistic regression that separates the domains."""

from typing import Any

import numpy as np
import scipy

from tljax.sample_transfer import features
from tljax.sample_transfer.size import capped
from tljax.types import Array, InputError

STRENGTHS = (0.1, 0.01, 0.001, 0.0001)
ITERATIONS = 100  # limit of L-BFGS for each strength


def logistic_ratio(
    *,
    source: Array,
    target: Array,
    strengths: tuple[float, ...] = STRENGTHS,
    folds: int = 3,
    most: float = 20.0,
    seed: int = 0,
) -> np.ndarray:
    """Weights by the odds that an example belongs to the target, of a calibrated regression.

    A logistic regression predicts the domain of every example by cross-validation. The held-out
    logits are calibrated with a slope and an offset. If the domains cannot be separated, the slope
    is 0 and the weights are equal. The penalty with the smallest calibrated loss is used. The log
    ratio is linear in the features, so it detects shifts but not changes of spread.

    Args:
        source: features [N, F].
        target: features [M, F].
        strengths: candidates for the penalty on squared weights of standardised features.
        folds: number of cross-validation folds.
        most: largest weight; larger ratios are clipped.
        seed: of the folds.

    Returns:
        [N] float64 with mean 1.

    Raises:
        InputError: a shape, type or range does not fit, or a value is not finite.

    Source: Bickel et al. 2007, "Discriminative Learning for Differing Training and Test
    Distributions"; calibration by Platt 1999.
    """
    if not strengths or min(strengths) <= 0 or most < 1:
        raise InputError(
            f'strengths is {strengths} and most {most}, wanted more than 0 and 1 or more'
        )
    one, other = features.standardised(source, target)
    least = min(len(one), len(other))
    if not 2 <= folds <= least:
        raise InputError(
            f'folds is {folds}, wanted 2 to the {least} examples of the smaller domain'
        )
    x = np.concatenate([one, other])
    side = np.repeat(np.array([-1, 1], np.float32), [len(one), len(other)])
    balance = np.where(side > 0, 0.5 / len(other), 0.5 / len(one))
    logits = _held_out(x, side, balance, sorted(strengths, reverse=True), folds, seed)
    fits = [_calibrated(row, side, balance) for row in logits]
    best = int(np.argmin([loss for _, _, loss in fits]))
    offset, slope, _ = fits[best]
    ratio = slope * logits[best, : len(one)] + offset
    return capped(np.exp(ratio - ratio.max()), most)


def _held_out(
    x: np.ndarray,
    side: np.ndarray,
    balance: np.ndarray,
    strengths: list[float],
    folds: int,
    seed: int,
) -> np.ndarray:
    """Held-out logits [S, N + M] of every strength, in descending order of strength."""
    order = np.random.default_rng(seed).permutation(len(x))
    ranks = np.empty(len(x), np.int64)
    for domain in (-1, 1):  # the rows of a domain are dealt to the folds in turn
        rows = order[side[order] == domain]
        ranks[rows] = np.arange(len(rows))
    logits = np.empty((len(strengths), len(x)))
    for fold in range(folds):
        held = ranks % folds == fold
        train = x[~held], side[~held], balance[~held] / balance[~held].sum()
        weights = np.zeros(x.shape[1] + 1)
        options = {'maxiter': ITERATIONS, 'ftol': 1e-6, 'gtol': 1e-4}
        for row, strength in enumerate(strengths):  # each starts from the stronger one's solution
            weights = _minimised(*train, strength, weights, options=options).x
            logits[row, held] = x[held] @ weights[1:].astype(np.float32) + weights[0]
    return logits


def _minimised(
    x: np.ndarray,
    side: np.ndarray,
    balance: np.ndarray,
    strength: float,
    start: np.ndarray,
    **settings: Any,
) -> Any:
    """SciPy's result for the offset and weights [1 + F] of a logistic regression.

    Args:
        x: [N, F].
        side: [N], -1 or 1.
        balance: [N] weights of the rows' losses, with sum 1.
        strength: of the penalty on squared weights; the offset has none.
        start: [1 + F].
        **settings: of `scipy.optimize.minimize`.
    """

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = side * (x @ weights[1:].astype(x.dtype) + weights[0])
        slope = -balance * side * scipy.special.expit(-margin)
        inner = slope.astype(x.dtype) @ x + strength * weights[1:]
        loss = balance @ np.logaddexp(0, -margin) + strength / 2 * (weights[1:] ** 2).sum()
        return loss, np.concatenate([[slope.sum()], inner])

    return scipy.optimize.minimize(objective, start, jac=True, method='L-BFGS-B', **settings)


def _calibrated(
    logits: np.ndarray, side: np.ndarray, balance: np.ndarray
) -> tuple[float, float, float]:
    """The offset and the slope, 0 or more, that calibrate logits [N], and their log loss."""
    bounds = [(None, None), (0, None)]
    fit = _minimised(logits[:, None], side, balance, 0.0, np.array([0.0, 1.0]), bounds=bounds)
    return float(fit.x[0]), float(fit.x[1]), float(fit.fun)
