"""The comparison of short runs with and without samples: whether samples hurt or help."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # `scipy.stats` is loaded when it is first used: it takes 0.8 s

LEVEL = 0.05  # significance level of the one-sided test for 'hurts', and of that for 'helps'


class Losses(NamedTuple):
    """The losses of the held-out images of a short run.

    Attributes:
        ids: [N].
        values: [N].
    """

    ids: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The comparison of short runs, in pairs with and without samples, on held-out labelled images.

    Field names are the keys of `source.json`.

    Attributes:
        steps: the number of steps of each run.
        whole: the number of steps of the complete phase.
        with_source: the mean loss of the runs with samples.
        without: the mean loss of the runs without samples.
        difference: the mean over images of the loss with samples minus the loss without samples.
        interval: the 90 % confidence interval of `difference`. Its lower end is a one-sided 95 %
            bound, which decides whether samples hurt.
        pairs: the mean difference of each pair of runs. Pairs with the same held-out images differ
            in training only; the interval does not cover this variation.
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
        """The verdict as a JSON object."""
        return dataclasses.asdict(self) | {'says': self.says}

    @property
    def says(self) -> str:
        """`hurts`, `helps` or `unclear`."""
        return 'hurts' if self.hurts else 'helps' if self.helps else 'unclear'


def verdict(
    with_source: Sequence[Losses], without: Sequence[Losses], steps: int, phase_steps: int
) -> Verdict:
    """Compares pairs of runs.

    An image that is held out in several pairs counts once, with its mean loss.

    Args:
        with_source: for each pair, the losses of the run with samples; at least one pair.
        without: for each pair, the losses of the same images in the run without samples.
        steps: the number of steps of each run.
        phase_steps: the number of steps of the complete phase.
    """
    all_ids = np.concatenate([run.ids for run in with_source])
    ids, index = np.unique(all_ids, return_inverse=True)
    pair_counts = np.bincount(index)
    loss_with, loss_without = (
        np.bincount(index, np.concatenate([run.values for run in runs])) / pair_counts
        for runs in (with_source, without)
    )
    difference = loss_with - loss_without
    half_width = _half_width(difference)
    mean = float(difference.mean())
    return Verdict(
        steps=steps,
        whole=phase_steps,
        with_source=float(loss_with.mean()),
        without=float(loss_without.mean()),
        difference=mean,
        interval=(mean - half_width, mean + half_width),
        pairs=tuple(
            float((a.values.astype(np.float64) - b.values).mean())
            for a, b in zip(with_source, without, strict=True)
        ),
        count=len(ids),
    )


def _half_width(values: np.ndarray) -> float:
    """Half the width of the confidence interval of a mean (Student's t); infinite for one value."""
    if len(values) < 2:
        return float('inf')
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(scipy.stats.t.ppf(1 - LEVEL, len(values) - 1) * error)
