"""The power of the paired comparison over seeds, and the number of seeds that it needs."""

import functools
import math

import numpy as np
import scipy  # `scipy.stats` is loaded when it is first used: it takes 0.8 s

from tljax.metrics.paired_seeds import exact_sign_flips
from tljax.types import InputError

MOST_SIMULATED = 14  # seeds; with more, the sign-flip test has the power of Student's t test
MOST_SEEDS = 10_000
SIMULATIONS = 4000
PARTS = 20
FAR = 10  # from here on the power is 1 - 1e-7 or more, and SciPy's function can give NaN


def power(
    standard_deviation: float, difference: float, seeds: int, level: float = 0.05, tests: int = 1
) -> float:
    """The probability that a true difference is found.

    A difference counts as found if the sign-flip p-value times `tests` is below the level and the
    Student's t interval does not contain zero. Differences of seeds are taken as normal. With up
    to 14 seeds the probability is simulated with a fixed seed, because the sign-flip test has few
    possible p-values then; with more it is that of Student's t test, by the noncentral t
    distribution.

    Args:
        standard_deviation: of the differences of seeds (the first score minus the second).
        difference: the true mean of the differences, in the same unit.
        seeds: the number S of seeds.
        level: of significance, between 0 and 1.
        tests: the number of comparisons in the table. Each is tested at level / tests, as Holm's
            method tests the smallest p-value, so the power of the others is at least this one.

    Raises:
        InputError: a value is negative or not finite, or a count is below 1.
    """
    effect = _effect(standard_deviation, difference, level, tests)
    if seeds < 1:
        raise InputError(f'seeds is {seeds}, wanted 1 or more')
    return _power(effect, int(seeds), level, int(tests))


def seeds_needed(
    standard_deviation: float,
    difference: float,
    power: float = 0.8,
    level: float = 0.05,
    tests: int = 1,
) -> int | None:
    """The smallest number of seeds with which a true difference is found with a probability.

    Args:
        standard_deviation: of the differences of seeds.
        difference: the true mean of the differences, in the same unit.
        power: the probability, between 0 and 1.
        level: of significance, between 0 and 1.
        tests: the number of comparisons in the table.

    Returns:
        The number of seeds; None if it is above about 10,000, for example for a difference of 0.

    Raises:
        InputError: a value is negative or not finite, or a count is below 1.
    """
    effect = _effect(standard_deviation, difference, level, tests)
    if not 0 < power < 1:
        raise InputError(f'power is {power}, wanted a number between 0 and 1')
    low, high = 1, 2
    while _power(effect, high, level, tests) < power:
        if high >= MOST_SEEDS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = _power(effect, middle, level, tests) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _effect(standard_deviation: float, difference: float, level: float, tests: int) -> float:
    """The difference in standard deviations."""
    if not (math.isfinite(standard_deviation) and standard_deviation >= 0):
        raise InputError(f'standard_deviation is {standard_deviation}, wanted 0 or more')
    if not math.isfinite(difference):
        raise InputError(f'difference is {difference}, wanted a finite number')
    if not 0 < level < 1 or tests < 1:
        raise InputError(f'level is {level} with {tests} tests, wanted 0 to 1 and at least 1 test')
    if standard_deviation == 0:
        return math.inf if difference else 0.0
    return abs(difference) / standard_deviation


def _power(effect: float, seeds: int, level: float, tests: int) -> float:
    if seeds == 1 or tests * 2.0 ** (1 - seeds) >= level:
        return 0.0
    if math.isinf(effect):
        return 1.0
    if seeds <= MOST_SIMULATED:
        return float(np.mean([_significant(x + effect, level, tests) for x in _noise(seeds)]))
    limit = scipy.stats.t.ppf(1 - level / tests / 2, seeds - 1)
    center = effect * math.sqrt(seeds)
    if center > limit + FAR:
        return 1.0
    nct = scipy.stats.nct
    return float(nct.sf(limit, seeds - 1, center) + nct.cdf(-limit, seeds - 1, center))


def _significant(x: np.ndarray, level: float, tests: int) -> np.ndarray:
    """Whether each row of differences [M, S] counts as a difference, [M] bool."""
    seeds = x.shape[1]
    error = x.std(1, ddof=1) / math.sqrt(seeds)
    outside = np.abs(x.mean(1)) > scipy.stats.t.ppf(1 - level / 2, seeds - 1) * error
    return outside & (tests * exact_sign_flips(x) < level)


@functools.cache
def _noise(seeds: int) -> np.ndarray:
    """Standard normal numbers, [PARTS, M, S] in parts that fit into memory.

    With another number of seeds they begin with the same numbers, so that the power grows with it.
    """
    noise = np.random.default_rng(0).standard_normal((MOST_SIMULATED, PARTS, SIMULATIONS // PARTS))
    return np.moveaxis(noise[:seeds], 0, -1)
