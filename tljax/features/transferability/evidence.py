"""LogME: the evidence of a linear model on frozen features."""

import numpy as np

from tljax.features.transferability import checks, spectra
from tljax.types import Array, InputError

ITERATIONS = 1000
TOLERANCE = 1e-12  # nats per example; tight, because the evidence is flat at its maximum
# Limits of the ratio of variances, relative to the extreme squared singular values. At the limits
# all weights are 0, or the prior has no effect.
RATIO_LIMIT = 1e12


def logme(features: Array, labels: Array, *, numbers: bool = False) -> float:
    """Logarithm of maximum evidence: larger is better.

    The model of each class: its indicator is a linear function of the features, with a Gaussian
    prior on the weights, plus Gaussian noise. The two variances maximise the evidence. There is no
    intercept, as in the paper. The score is invariant to rotation and scale of the features.

    For regression (`numbers`), the model is that of each number. Numbers are standardised first, so
    that the score does not depend on their units.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1; or for regression [N] or [N, K] numbers.
        numbers: whether the labels are numbers.

    Returns:
        The mean over the classes or numbers of the log evidence in nats, divided by N.

    Raises:
        InputError: a shape or type does not fit, a value is not finite, or a class has no examples.

    Source: You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer
    Learning"; the fixed-point iteration of the ratio of variances from one decomposition is that of
    You et al. 2022, "Ranking and Tuning Pre-trained Models". Here the Gram matrix is decomposed,
    and all classes are iterated together, to convergence.
    """
    x = checks.matrix('features', features)
    if numbers:
        targets = _standardised(np.asarray(labels, np.float64), len(x))
    else:
        targets = checks.classes('labels', labels, len(x)).indicators()
    factors = spectra.factors(x)
    projected = factors.project(targets) ** 2
    full = len(factors.squares) == len(x)  # then the remainder is 0 except for rounding
    squares = (targets**2).sum(0)
    remainder = np.zeros(len(squares)) if full else squares - projected.sum(0)
    return float(_evidence(factors.squares, projected, remainder.clip(0), len(x)).mean())


def _standardised(numbers: np.ndarray, count: int) -> np.ndarray:
    """Numbers [N] or [N, K] as [N, K], each with mean 0 and variance 1.

    Raises:
        InputError: another shape, a number that is not finite, or one equal for all examples.
    """
    if numbers.ndim not in (1, 2) or len(numbers) != count or not numbers.size:
        raise InputError(f'labels are {list(numbers.shape)}, wanted [{count}] or [{count}, K]')
    if not np.isfinite(numbers).all():
        raise InputError('labels are not all finite')
    numbers = numbers.reshape(count, -1)
    deviation = numbers.std(0)
    if not (deviation > 0).all():
        raise InputError('a number is the same for all examples, wanted different values')
    return (numbers - numbers.mean(0)) / deviation


def _evidence(
    squares: np.ndarray, projected: np.ndarray, remainder: np.ndarray, count: int
) -> np.ndarray:
    """The maximum of the log evidence per example [K].

    Args:
        squares: [r] squared singular values of the features.
        projected: [r, K] squared projections of the targets on the left singular vectors.
        remainder: [K] squared norm of each target's part outside the span of these vectors.
        count: N.
    """
    if not len(squares):
        return _value(np.ones(len(remainder)), squares, projected, remainder, count)
    low, high = squares[-1] / RATIO_LIMIT, squares[0] * RATIO_LIMIT
    ratio = np.full(len(remainder), squares.mean())
    value = np.full(len(remainder), -np.inf)
    active = np.arange(len(remainder))
    for _ in range(ITERATIONS):
        inputs = squares, projected[:, active], remainder[active], count
        following = _value(ratio[active], *inputs)
        changed = np.abs(following - value[active]) > TOLERANCE * (1 + np.abs(following))
        value[active] = following
        ratio[active] = _next(ratio[active], *inputs).clip(low, high)
        active = active[changed]
        if not len(active):
            break
    return value


def _next(
    ratio: np.ndarray, squares: np.ndarray, projected: np.ndarray, remainder: np.ndarray, count: int
) -> np.ndarray:
    """The next ratio of noise to prior variance [K], by MacKay's updates."""
    kept = squares[:, None] / (ratio + squares[:, None])
    shrunk = ratio / (ratio + squares[:, None])
    effective = kept.sum(0)
    residual = (projected * shrunk**2).sum(0) + remainder
    # The squared norm of the weights, times the ratio.
    weights = (projected * kept * shrunk).sum(0)
    free = count - len(squares) + shrunk.sum(0)
    with np.errstate(divide='ignore', over='ignore', invalid='ignore'):
        return np.nan_to_num(ratio * effective * residual / (free * weights), nan=np.inf)


def _value(
    ratio: np.ndarray, squares: np.ndarray, projected: np.ndarray, remainder: np.ndarray, count: int
) -> np.ndarray:
    """The log evidence per example [K] for a ratio of variances and the best noise variance."""
    shrunk = ratio / (ratio + squares[:, None])
    noise = ((projected * shrunk).sum(0) + remainder) / count
    determinant = -np.log(shrunk).sum(0)
    return -0.5 * (np.log(2 * np.pi * noise) + 1 + determinant / count)
