"""Texts of scores, intervals and paired differences, for tables."""

import math
from collections.abc import Sequence

from tljax.metrics import paired_seeds
from tljax.metrics.paired_seeds import LEVEL, PairedSeeds
from tljax.metrics.seed_intervals import SeedInterval

UNKNOWN = '–'
NOT_DISTINGUISHABLE = 'not distinguishable'


def percent(share: float | None) -> str:
    """`92.3`, or a dash."""
    return UNKNOWN if share is None or math.isnan(share) else f'{100 * share:.1f}'


def interval_text(interval: SeedInterval | None) -> str:
    """`91.0 to 93.6`, or a dash."""
    if interval is None or math.isnan(interval.low):
        return UNKNOWN
    return f'{percent(interval.low)} to {percent(interval.high)}'


def points_text(difference: float) -> str:
    """`+1.2`, in points."""
    return f'{100 * difference:+.1f}'


def ends_text(pair: PairedSeeds) -> str:
    """`+0.4 to +2.1`, in points, or a dash."""
    if math.isnan(pair.low):
        return UNKNOWN
    return f'{points_text(pair.low)} to {points_text(pair.high)}'


def p_text(p: float) -> str:
    """`0.031`, or `< 0.0001`."""
    return '< 0.0001' if p < 1e-4 else f'{p:.2g}'


def result_text(pair: PairedSeeds, adjusted: float) -> str:
    """`better`, `worse` or `not distinguishable`."""
    if not paired_seeds.is_distinguishable(pair, adjusted):
        return NOT_DISTINGUISHABLE
    return 'better' if pair.difference > 0 else 'worse'


def are_too_few(pairs: Sequence[PairedSeeds], tests: int) -> bool:
    """Whether no test over the seeds can give a p-value below 0.05; arguments as below."""
    counts = [pair.seeds for pair in pairs if pair.seeds > 1]
    return bool(counts) and tests * paired_seeds.least_sign_flip(max(counts)) >= LEVEL


def too_few_seeds_text(pairs: Sequence[PairedSeeds], tests: int) -> str:
    """A sentence if no test over seeds can give a small enough p-value; else empty.

    Args:
        pairs: the differences of a table.
        tests: the number of its p-values.
    """
    if not are_too_few(pairs, tests):
        return ''
    most = max(pair.seeds for pair in pairs)
    needed = paired_seeds.least_seeds(LEVEL, tests)
    return (
        f'With {most} seeds and {tests} test{"s" * (tests != 1)}, no adjusted p can be '
        f'below {LEVEL}, however large the differences are: '
        f'{"more than 20" if needed is None else needed} seeds are needed.'
    )
