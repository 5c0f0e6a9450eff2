"""What short runs with a source and without it say of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

LEVEL = 0.05  # how often a source that does neither is at most to be said to hurt, or to help


class Losses(NamedTuple):
    """Of the images that a short run held out."""

    ids: np.ndarray  # [N]
    values: np.ndarray  # [N]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What pairs of short runs say, on labelled images that they held out.

    Attributes:
        steps: of each run.
        whole: steps that the phase has, of which these are a part.
        with_source: mean loss over the images.
        without: likewise.
        difference: of the first from the second, each image held against itself.
        interval: of 90 %, of that mean over images: whether it hurts is one question, and the
            lower end its bound of 95 %.
        pairs: the mean difference in each pair of runs; that each had another draw of batches is
            in the interval as far as they held out other images.
        count: of images.
    """

    steps: int
    whole: int
    with_source: float
    without: float
    difference: float
    interval: tuple[float, float]
    pairs: tuple[float, ...]
    count: int

    @property
    def hurts(self) -> bool:
        """Whether the loss is higher with the source, beyond doubt."""
        return self.interval[0] > 0

    @property
    def helps(self) -> bool:
        """Whether it is lower, beyond doubt."""
        return self.interval[1] < 0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {'says': self.says}

    @property
    def says(self) -> str:
        """In a word."""
        return 'hurts' if self.hurts else 'helps' if self.helps else 'unclear'


def verdict(
    with_source: Sequence[Losses], without: Sequence[Losses], steps: int, whole: int
) -> Verdict:
    """The verdict of pairs of runs; an image that several held out counts once, by its mean.

    Args:
        with_source: of each pair, one at least.
        without: of the same images.
        steps: of each run.
        whole: of the phase.
    """
    ids, place = np.unique(np.concatenate([one.ids for one in with_source]), return_inverse=True)
    shown = np.bincount(place)
    one, other = (
        np.bincount(place, np.concatenate([run.values for run in runs])) / shown
        for runs in (with_source, without)
    )
    difference = one - other
    half = _half_interval(difference)
    mean = float(difference.mean())
    return Verdict(
        steps=steps,
        whole=whole,
        with_source=float(one.mean()),
        without=float(other.mean()),
        difference=mean,
        interval=(mean - half, mean + half),
        pairs=tuple(
            float((a.values.astype(np.float64) - b.values).mean())
            for a, b in zip(with_source, without, strict=True)
        ),
        count=len(ids),
    )


def _half_interval(values: np.ndarray) -> float:
    """Of the mean of values [N], by Student's t; a single one decides nothing."""
    if len(values) < 2:
        return float('inf')
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(scipy.stats.t.ppf(1 - LEVEL, len(values) - 1) * error)
