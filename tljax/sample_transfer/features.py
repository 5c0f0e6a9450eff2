"""Features of two domains, brought to one scale."""

import numpy as np

from tljax.features.transferability import checks
from tljax.types import Array

CONSTANT = 1e-6  # spread of a feature, relative to its size, that is rounding in float32


def standardised(source: Array, target: Array) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, F] and [M, F] in float32, each of mean 0 and variance 1 over both domains.

    The domains count alike, however many examples they have; constant features become 0.

    Raises:
        InputError: other shapes or types, values that are not finite.
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
    """[N, M] of [N, F] and [M, F], float32."""
    found = one @ other.T
    found *= -2
    found += (one**2).sum(1)[:, None]
    found += (other**2).sum(1)
    return np.maximum(found, 0, out=found)


def subset(count: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most `most` of `count` rows, drawn at random."""
    return rng.permutation(count)[:most]
