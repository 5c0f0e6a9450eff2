"""Paired comparison of two methods over seeds: interval, exact test, correction for many tests.

A difference varies for two reasons: another seed trains another network, and other test images
would give another accuracy. `difference` covers both.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # `scipy.stats` is loaded when it is first used: it takes 0.8 s

from tljax.metrics import paired_accuracy
from tljax.metrics.seed_intervals import checked_values, student_t
from tljax.types import Array, InputError

MOST_EXACT = 20  # seeds; with more, the patterns of signs are sampled
RESAMPLES = 10_000
LEVEL = 0.05  # of significance
ROUNDING = 1e-9  # sums that differ by less than this share of the largest possible sum are equal


class PairedSeeds(NamedTuple):
    """The difference of two methods that ran with the same seeds.

    Attributes:
        seeds: the number S of seeds.
        images: the number of test images per seed, the smallest one if it differs by seed; 0 if it
            is unknown.
        difference: the mean over seeds of the first score minus the second.
        low: the lower end of its confidence interval; NaN if it cannot be computed.
        high: the upper end; NaN if it cannot be computed.
        p_value: of the two-sided sign-flip test over seeds; with one seed and scores per image it
            is over images.
        least_p: the smallest p-value that the test can give with this number of seeds (with one
            seed: of images).
        differences: the difference of each seed.
    """

    seeds: int
    images: int
    difference: float
    low: float
    high: float
    p_value: float
    least_p: float
    differences: tuple[float, ...]


def difference(
    first: Sequence[Array],
    second: Sequence[Array],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    same_images: bool = True,
) -> PairedSeeds:
    """Compares two methods, seed by seed and image by image.

    If all seeds share their test images, seeds and images are crossed. The differences of scores
    d[s, i] are then decomposed as in an analysis of variance with two random effects, and the
    variance of their mean is (MS_seeds + max(MS_images - MS_residual, 0)) / (S N). The mean
    squares estimate it for any distribution. A bootstrap of seeds and images has no correction for
    few seeds: its 95 % interval covers 80 % with 3 seeds if seeds differ much. Here a quantile of
    Student's t corrects for them, with S - 1 degrees of freedom for the part of seeds and N - 1
    for the part of images. There are two ways to combine the parts. Cochran averages the two
    quantiles, weighted by the parts, and covers up to 97.2 %. Satterthwaite averages the degrees
    of freedom, and covers 92 % with 3 seeds. The mean of the two covers 93 to 96.7 %. With 2 seeds
    Cochran's quantile is used alone, and covers 94 to 98 %.

    If each seed has other test images, the images are nested in seeds. The variance between seeds
    then includes that of images, and the interval is Student's t over the S differences.

    With one seed only the images vary. Scores of right and wrong then get the exact bootstrap
    interval and McNemar's test of `paired.accuracy_difference`, which is the sign-flip test over
    images. Other scores get Student's t interval and the sign-flip test over images.

    Source: Searle, Casella & McCulloch 1992, "Variance components", chapter 4, for the mean
    squares; Owen 2007, "The pigeonhole bootstrap", for seeds and images as crossed factors;
    Cochran 1964, "Approximate significance levels of the Behrens-Fisher test", and Satterthwaite
    1946, "An approximate distribution of estimates of variance components", for the quantile.

    Args:
        first: [N] scores of the first method for each of S seeds, bool (right or wrong) or float.
        second: likewise of the second method, for the same images in the same order.
        level: of the interval, between 0 and 1.
        resamples: the number of random patterns of signs with more than 20 seeds.
        seed: of the random patterns of signs.
        same_images: whether all seeds share their test images, in the same order. It is not used
            if the number of images differs by seed.

    Raises:
        InputError: the seeds or images of the methods differ in number, or a score is not finite.
    """
    scores = _image_differences(first, second)
    counts = [len(one) for one in scores]
    per_seed = np.array([one.mean() for one in scores])
    checked_values(per_seed, level)
    if len(scores) == 1:
        return _one_seed(np.asarray(first[0]), np.asarray(second[0]), level, resamples, seed)
    if same_images and len(set(counts)) == 1:
        half = float(crossed_half_width(np.stack(scores), level))
        low, high = per_seed.mean() - half, per_seed.mean() + half
    else:
        _, low, high, _, _ = student_t(per_seed, level)
    return _result(per_seed, min(counts), (low, high), resamples, seed)


def difference_of_means(
    first: Array,
    second: Array,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedSeeds:
    """Compares two methods whose score is known for each seed, but not for each image.

    The interval is Student's t over the differences. If all seeds share their test images, it does
    not cover the variance of images.

    Args:
        first: [S], the score of the first method with each seed.
        second: [S], likewise of the second method.
        level: of the interval, between 0 and 1.
        resamples: the number of random patterns of signs with more than 20 seeds.
        seed: of the random patterns of signs.

    Raises:
        InputError: the methods have different numbers of seeds, or a score is not finite.
    """
    x, y = checked_values(first, level), checked_values(second, level)
    if len(x) != len(y):
        raise InputError(f'{len(x)} and {len(y)} seeds cannot be paired, wanted the same seeds')
    _, low, high, _, _ = student_t(x - y, level)
    return _result(x - y, 0, (low, high), resamples, seed)


def sign_flip(differences: Array, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """The two-sided p-value of the sign-flip test of a mean of zero.

    Without a difference between two methods, the difference of a seed is as likely as its
    negative. The p-value is the share of all 2^S patterns of signs whose mean is at least as far
    from zero. With more than 20 seeds it is estimated from random patterns, as
    (1 + extreme patterns) / (1 + patterns), which keeps the level of the test.

    Source: Fisher 1935, "The design of experiments", section 21; Phipson & Smyth 2010,
    "Permutation P-values should never be zero", for the random patterns.

    Args:
        differences: [S], one of each seed.
        resamples: the number of random patterns.
        seed: of the random patterns.

    Raises:
        InputError: there is no difference, or one is not finite.
    """
    x = checked_values(differences)
    if len(x) <= MOST_EXACT:
        return float(exact_sign_flips(x))
    signs = np.random.default_rng(seed).integers(0, 2, (resamples, len(x)), np.int8) * 2 - 1
    extreme = int((np.abs(signs @ x) >= _threshold(x)).sum())
    return (1 + extreme) / (1 + resamples)


def exact_sign_flips(differences: np.ndarray) -> np.ndarray:
    """The exact p-values [...] of differences [..., S], which need 2^(S - 1) numbers each."""
    sums = differences[..., :1]  # the negative of every sum is as extreme, so one sign is fixed
    for one in np.moveaxis(differences, -1, 0)[1:, ..., None]:
        sums = np.concatenate([sums + one, sums - one], axis=-1)
    return (np.abs(sums) >= _threshold(differences)[..., None]).mean(-1)


def _threshold(differences: np.ndarray) -> np.ndarray:
    """The sum from which a pattern of signs counts as extreme, [...]."""
    return np.abs(differences.sum(-1)) - ROUNDING * np.abs(differences).sum(-1)


def least_sign_flip(seeds: int, resamples: int = RESAMPLES) -> float:
    """The smallest p-value that `sign_flip` can give: 0.0625 with 5 seeds, 0.03125 with 6."""
    return 2.0 ** (1 - seeds) if seeds <= MOST_EXACT else 1 / (1 + resamples)


def least_seeds(level: float = LEVEL, tests: int = 1) -> int | None:
    """The smallest number of seeds with which `sign_flip` can give a p-value below a level.

    Args:
        level: of significance.
        tests: the number of p-values that `holm` adjusts together.

    Returns:
        The number of seeds; None if it is above 20.
    """
    counts = range(1, MOST_EXACT + 1)
    return next((count for count in counts if tests * least_sign_flip(count) < level), None)


def holm(p_values: Array | Sequence[float]) -> np.ndarray:
    """Adjusts p-values for their number, so that one error among all has the stated probability.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: [M]; NaN for a test that was not made.

    Returns:
        The adjusted p-values [M]. NaN stays NaN and is not counted.

    Raises:
        InputError: a p-value is not between 0 and 1.
    """
    p = np.asarray(p_values, np.float64)
    made = ~np.isnan(p)
    if p.ndim != 1 or not ((p[made] >= 0) & (p[made] <= 1)).all():
        raise InputError(f'p-values are {p.tolist()}, wanted a list of numbers from 0 to 1')
    adjusted, order = np.full(len(p), math.nan), np.argsort(p)[: made.sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def is_distinguishable(pair: PairedSeeds, adjusted: float, level: float = LEVEL) -> bool:
    """Whether a difference is significant: p is below the level, and the interval excludes 0.

    The test takes the test images as fixed, and the interval covers them too, so both are wanted.

    Args:
        pair: the difference.
        adjusted: its p-value, adjusted by `holm`.
        level: of significance.
    """
    return adjusted < level and (pair.low > 0 or pair.high < 0)


def _image_differences(first: Sequence[Array], second: Sequence[Array]) -> list[np.ndarray]:
    """The difference of scores of each image [N] for each seed."""
    if not len(first) or len(first) != len(second):
        raise InputError(
            f'{len(first)} and {len(second)} seeds cannot be paired, wanted the same seeds'
        )
    pairs = zip(first, second, strict=True)
    scores = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs]
    for number, (x, y) in enumerate(scores):
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise InputError(
                f'the scores of pair {number} are {list(x.shape)} and {list(y.shape)}, wanted one '
                'number of each image, for the same images'
            )
    return [x - y for x, y in scores]


def crossed_half_width(d: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Half the width of the interval of the mean, if seeds and images are crossed.

    Args:
        d: [..., S, N], differences of scores; S is 2 or more.
        level: of the interval.

    Returns:
        [...].
    """
    seeds, images = d.shape[-2:]
    total = d.mean((-2, -1), keepdims=True)
    seed_means, image_means = d.mean(-1, keepdims=True), d.mean(-2, keepdims=True)
    by_seed = images * ((seed_means - total) ** 2).sum((-2, -1)) / (seeds - 1)
    by_image = seeds * ((image_means - total) ** 2).sum((-2, -1)) / max(images - 1, 1)
    # Differences of few images differ little from their means, so squares are not expanded.
    residual = ((d - seed_means - image_means + total) ** 2).sum((-2, -1))
    residual = residual / ((seeds - 1) * max(images - 1, 1))
    parts = np.stack([by_seed, np.maximum(by_image - residual, 0.0)], axis=-1)
    variance = parts.sum(-1)
    quantile = _quantile(parts, np.array([seeds - 1, max(images - 1, 1)]), level)
    return quantile * np.sqrt(variance / (seeds * images))


