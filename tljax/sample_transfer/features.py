"""Features of two domains on one scale."""

import numpy as np

from tljax.features.transferability import checks
from tljax.types import Array

CONSTANT = 1e-6  # a feature varies if its spread is more than this times its mean


def standardised(source: Array, target: Array) -> tuple[np.ndarray, np.ndarray]:
    """Standardises features over both domains, which have equal weight; constant ones become 0.

    Args:
        source: [N, F].
        target: [M, F].

    Returns:
        [N, F] and [M, F] float32.

    Raises:
        InputError: a shape or type does not fit, or a value is not finite.
    """
    one, other = checks.matrix('source', source), checks.matrix('target', target)
    checks.same_width(one.shape[1], other.shape[1])
    mean = (one.mean(0) + other.mean(0)) / 2
    one -= mean
    other -= mean
    spread = np.sqrt(((one**2).mean(0) + (other**2).mean(0)) / 2)
    scale = np.where(spread > CONSTANT * np.abs(mean), spread, np.inf)
    return (one / scale).astype(np.float32), (other / scale).astype(np.float32)


def squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances [N, M] of rows [N, F] and [M, F]."""
    distances = one @ other.T
    distances *= -2
    distances += (one**2).sum(1)[:, None]
    distances += (other**2).sum(1)
    return np.maximum(distances, 0, out=distances)


def subset(count: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Random indices of at most `limit` of `count` rows."""
    return rng.permutation(count)[:limit]
