"""The ratio of densities, from a classifier that tells the domains apart."""

import numpy as np
import scipy.optimize
import scipy.special

from tljax.sample_transfer import features
from tljax.sample_transfer.size import capped
from tljax.types import Array, InputError

STRENGTHS = (0.1, 0.01, 0.001, 0.0001)  # from strong to weak: each starts where the last ended
ITERATIONS = 100


def logistic_ratio(
    *,
    source: Array,
    target: Array,
    strengths: tuple[float, ...] = STRENGTHS,
    folds: int = 3,
    most: float = 20.0,
    seed: int = 0,
) -> np.ndarray:
    """Weights by the odds that an example is of the target, of a calibrated logistic regression.

    Every example is judged by a regression that has not seen it. The odds are calibrated by a slope
    and an offset on those judgements (where domains cannot be told apart, the slope is 0 and the
    weights are even); the penalty is the one of least loss after that. The logarithm of the
    ratio is linear in the features: shifts are told, changes of spread are not.

    Args:
        source: features [N, F] of the source's examples.
        target: features [M, F] of the target's.
        strengths: of the penalty on squared weights of standardised features, to choose among.
        folds: parts, each judged by a regression on the others.
        most: no weight is larger: ratios are cut until none is.
        seed: of the parts.

    Returns:
        [N] float64 of mean 1.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite.

    Source: Bickel et al. 2007, "Discriminative Learning for Differing Training and Test
    Distributions"; calibration by Platt 1999.
    """
    if not strengths or min(strengths) <= 0 or most < 1:
        raise InputError(f'strengths is {strengths} and most {most}, wanted more than 0, 1 or more')
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
    slope, offset, _ = fits[best]
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
    """Logits [S, N + M] of every strength, for rows that the regression has not seen."""
    order = np.random.default_rng(seed).permutation(len(x))
    ranks = np.empty(len(x), np.int64)
    for domain in (-1, 1):  # each is spread over all parts
        rows = order[side[order] == domain]
        ranks[rows] = np.arange(len(rows))
    logits = np.empty((len(strengths), len(x)))
    for fold in range(folds):
        held = ranks % folds == fold
        seen = x[~held], side[~held], balance[~held]
        weights = np.zeros(x.shape[1] + 1)
        for row, strength in enumerate(strengths):
            weights = _fitted(*seen, strength, weights)
            logits[row, held] = x[held] @ weights[1:].astype(np.float32) + weights[0]
    return logits


def _fitted(
    x: np.ndarray, side: np.ndarray, balance: np.ndarray, strength: float, start: np.ndarray
) -> np.ndarray:
    """The offset and weights [1 + F] of a logistic regression."""
    balance = balance / balance.sum()

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = side * (x @ weights[1:].astype(np.float32) + weights[0])
        slope = -balance * side * scipy.special.expit(-margin)
        inner = slope.astype(np.float32) @ x + strength * weights[1:]
        loss = balance @ np.logaddexp(0, -margin) + strength / 2 * (weights[1:] ** 2).sum()
        return loss, np.concatenate([[slope.sum()], inner])

    options = {'maxiter': ITERATIONS, 'ftol': 1e-6, 'gtol': 1e-4}
    return scipy.optimize.minimize(objective, start, jac=True, method='L-BFGS-B', options=options).x


def _calibrated(
    logits: np.ndarray, side: np.ndarray, balance: np.ndarray
) -> tuple[float, float, float]:
    """The slope, 0 or more, and offset that make logits least surprised, and how much that is."""

    def objective(line: np.ndarray) -> tuple[float, np.ndarray]:
        margin = side * (line[0] * logits + line[1])
        slope = -balance * side * scipy.special.expit(-margin)
        return float(balance @ np.logaddexp(0, -margin)), np.array([slope @ logits, slope.sum()])

    found = scipy.optimize.minimize(
        objective, [1.0, 0.0], jac=True, method='L-BFGS-B', bounds=[(0, None), (None, None)]
    )
    return float(found.x[0]), float(found.x[1]), float(found.fun)
