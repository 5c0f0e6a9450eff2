"""The ratio of densities, from kernels: mean matching and KLIEP."""

import numpy as np
import scipy.linalg

from tljax.sample_transfer import features
from tljax.sample_transfer.size import capped, normalised
from tljax.types import Array, InputError

MEDIAN_ROWS = 1000  # from which the median distance is taken
BANDWIDTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # of the median distance
STEPS, SETTLED = 1000, 5e-4  # of mean matching; change of weights that ends it
NEWTON_STEPS, GAP = 50, 1e-6  # of KLIEP; nats from the maximum that end it


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
    """Weights under which the source's mean in a kernel's space is nearest to the target's.

    The problem is quadratic in the number of examples, and is solved for random blocks of the
    source against a random subsample of the target, each for itself: the cost is linear in N.

    Args:
        source: features [N, F] of the source's examples.
        target: features [M, F] of the target's.
        block_rows: source examples that are weighed at a time.
        target_rows: target examples that are drawn, at most.
        bandwidth: of the Gaussian kernel, relative to the median distance of two examples.
        ridge: penalty on squared weights, a share of the kernel's trace.
        most: no weight is larger.
        seed: of the blocks and the subsample.

    Returns:
        [N] float64 of mean 1.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite.

    Source: Huang et al. 2007, "Correcting Sample Selection Bias by Unlabeled Data", with weights of
    mean 1 exactly; blocks as in Miao et al. 2015, "Ensemble Kernel Mean Matching".
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
    """`argmin w K w / 2 - pull w` over weights [n] in [0, most] of mean 1.

    Source: accelerated projected gradients, Beck and Teboulle 2009.
    """
    # Among weights of one mean, a kernel without its mean has the same minimum, better conditioned.
    means = kernel.mean(0)
    centred = kernel - means - means[:, None] + means.mean()
    slope = kernel.sum(1) - pull  # at even weights
    slope -= slope.mean()
    step = 1 / _largest(centred)
    weights = ahead = np.zeros(len(pull), np.float32)  # less 1
    momentum = 1.0
    for _ in range(STEPS):
        old = weights
        weights = _projected(1 + ahead - step * (centred @ ahead + slope), most) - 1
        if np.abs(weights - old).max() < SETTLED:
            break
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = weights + np.float32((momentum - 1) / following) * (weights - old)
        momentum = following
    return 1 + weights


def _largest(matrix: np.ndarray) -> float:
    """A little more than the largest eigenvalue of a positive matrix, by powers of it."""
    vector = np.linspace(-1, 1, len(matrix), dtype=matrix.dtype)
    value = 0.0
    for _ in range(15):
        product = matrix @ vector
        value = float(np.linalg.norm(product))
        vector = product / np.float32(value)
    return 1.2 * value


def _projected(weights: np.ndarray, most: float) -> np.ndarray:
    """The nearest weights in [0, most] of mean 1: all are moved alike, and cut."""
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
    """Weights by a mixture of kernels under which the target is likeliest, relative to the source.

    Args:
        source: features [N, F] of the source's examples.
        target: features [M, F] of the target's.
        centres: target examples that a Gaussian kernel is put on, at most.
        folds: of the target, by which the kernels' width is chosen.
        most: no weight is larger.
        seed: of the centres and the folds.

    Returns:
        [N] float64 of mean 1.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite.

    Source: Sugiyama et al. 2008, "Direct Importance Estimation with Model Selection and Its
    Application to Covariate Shift Adaptation". Its constraint, that the weights have mean 1, is put
    into the objective, which leaves the maximum where it is.
    """
    _at_least(1, centres=centres, most=most)
    one, other = features.standardised(source, target)
    if not 2 <= folds <= len(other):
        raise InputError(f'folds is {folds}, wanted 2 to the {len(other)} examples of the target')
    rng = np.random.default_rng(seed)
    middle = other[features.subset(len(other), centres, rng)]
    median = _median(one, other, rng)
    from_source = features.squared_distances(one, middle)
    from_target = features.squared_distances(other, middle)
    fold = rng.permutation(len(other)) % folds

    def likelihood(width: float) -> float:
        norm = _kernel(from_source, width).mean(0)
        kernel = _kernel(from_target, width)
        found = 0.0
        for held in (fold == number for number in range(folds)):
            shares = _mixture(kernel[~held], norm)
            found += np.log(kernel[held] @ shares + np.finfo(np.float64).tiny).sum()
        return found

    width = max((scale**2 * median for scale in BANDWIDTHS), key=likelihood)
    kernel = _kernel(from_source, width)
    shares = _mixture(_kernel(from_target, width), kernel.mean(0))
    return capped(kernel @ shares, most)


def _kernel(distances: np.ndarray, width: float) -> np.ndarray:
    """Gaussians of squared distances, float64: far ones are small, and count."""
    return np.exp(distances.astype(np.float64) / -width)


def _mixture(kernel: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """`argmax sum(log(kernel @ a))` over a [b] of 0 or more with `norm @ a == 1`."""
    used = norm > 1e6 * np.finfo(np.float64).tiny
    found = np.zeros(len(norm))
    if used.any():
        parts = kernel[:, used] / norm[used]
        seen = parts.max(1) > 0  # a row that no part reaches says nothing about them
        shares = _shares(parts[seen]) if seen.any() else np.ones(parts.shape[1])
        found[used] = shares / shares.sum() / norm[used]
    return found


def _shares(parts: np.ndarray) -> np.ndarray:
    """`argmin sum(a) - mean(log(parts @ a))` over a [b] of 0 or more.

    Source: a primal-dual interior point method, Nocedal and Wright 2006, chapter 19.
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
    """How much of a step, at most all, leaves values above 0."""
    return min(1.0, 0.99 / max(float((-step / values).max()), 0.99))


def _median(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> float:
    """The median squared distance of two examples, both domains counting alike."""
    rows = [a[features.subset(len(a), MEDIAN_ROWS // 2, rng)] for a in (one, other)]
    found = features.squared_distances(*[np.concatenate(rows)] * 2)
    median = float(np.median(found[np.triu_indices(len(found), 1)]))
    return median or 1.0


def _at_least(least: float, **settings: float) -> None:
    """Raises an InputError that names what is less, or infinite."""
    wrong = [f'{n} is {x}' for n, x in settings.items() if not least <= x < np.inf]
    if wrong:
        raise InputError(f'{", ".join(wrong)}, wanted {least} or more')
