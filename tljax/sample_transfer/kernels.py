"""Density ratios from kernels: kernel mean matching and KLIEP."""

import numpy as np
import scipy.linalg

from tljax.sample_transfer import features
from tljax.sample_transfer.size import capped, normalised
from tljax.types import Array, InputError

MEDIAN_ROWS = 1000  # rows for the median distance
BANDWIDTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # relative to the median distance
STEPS, TOLERANCE = 1000, 5e-4  # of mean matching, which ends when all weights change by less
NEWTON_STEPS, GAP = 50, 1e-6  # of KLIEP, which ends this many nats from the maximum


def kernel_mean_matching(
    *,
    source: Array,
    target: Array,
    block_rows: int = 1000,
    target_rows: int = 2000,
    bandwidth: float = 1.0,
    ridge: float = 0.001,
    most: float = 20.0,
    seed: int = 0,
) -> np.ndarray:
    """Weights that bring the source's mean in a kernel's feature space closest to the target's.

    The problem is quadratic in the number of examples. Each random block of the source is solved
    separately against one random subsample of the target, so the cost is linear in N.

    Args:
        source: features [N, F].
        target: features [M, F].
        block_rows: source examples per block.
        target_rows: size limit of the target's subsample.
        bandwidth: of the Gaussian kernel, relative to the median distance of two examples.
        ridge: penalty on squared weights, relative to the kernel's trace.
        most: largest weight.
        seed: of the blocks and the subsample.

    Returns:
        [N] float64 with mean 1.

    Raises:
        InputError: a shape, type or range does not fit, or a value is not finite.

    Source: Huang et al. 2007, "Correcting Sample Selection Bias by Unlabeled Data", with a mean
    weight of exactly 1; blocks as in Miao et al. 2015, "Ensemble Kernel Mean Matching".
    """
    _at_least(2, block_rows=block_rows)
    _at_least(1, target_rows=target_rows, most=most)
    _at_least(1e-6, bandwidth=bandwidth, ridge=ridge)
    one, other = features.standardised(source, target)
    rng = np.random.default_rng(seed)
    other = other[features.subset(len(other), target_rows, rng)]
    width = bandwidth**2 * _median(one, other, rng)
    weights = np.empty(len(one))
    blocks = np.array_split(rng.permutation(len(one)), -(-len(one) // block_rows))
    for rows in blocks:
        block = one[rows]
        kernel = np.exp(features.squared_distances(block, block) / -width)
        kernel[np.diag_indices_from(kernel)] += ridge * len(rows)
        pull = np.exp(features.squared_distances(block, other) / -width).mean(1)
        weights[rows] = _matched(kernel, pull * len(rows), most)
    return normalised(weights)


def _matched(kernel: np.ndarray, pull: np.ndarray, most: float) -> np.ndarray:
    """`argmin w K w / 2 - pull w` over weights w [n] in [0, most] with mean 1.

    Source: accelerated projected gradients, Beck and Teboulle 2009.
    """
    # The mean of the weights is fixed, so a centred kernel has the same minimum. It is better
    # conditioned.
    means = kernel.mean(0)
    centred = kernel - means - means[:, None] + means.mean()
    slope = kernel.sum(1) - pull  # at equal weights
    slope -= slope.mean()
    step = 1 / _largest(centred)
    changes = extrapolated = np.zeros(len(pull), np.float32)  # weights minus 1
    momentum = 1.0
    for _ in range(STEPS):
        old = changes
        moved = 1 + extrapolated - step * (centred @ extrapolated + slope)
        changes = _projected(moved, most) - 1
        if np.abs(changes - old).max() < TOLERANCE:
            break
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        extrapolated = changes + np.float32((momentum - 1) / following) * (changes - old)
        momentum = following
    return 1 + changes


def _largest(matrix: np.ndarray) -> float:
    """Slightly more than the largest eigenvalue of a positive matrix, by power iteration."""
    vector = np.linspace(-1, 1, len(matrix), dtype=matrix.dtype)
    value = 0.0
    for _ in range(15):
        product = matrix @ vector
        value = float(np.linalg.norm(product))
        vector = product / np.float32(value)
    return 1.2 * value


def _projected(weights: np.ndarray, most: float) -> np.ndarray:
    """The nearest weights in [0, most] with mean 1: shifted by one number, then clipped."""
    low, high = weights.min() - most, weights.max()
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (weights - middle).clip(0, most).mean() > 1 else (low, middle)
    return (weights - high).clip(0, most)


def kliep(
    *,
    source: Array,
    target: Array,
    centres: int = 100,
    folds: int = 5,
    most: float = 20.0,
    seed: int = 0,
) -> np.ndarray:
    """KLIEP: weights from a mixture of Gaussian kernels that maximises the target's likelihood.

    Args:
        source: features [N, F].
        target: features [M, F].
        centres: limit of the number of target examples that are centres of kernels.
        folds: cross-validation folds of the target, to select the kernels' width.
        most: largest weight.
        seed: of the centres and the folds.

    Returns:
        [N] float64 with mean 1.

    Raises:
        InputError: a shape, type or range does not fit, or a value is not finite.

    Source: Sugiyama et al. 2008, "Direct Importance Estimation with Model Selection and Its
    Application to Covariate Shift Adaptation". The constraint that weights have mean 1 is part of
    the objective here, which has the same maximum.
    """
    _at_least(1, centres=centres, most=most)
    one, other = features.standardised(source, target)
    if not 2 <= folds <= len(other):
        raise InputError(f'folds is {folds}, wanted 2 to the {len(other)} examples of the target')
    rng = np.random.default_rng(seed)
    middles = other[features.subset(len(other), centres, rng)]
    median = _median(one, other, rng)
    from_source = features.squared_distances(one, middles)
    from_target = features.squared_distances(other, middles)
    fold = rng.permutation(len(other)) % folds

    def likelihood(width: float) -> float:
        norm = _kernel(from_source, width).mean(0)
        kernel = _kernel(from_target, width)
        total = 0.0
        for held in (fold == number for number in range(folds)):
            shares = _mixture(kernel[~held], norm)
            total += np.log(kernel[held] @ shares + np.finfo(np.float64).tiny).sum()
        return total

    width = max((scale**2 * median for scale in BANDWIDTHS), key=likelihood)
    kernel = _kernel(from_source, width)
    shares = _mixture(_kernel(from_target, width), kernel.mean(0))
    return capped(kernel @ shares, most)


def _kernel(distances: np.ndarray, width: float) -> np.ndarray:
    """Gaussians of squared distances, in float64 because those of far examples are tiny."""
    return np.exp(distances.astype(np.float64) / -width)


def _mixture(kernel: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """`argmax sum(log(kernel @ a))` over a [b] >= 0 with `norm @ a == 1`."""
    used = norm > 1e6 * np.finfo(np.float64).tiny
    mixture = np.zeros(len(norm))
    if used.any():
        parts = kernel[:, used] / norm[used]
        reached = parts.max(1) > 0  # the likelihood of the other rows is 0 for every mixture
        shares = _shares(parts[reached]) if reached.any() else np.ones(parts.shape[1])
        mixture[used] = shares / shares.sum() / norm[used]
    return mixture


def _shares(parts: np.ndarray) -> np.ndarray:
    """`argmin sum(a) - mean(log(parts @ a))` over a [b] >= 0.

    Source: the primal-dual interior-point method of Nocedal and Wright 2006, chapter 19.
    """
    count = parts.shape[1]
    shares, duals = np.full(count, 1 / count), np.ones(count)
    for _ in range(NEWTON_STEPS):
        relative = parts / (parts @ shares)[:, None]
        slope = 1 - relative.mean(0)
        gap = shares @ duals
        if gap < GAP and np.abs(slope - duals).max() < GAP:
            break
        aim = 0.1 * gap / count
        curvature = relative.T @ relative / len(parts) + np.diag(duals / shares)
        step = scipy.linalg.solve(curvature, aim / shares - slope, assume_a='pos')
        dual_step = (aim - duals * step) / shares - duals
        shares = shares + _length(shares, step) * step
        duals = duals + _length(duals, dual_step) * dual_step
    return shares


def _length(values: np.ndarray, step: np.ndarray) -> float:
    """The largest part of a step, at most 1, that keeps all values positive."""
    return min(1.0, 0.99 / max(float((-step / values).max()), 0.99))


def _median(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> float:
    """The median squared distance of two examples from a sample of both domains."""
    rows = [a[features.subset(len(a), MEDIAN_ROWS // 2, rng)] for a in (one, other)]
    distances = features.squared_distances(*[np.concatenate(rows)] * 2)
    median = float(np.median(distances[np.triu_indices(len(distances), 1)]))
    return median or 1.0


def _at_least(least: float, **settings: float) -> None:
    """Raises an `InputError` that names every setting that is less than `least` or infinite."""
    wrong = [f'{n} is {x}' for n, x in settings.items() if not least <= x < np.inf]
    if wrong:
        raise InputError(f'{", ".join(wrong)}, wanted {least} or more')
