"""LogME: the evidence of a linear model on frozen features."""

import numpy as np

from tljax.features.transferability import checks, spectra
from tljax.types import Array

ITERATIONS = 1000
TOLERANCE = 1e-12  # nats an example; the evidence is flat at its maximum, so this is tight
NEVER_BEYOND = 1e12  # of the extreme singular values: weights of exactly 0, and of no prior


def logme(features: Array, labels: Array) -> float:
    """Logarithm of maximum evidence: larger is better.

    For each class, the indicator of the class is a linear function of the features with a Gaussian
    prior on its weights, plus Gaussian noise; the two variances are those of largest evidence. No
    intercept, as in the paper. The score does not change when features are rotated or scaled.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Returns:
        The mean over the classes of the log evidence in nats, divided by N.

    Raises:
        InputError: other shapes or types, values that are not finite, a class without examples.

    Source: You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer
    Learning"; the fixed point of the ratio of the variances is from You et al. 2022, "Ranking and
    Tuning Pre-trained Models", where all is said in terms of one decomposition. Here, moreover, it
    is of the Gram matrix, and all classes are iterated at once, to convergence.
    """
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    found = spectra.factors(x)
    fitted = found.project(classes.indicators()) ** 2
    full = len(found.squares) == len(x)  # then nothing is left over, but for rounding
    beyond = np.zeros(len(classes.counts)) if full else classes.counts - fitted.sum(0)
    return float(_evidence(found.squares, fitted, beyond.clip(0), len(x)).mean())


def _evidence(
    squares: np.ndarray, fitted: np.ndarray, beyond: np.ndarray, count: int
) -> np.ndarray:
    """Log evidence an example [K], at its maximum.

    Args:
        squares: [r] squared singular values.
        fitted: [r, K] squared projections of the targets on the left singular vectors.
        beyond: [K] what is left of the squared targets outside of these.
        count: N.
    """
    if not len(squares):
        return _value(np.ones(len(beyond)), squares, fitted, beyond, count)
    low, high = squares[-1] / NEVER_BEYOND, squares[0] * NEVER_BEYOND
    ratio = np.full(len(beyond), squares.mean())
    value = np.full(len(beyond), -np.inf)
    open_ = np.arange(len(beyond))
    for _ in range(ITERATIONS):
        inputs = squares, fitted[:, open_], beyond[open_], count
        found = _value(ratio[open_], *inputs)
        moved = np.abs(found - value[open_]) > TOLERANCE * (1 + np.abs(found))
        value[open_] = found
        ratio[open_] = _next(ratio[open_], *inputs).clip(low, high)
        open_ = open_[moved]
        if not len(open_):
            break
    return value


def _next(
    ratio: np.ndarray, squares: np.ndarray, fitted: np.ndarray, beyond: np.ndarray, count: int
) -> np.ndarray:
    """The ratio of noise to prior variance [K] that MacKay's updates make of another."""
    kept = squares[:, None] / (ratio + squares[:, None])
    shrunk = ratio / (ratio + squares[:, None])
    effective = kept.sum(0)
    residual = (fitted * shrunk**2).sum(0) + beyond
    # The squared norm of the weights, times the ratio.
    weights = (fitted * kept * shrunk).sum(0)
    spare = count - len(squares) + shrunk.sum(0)
    with np.errstate(divide='ignore', over='ignore', invalid='ignore'):
        return np.nan_to_num(ratio * effective * residual / (spare * weights), nan=np.inf)


def _value(
    ratio: np.ndarray, squares: np.ndarray, fitted: np.ndarray, beyond: np.ndarray, count: int
) -> np.ndarray:
    """Log evidence an example [K] for a ratio of variances, at the best noise variance for it."""
    shrunk = ratio / (ratio + squares[:, None])
    noise = ((fitted * shrunk).sum(0) + beyond) / count
    determinant = -np.log(shrunk).sum(0)
    return -0.5 * (np.log(2 * np.pi * noise) + 1 + determinant / count)
