"""Paired comparison of two networks by a score that is no mean over examples, such as a kappa."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

DRAWS = 1000


class ScoreDifference(NamedTuple):
    """The difference of two scores on the same examples.

    Attributes:
        difference: the first score minus the second.
        low: the lower end of the 95 % bootstrap interval over examples; NaN without a value.
        high: the upper end.
        p_value: of the two-sided permutation test, which exchanges the predictions of the two
            networks.
    """

    difference: float
    low: float
    high: float
    p_value: float


def difference(
    score: Callable[[np.ndarray, np.ndarray], float],
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
) -> ScoreDifference:
    """Compares the scores of two networks.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", sections 13.3 and 15.2;
    Phipson & Smyth 2010, "Permutation P-values should never be zero".

    Args:
        score: of predictions [N, ...] and labels [N, ...].
        first: the predictions of one network.
        second: those of the other, for the same examples.
        labels: of the examples.
        seed: of the draws.
    """
    rng, count = np.random.default_rng(seed), len(labels)
    found = score(first, labels) - score(second, labels)
    resampled, exchanged = np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):
        rows = rng.integers(0, count, count)
        resampled[draw] = score(first[rows], labels[rows]) - score(second[rows], labels[rows])
        flip = (rng.random(count) < 0.5).reshape(-1, *(1,) * (first.ndim - 1))
        one, other = np.where(flip, second, first), np.where(flip, first, second)
        exchanged[draw] = score(one, labels) - score(other, labels)
    extreme = int((np.abs(exchanged) >= abs(found) - 1e-12).sum())
    low, high = np.percentile(resampled, [2.5, 97.5])
    return ScoreDifference(found, float(low), float(high), (1 + extreme) / (1 + DRAWS))
