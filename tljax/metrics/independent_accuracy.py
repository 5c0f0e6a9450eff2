"""Comparison of a classifier on two independent sets of images."""

import math
from typing import NamedTuple

from tljax.metrics.totals import wilson_interval


class IndependentDifference(NamedTuple):
    """The difference of two accuracies on different images, with its 95 % interval."""

    difference: float
    low: float
    high: float


def accuracy_difference(
    first_right: int, first_count: int, second_right: int, second_count: int
) -> IndependentDifference:
    """The first accuracy minus the second.

    Source: method 10 of Newcombe 1998, "Interval estimation for the difference between independent
    proportions", from the two Wilson intervals.

    Args:
        first_right: the number of correct predictions in the first set.
        first_count: the number of images in the first set, at least 1.
        second_right: the number of correct predictions in the second set.
        second_count: the number of images in the second set, at least 1.
    """
    first, second = first_right / first_count, second_right / second_count
    first_low, first_high = wilson_interval(first_right, first_count)
    second_low, second_high = wilson_interval(second_right, second_count)
    below = math.hypot(first - first_low, second_high - second)
    above = math.hypot(first_high - first, second - second_low)
    return IndependentDifference(first - second, first - second - below, first - second + above)
