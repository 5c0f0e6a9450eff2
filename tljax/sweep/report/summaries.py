"""The mean score of each variant over its seeds, with intervals; texts for scores."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tljax.metrics import seed_intervals
from tljax.metrics.seed_intervals import BCA_LEAST, SeedInterval
from tljax.sweep.results import TEST, VALIDATION, Results, Variant
from tljax.sweep.variant_names import VariantNames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The results of a variant.

    Attributes:
        variant: with its cells.
        title: names it.
        scores: of the split of the results, by seed.
        interval: the mean and Student's t interval; None without scores.
        bca: the bootstrap interval; None with too few seeds.
        validation: the mean validation score of the chosen cells; None without validation images.
    """

    variant: Variant
    title: str
    scores: dict[str, float]
    interval: SeedInterval | None
    bca: SeedInterval | None
    validation: float | None

    @property
    def mean(self) -> float | None:
        """The mean score; None without scores."""
        return None if self.interval is None else self.interval.mean

    @property
    def partial(self) -> bool:
        """Whether a seed has no score, so that the mean is over fewer seeds than planned."""
        return len(self.scores) < len(self.variant.seeds)

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the t interval; the mean twice if there is one seed, 0 without scores."""
        if self.interval is None:
            return 0.0, 0.0
        if math.isnan(self.interval.low):
            return self.interval.mean, self.interval.mean
        return self.interval.low, self.interval.high


def summarise(results: Results, names: VariantNames) -> tuple[Summary, ...]:
    """Makes the summary of each variant."""
    return tuple(_summary(variant, results.split, names) for variant in results.variants)


def _summary(variant: Variant, split: str | None, names: VariantNames) -> Summary:
    scores = variant.scores(split) if split else {}
    values = np.array(list(scores.values()))
    return Summary(
        variant=variant,
        title=names.title(variant.settings) or 'all cells',
        scores=scores,
        interval=seed_intervals.of_scores(values) if len(values) else None,
        bca=seed_intervals.bca(values) if len(values) >= BCA_LEAST else None,
        validation=mean(list(variant.scores(VALIDATION).values())),
    )


def partial_text(summaries: Sequence[Summary]) -> str:
    """A sentence on the means that miss seeds; empty if none does."""
    partial = sum(one.partial for one in summaries)
    if not partial:
        return ''
    return f' {partial} of the {len(summaries)} means are over fewer seeds than planned.'


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return sum(values) / len(values) if values else None


def split_text(split: str | None) -> str:
    """`test` or `validation`."""
    return 'test' if split == TEST else 'validation'


def score_text(results: Results) -> str:
    """`test accuracy`."""
    return f'{split_text(results.split)} {results.measure}'
