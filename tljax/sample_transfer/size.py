"""The effective sample size of weights, and clipping that raises it."""

from collections.abc import Callable

import numpy as np

from tljax.types import Array, InputError

HALVINGS = 60  # of the interval in which the cap is searched


def uniform(count: int) -> np.ndarray:
    """Weights [N] of 1.

    Raises:
        InputError: `count` is less than 1.
    """
    if count < 1:
        raise InputError(f'count is {count}, wanted 1 or more')
    return np.ones(count)


def effective_sample_size(weights: Array) -> float:
    """The number of examples of equal weight that estimate a mean as precisely, 1 to N.

    Args:
        weights: [N], 0 or more.

    Raises:
        InputError: the shape does not fit, or weights are negative, all 0 or not finite.

    Source: Kish 1965: `sum(w)^2 / sum(w^2)`.
    """
    checked = normalised(weights)
    return float(checked.sum() ** 2 / (checked**2).sum())


def clip_to_share(weights: Array, share: float) -> np.ndarray:
    """Weights clipped at the highest cap that gives them a minimal effective sample size.

    Args:
        weights: [N], 0 or more.
        share: minimum of the effective sample size, relative to N. If fewer examples than that have
            a positive weight, these get equal weights.

    Returns:
        [N] with mean 1. Weights with a sufficient effective sample size are only rescaled.

    Raises:
        InputError: a shape or range does not fit.
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
    """Weights [N] as float64 with mean 1.

    Raises:
        InputError: the shape does not fit, or weights are negative, all 0 or not finite.
    """
    array = np.asarray(weights, np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f'weights are {list(array.shape)}, wanted [N]')
    if not np.isfinite(array).all() or array.min() < 0 or not array.any():
        raise InputError(
            f'weights are {array.min():.3g} to {array.max():.3g}, wanted finite values of 0 or '
            'more, not all 0'
        )
    scaled = array / array.max()  # so that squares cannot overflow
    return scaled / scaled.mean()


def capped(weights: np.ndarray, most: float) -> np.ndarray:
    """Weights with mean 1, clipped at the highest cap that leaves none above `most`.

    If fewer than N / `most` examples have a positive weight, these get equal weights.
    """
    full = normalised(weights)
    if full.max() <= most:
        return full
    return normalised(full.clip(max=_highest(full, lambda cut: cut.max() <= most * cut.mean())))


def _highest(weights: np.ndarray, accepts: Callable[[np.ndarray], bool]) -> float:
    """The highest cap that is accepted; the smallest positive weight if none is."""
    low, high = weights[weights > 0].min(), weights.max()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if accepts(weights.clip(max=middle)) else (low, middle)
    return low
