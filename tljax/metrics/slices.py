"""Slices: the accuracy of images with a property in common."""

from typing import NamedTuple

import numpy as np

from tljax.metrics.totals import wilson_interval
from tljax.types import Array, InputError


class Slice(NamedTuple):
    """The images with a value in a range.

    Attributes:
        low: the smallest value.
        high: the largest value.
        images: the number of images.
        accuracy: the share of correct predictions.
        interval: the 95 % interval of the accuracy (Wilson).
    """

    low: float
    high: float
    images: int
    accuracy: float
    interval: tuple[float, float]


def by_value(values: Array, right: Array, parts: int = 4) -> list[Slice]:
    """Divides images by a value into slices with about equal numbers of images.

    Equal values are in one slice, so values with few levels have fewer slices.

    Args:
        values: [N], for example widths, aspect ratios, or brightness. Images with NaN are excluded.
        right: [N] bool, whether each prediction is correct.
        parts: the largest number of slices.

    Raises:
        InputError: other shapes, or no part.
    """
    values, right = np.asarray(values, np.float64), np.asarray(right, bool)
    if values.ndim != 1 or values.shape != right.shape or parts < 1:
        raise InputError(
            f'values are {list(values.shape)}, right {list(right.shape)} and parts {parts}, wanted '
            '[N], [N] and 1 or more'
        )
    known = ~np.isnan(values)
    values, right = values[known], right[known]
    if not len(values):
        return []
    ends = np.quantile(values, np.arange(1, parts) / parts, method='lower')
    place = np.searchsorted(np.unique(ends), values, side='left')
    return [_slice(values[place == one], right[place == one]) for one in np.unique(place)]


def class_counts(labels: Array, train_labels: Array, num_classes: int) -> np.ndarray:
    """The number of training images in the class of each image: [N].

    Args:
        labels: [N] int.
        train_labels: [M] int.
        num_classes: K.
    """
    return np.bincount(np.asarray(train_labels), minlength=num_classes)[np.asarray(labels)]


def _slice(values: np.ndarray, right: np.ndarray) -> Slice:
    correct, count = int(right.sum()), len(right)
    interval = wilson_interval(correct, count)
    return Slice(float(values.min()), float(values.max()), count, correct / count, interval)
