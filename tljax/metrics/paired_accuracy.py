"""Paired comparison of two classifiers on the same images."""

import math
from typing import NamedTuple

import numpy as np
import scipy  # `scipy.stats` is loaded when it is first used: it takes 0.8 s

from tljax.types import Array


class PairedDifference(NamedTuple):
    """The difference of two accuracies, or other scores, on the same images.

    Attributes:
        images: N.
        only_first: images that only the first classifier has right; None for other scores.
        only_second: images that only the second has right.
        difference: the first accuracy minus the second.
        low: the lower end of the 95 % bootstrap interval of the difference.
        high: the upper end.
        p_value: of the exact McNemar test, two-sided; for other scores of a permutation test.
    """

    images: int
    only_first: int | None
    only_second: int | None
    difference: float
    low: float
    high: float
    p_value: float


def accuracy_difference(first: Array, second: Array, level: float = 0.95) -> PairedDifference:
    """Compares which images two classifiers have right.

    The interval is the percentile interval of the bootstrap over images. Resampling images draws
    the sum of N values out of +1, 0 and -1, so its distribution is computed exactly, as the N-th
    power of a polynomial, and no resample is drawn.

    Source: Efron & Tibshirani 1993, section 13.3, for the interval; McNemar 1947 for the test.

    Args:
        first: [N] bool, whether the first classifier is right.
        second: [N] bool, likewise of the second.
        level: of the interval.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    count = len(first)
    only_first = int((first & ~second).sum())
    only_second = int((~first & second).sum())
    low, high = _interval(only_first, only_second, count, level)
    discordant = only_first + only_second
    p_value = scipy.stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    difference = (only_first - only_second) / count
    return PairedDifference(count, only_first, only_second, difference, low, high, float(p_value))


def _interval(gains: int, losses: int, count: int, level: float) -> tuple[float, float]:
    """The quantiles of the mean of `count` draws of +1, 0 and -1 with the observed frequencies."""
    size = 1 << math.ceil(math.log2(2 * count + 1))
    one = np.zeros(size)
    one[:3] = np.array([losses, count - gains - losses, gains]) / count  # places are shifted by 1
    chances = np.fft.irfft(np.fft.rfft(one) ** count, size)[: 2 * count + 1]
    total = np.cumsum(np.maximum(chances, 0.0))
    tail = (1 - level) / 2
    ends = np.searchsorted(total / total[-1], [tail + 1e-12, 1 - tail - 1e-12])
    low, high = (ends - count) / count
    return float(low), float(high)