def _quantile(parts: np.ndarray, freedom: np.ndarray, level: float) -> np.ndarray:
    """The quantile [...] for the sum of two estimated parts [..., 2] of a variance.

    Args:
        parts: [..., 2].
        freedom: [2], the degrees of freedom of each part.
        level: of the two-sided interval.
    """
    total = parts.sum(-1, keepdims=True)
    shares = np.divide(parts, total, out=np.full_like(parts, 0.5), where=total > 0)
    students = scipy.stats.t.ppf((1 + level) / 2, freedom)
    cochran = (shares * students).sum(-1)
    if freedom[0] == 1:
        return cochran
    satterthwaite = scipy.stats.t.ppf((1 + level) / 2, 1 / (shares**2 / freedom).sum(-1))
    return (cochran + satterthwaite) / 2


def _one_seed(
    first: np.ndarray, second: np.ndarray, level: float, resamples: int, seed: int
) -> PairedSeeds:
    """The difference of one seed, over images."""
    count = len(first)
    if np.isin([first, second], (0, 1)).all():
        pair = paired_accuracy.accuracy_difference(first, second, level)
        numbers = (pair.difference, pair.low, pair.high, pair.p_value, 2.0 ** (1 - count))
    else:
        d = first.astype(np.float64) - second
        mean, low, high, _, _ = student_t(d, level)
        p_value = sign_flip(d, resamples=resamples, seed=seed)
        numbers = (mean, low, high, p_value, least_sign_flip(count, resamples))
    return PairedSeeds(1, count, *numbers, (numbers[0],))


def _result(
    per_seed: np.ndarray, images: int, ends: tuple[float, float], resamples: int, seed: int
) -> PairedSeeds:
    """The result over seeds."""
    return PairedSeeds(
        seeds=len(per_seed),
        images=images,
        difference=float(per_seed.mean()),
        low=float(ends[0]),
        high=float(ends[1]),
        p_value=sign_flip(per_seed, resamples=resamples, seed=seed),
        least_p=least_sign_flip(len(per_seed), resamples),
        differences=tuple(per_seed.tolist()),
    )
