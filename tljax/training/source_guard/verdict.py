"""The verdict of short runs with and without samples: whether samples hurt or help."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

LEVEL = 0.05  # the largest probability of a wrong verdict 'hurts', and likewise of 'helps'


class Losses(NamedTuple):
    """The losses of the images that a short run held out."""

    ids: np.ndarray  # [N]
    values: np.ndarray  # [N]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The comparison of pairs of short runs on the labelled images that they held out.

    Field names are those of the record in `source.json`.

    Attributes:
        steps: steps of each run.
        whole: steps of the complete phase.
        with_source: mean loss over the images with samples.
        without: mean loss over the images without samples.
        difference: the mean over images of their loss with samples minus that without.
        interval: the 90 % confidence interval of that mean. Its lower end is the one-sided 95 %
            bound for the question whether samples hurt.
        pairs: the mean difference in each pair of runs. The interval covers the variation between
            pairs only as far as they held out different images.
        count: the number of images.
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
        """Whether the loss is significantly higher with samples."""
        return self.interval[0] > 0

    @property
    def helps(self) -> bool:
        """Whether the loss is significantly lower with samples."""
        return self.interval[1] < 0

    def record(self) -> dict[str, Any]:
        """The verdict for JSON."""
        return dataclasses.asdict(self) | {'says': self.says}

    @property
    def says(self) -> str:
        """`hurts`, `helps` or `unclear`."""
        return 'hurts' if self.hurts else 'helps' if self.helps else 'unclear'


def verdict(
    with_source: Sequence[Losses], without: Sequence[Losses], steps: int, whole: int
) -> Verdict:
    """The verdict of pairs of runs; an image that several pairs held out counts once, by its mean.

    Args:
        with_source: the losses of each pair's run with samples; at least one pair.
        without: the losses of the same images in the runs without samples.
        steps: steps of each run.
        whole: steps of the complete phase.
    """
    ids, place = np.unique(np.concatenate([one.ids for one in with_source]), return_inverse=True)
    times = np.bincount(place)
    one, other = (
        np.bincount(place, np.concatenate([run.values for run in runs])) / times
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
    """Half the width of the interval of a mean, by Student's t; infinite for one value."""
    if len(values) < 2:
        return float('inf')
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(scipy.stats.t.ppf(1 - LEVEL, len(values) - 1) * error)
