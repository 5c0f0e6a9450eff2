"""The expected score of hyperparameter search as a function of its budget."""

from typing import NamedTuple

import numpy as np

from tljax.types import Array, InputError


class Curve(NamedTuple):
    """Scores of the best of k random configurations.

    Attributes:
        budget: [n] int, k = 1 to n.
        validation: [n], the expected validation score of the best of k configurations.
        deviation: [n], the standard deviation of that validation score.
        test: [n], the expected test score of the configuration with the best validation score;
            None without test scores.
    """

    budget: np.ndarray
    validation: np.ndarray
    deviation: np.ndarray
    test: np.ndarray | None


def expected_best(validation: Array, test: Array | None = None) -> Curve:
    """The expected scores of the best of k = 1 to n random configurations.

    The k configurations are drawn with replacement from the n that were run, as in the paper. The
    configuration with the best validation score is chosen; the test score is that of the chosen
    configuration, and the mean test score of configurations with equal validation scores.

    Source: Dodge et al. 2019, "Show your work", section 3.1.

    Args:
        validation: [n], the validation score of each configuration; higher is better.
        test: [n], the test score of each configuration.

    Raises:
        InputError: there is no score, a score is not finite, or the lengths differ.
    """
    scores = _checked('validation', validation)
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    budget = np.arange(1, len(scores) + 1)
    reached = np.concatenate([[0], np.cumsum(counts)]) / len(scores)
    chance = np.diff(reached ** budget[:, None], axis=1)  # [n, M], that each value is the best
    best = chance @ values
    deviation = np.sqrt(np.maximum(chance @ values**2 - best**2, 0))
    if test is None:
        return Curve(budget, best, deviation, None)
    others = _checked('test', test)
    if len(others) != len(scores):
        raise InputError(f'{len(scores)} validation and {len(others)} test scores cannot be paired')
    chosen = np.bincount(place, others) / counts
    return Curve(budget, best, deviation, chance @ chosen)


def _checked(name: str, scores: Array) -> np.ndarray:
    x = np.asarray(scores, np.float64)
    if x.ndim != 1 or not len(x):
        raise InputError(f'{name} is {list(x.shape)}, wanted one score of each configuration')
    if not np.isfinite(x).all():
        raise InputError(f'{name} {int(np.argmin(np.isfinite(x)))} is not a finite number')
    return x
