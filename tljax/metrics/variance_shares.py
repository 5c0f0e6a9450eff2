"""Which axis of a full grid explains how much of the variance of its scores."""

import itertools
from collections.abc import Sequence

import numpy as np

from tljax.types import Array, InputError

SEED = 'seed'  # the name of the axis whose effects are the residual


def shares(scores: Array, names: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The share of variance of each main effect and of each interaction.

    The effect of a set of axes is the mean over all other axes minus the effects of its subsets.
    Its share is the mean of its squares divided by the variance of all scores, so shares sum to 1.
    An axis with the name `seed` is noise: its main effect and its interactions are summed as the
    residual. Means over few seeds still contain noise, so the effect of an axis without influence
    is slightly above 0.

    Source: Hoeffding 1948; Hutter et al. 2014, "An efficient approach for assessing hyperparameter
    importance", section 3, for hyperparameters.

    Args:
        scores: [a, b, ...], one axis for each name.
        names: of the axes.

    Returns:
        `{('rate',): 0.6, ('rate', 'depth'): 0.1, ('seed',): 0.3}`; zeros if all scores are equal.

    Raises:
        InputError: a score is missing (NaN), or the names do not fit the axes.
    """
    x, names = np.asarray(scores, np.float64), tuple(names)
    if x.ndim != len(names) or len(set(names)) != len(names) or not x.size:
        raise InputError(
            f'scores are {list(x.shape)} with axes {names}, wanted a name of each axis'
        )
    if not np.isfinite(x).all():
        hole = zip(names, np.argwhere(~np.isfinite(x))[0], strict=True)
        place = ', '.join(f'{name} {index}' for name, index in hole)
        raise InputError(f'there is no score of {place} (counted from 0), wanted a full grid')
    axes = range(x.ndim)
    effects: dict[tuple[int, ...], np.ndarray] = {}
    squares: dict[tuple[str, ...], float] = {}
    for size in range(x.ndim + 1):
        for subset in itertools.combinations(axes, size):
            effect = x.mean(tuple(axis for axis in axes if axis not in subset), keepdims=True)
            lower = [part for other, part in effects.items() if set(other) < set(subset)]
            effects[subset] = effect - sum(lower)
            key = tuple(names[axis] for axis in subset)
            key = (SEED,) if SEED in key else key
            squares[key] = squares.get(key, 0.0) + float((effects[subset] ** 2).mean())
    del squares[()]  # the mean of all scores
    total = sum(squares.values())
    scale = 1 / total if np.ptp(x) > 0 else 0.0
    return {key: value * scale for key, value in squares.items()}
