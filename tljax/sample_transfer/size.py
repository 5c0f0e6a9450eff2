"""What weights are worth: their effective number of examples, and how it is kept up."""

from collections.abc import Callable

import numpy as np

from tljax.types import Array, InputError

HALVINGS = 60  # of the interval that the cap lies in


def uniform(count: int) -> np.ndarray:
    """Weights [N] of 1.

    Raises:
        InputError: `count` is less than 1.
    """
    if count < 1:
        raise InputError(f'count is {count}, wanted 1 or more')
    return np.ones(count)


def effective_sample_size(weights: Array) -> float:
    """How many examples of equal weight estimate a mean as surely, 1 to N.

    Args:
        weights: [N], 0 or more.

    Raises:
        InputError: other shapes, values below 0, all 0 or not finite.

    Source: Kish 1965: `sum(w)^2 / sum(w^2)`.
    """
    checked = normalised(weights)
    return float(checked.sum() ** 2 / (checked**2).sum())


def clip_to_share(weights: Array, share: float) -> np.ndarray:
    """Weights capped just so far that they are worth a share of the examples.

    Args:
        weights: [N], 0 or more.
        share: of N that the effective sample size is to have at least. Where fewer examples than
            that have any weight, those have equal ones.

    Returns:
        [N] of mean 1; the given weights, but for their scale, where they are worth enough.

    Raises:
        InputError: other shapes or ranges.
    """
    if not 0 < share <= 1:
        raise InputError(f'share is {share}, wanted 0 < share <= 1')
    full = normalised(weights)
    if effective_sample_size(full) >= share * len(full):
        return full
    enough = share * len(full)
    return normalised(
        full.clip(max=_highest(full, lambda cut: effective_sample_size(cut) >= enough))
    )


def normalised(weights: Array) -> np.ndarray:
    """Float64 [N] of mean 1.

    Raises:
        InputError: other shapes, values below 0, all 0 or not finite.
    """
    array = np.asarray(weights, np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f'weights are {list(array.shape)}, wanted [N]')
    if not np.isfinite(array).all() or array.min() < 0 or not array.any():
        raise InputError(
            f'weights are {array.min():.3g} to {array.max():.3g}, wanted finite ones of 0 or more, '
            'not all 0'
        )
    scaled = array / array.max()  # their squares cannot overflow
    return scaled / scaled.mean()


def capped(weights: np.ndarray, most: float) -> np.ndarray:
    """Weights of mean 1, the largest lowered until none is over `most`.

    Where fewer than N / `most` examples have any weight, those have equal ones.
    """
    full = normalised(weights)
    if full.max() <= most:
        return full
    return normalised(full.clip(max=_highest(full, lambda cut: cut.max() <= most * cut.mean())))


def _highest(weights: np.ndarray, fine: Callable[[np.ndarray], bool]) -> float:
    """The highest cap of weights at which they are fine; the least weight where they never are."""
    low, high = weights[weights > 0].min(), weights.max()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fine(weights.clip(max=middle)) else (low, middle)
    return low
