"""Errors under corruption: their mean, and their ratio to the errors of a baseline."""

from typing import NamedTuple

import numpy as np

from tljax.types import Array, InputError

RESAMPLES = 1000


class Estimate(NamedTuple):
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class CorruptionErrors(NamedTuple):
    """Errors under corruption; an error is a share of images in [0, 1].

    Attributes:
        error: [C, L], of each corruption and severity.
        mean: the mean over corruptions and severities.
        relative: [C], the sum over severities divided by the sum of the baseline; NaN if the
            baseline's is 0. None without a baseline.
        mce: the mean corruption error, which is the mean of `relative`; None without a baseline, or
            if the baseline makes no error under one of the corruptions.
        difference: the mean error minus that of the baseline; None without a baseline.
    """

    error: np.ndarray
    mean: Estimate
    relative: np.ndarray | None
    mce: Estimate | None
    difference: Estimate | None


def corruption_errors(
    right: Array, baseline: Array | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> CorruptionErrors:
    """The errors of a classifier under corruption, with intervals over the images.

    The bootstrap resamples images: all corrupted forms of an image and the predictions of both
    classifiers are resampled together.

    Source: Hendrycks & Dietterich 2019, section 3: the mean corruption error (mCE).

    Args:
        right: [C, L, N] bool, whether the predicted class is correct, for C corruptions at L
            severities.
        baseline: the same for another classifier on the same images.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: other shapes, or no image.
    """
    wrong = _wrong(right)
    count = wrong.shape[-1]
    sums = wrong.sum(1).T  # [N, C]
    shares = np.full(count, 1 / count)
    weights = np.random.default_rng(seed).multinomial(count, shares, resamples) / count
    levels = wrong.shape[1]
    mean = _estimate(sums.mean(1, keepdims=True) / levels, weights)
    if baseline is None:
        return CorruptionErrors(wrong.mean(-1), mean, None, None, None)
    other = _wrong(baseline)
    if other.shape != wrong.shape:
        raise InputError(f'the baseline is {list(other.shape)}, wanted {list(wrong.shape)}')
    base = other.sum(1).T
    positive = base.mean(0) > 0
    empty = np.full(len(positive), np.nan)
    relative = np.divide(sums.mean(0), base.mean(0), out=empty, where=positive)
    gap = _estimate((sums - base).mean(1, keepdims=True) / levels, weights)
    mce = _ratio_estimate(sums, base, relative, weights) if positive.all() else None
    return CorruptionErrors(wrong.mean(-1), mean, relative, mce, gap)


def _ratio_estimate(
    sums: np.ndarray, base: np.ndarray, relative: np.ndarray, weights: np.ndarray
) -> Estimate:
    """The mean of ratios of means; resamples in which a denominator is 0 are excluded."""
    numerators, denominators = weights @ sums, weights @ base
    positive = (denominators > 0).all(1)
    resampled = (numerators[positive] / denominators[positive]).mean(1)
    return _with_quantiles(float(relative.mean()), resampled)


def _wrong(right: Array) -> np.ndarray:
    right = np.asarray(right, bool)
    if right.ndim != 3 or not right.size:
        raise InputError(f'right is {list(right.shape)}, wanted [corruptions, severities, images]')
    return ~right


def _estimate(values: np.ndarray, weights: np.ndarray) -> Estimate:
    """The mean of values [N, 1], one for each image."""
    return _with_quantiles(float(values.mean()), (weights @ values).ravel())


def _with_quantiles(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Estimate(value, float(low), float(high))
