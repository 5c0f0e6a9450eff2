"""Paired differences between variants and their baseline, by seed and by image."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from tljax.metrics import paired_seeds, power
from tljax.metrics.paired_seeds import LEVEL, PairedSeeds
from tljax.sweep.folder import AxisRecord, SweepFolder
from tljax.sweep.results import CellResult, Results, Variant
from tljax.sweep.space import Role, SweepError
from tljax.training.report.pairs import ImageScores, image_scores
from tljax.types import InputError

DIFFERENCE = 0.01  # a point, for which the number of seeds is suggested
POWER = 0.8
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A variant compared with its baseline.

    Attributes:
        variant: the first of the pair.
        baseline: the second.
        pair: the difference; None if they share no seed with results.
        adjusted: the p-value, adjusted by Holm's method for all differences of the table.
        tests: the number of p-values of the table.
    """

    variant: Variant
    baseline: Variant
    pair: PairedSeeds | None
    adjusted: float = math.nan
    tests: int = 1

    @property
    def distinguishable(self) -> bool:
        """Whether the adjusted p-value is below 0.05 and the interval does not contain 0."""
        return self.pair is not None and paired_seeds.is_distinguishable(self.pair, self.adjusted)

    @property
    def seeds_needed(self) -> int | None:
        """The number of seeds that find a difference of one point with a power of 80 %.

        None with fewer than two seeds, or if it is above 10,000.
        """
        if self.pair is None or self.pair.seeds < 2:
            return None
        deviation = statistics.stdev(self.pair.differences)
        return _needed(float(f'{deviation:.2g}'), self.tests)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparisons of a sweep.

    Attributes:
        baselines: the name of the baseline value of each axis that has one.
        differences: in the order of the variants.
        unmatched: variants for which no baseline, or more than one, has the same other values.
    """

    baselines: dict[str, str]
    differences: tuple[Difference, ...] = ()
    unmatched: tuple[Variant, ...] = ()

    @property
    def tests(self) -> int:
        """The number of p-values."""
        return sum(not math.isnan(one.adjusted) for one in self.differences)


def compare(results: Results, folder: SweepFolder, baseline: str | None = None) -> Comparison:
    """Compares every variant with its baseline.

    Args:
        results: of the sweep.
        folder: where the predictions are.
        baseline: a value, as `NAME` or `AXIS=NAME`; None for the values that the sweep marks, or
            else the first value of the first compared axis.

    Raises:
        SweepError: no axis has the baseline, or several do.
    """
    baselines = _baselines(results, baseline)
    pairs, unmatched = _pairs(results, baselines)
    read = functools.cache(lambda cell: _image_scores(folder, cell, results.split or ''))
    scores = [_difference(one, other, results.split or '', read) for one, other in pairs]
    p_values = [math.nan if one is None else one.p_value for one in scores]
    adjusted = paired_seeds.holm(np.array(p_values))
    tests = int(np.isfinite(adjusted).sum())
    differences = [
        Difference(variant=one, baseline=other, pair=pair, adjusted=float(p), tests=tests)
        for (one, other), pair, p in zip(pairs, scores, adjusted, strict=True)
    ]
    return Comparison(
        baselines=baselines, differences=tuple(differences), unmatched=tuple(unmatched)
    )


def _baselines(results: Results, name: str | None) -> dict[str, str]:
    axes = [axis for axis in results.axes(Role.COMPARED) if len(axis.values) > 1]
    if name is not None:
        return _named_baseline(axes, name)
    marked = {axis.name: value.name for axis in axes for value in axis.values if value.baseline}
    return marked or {axis.name: axis.values[0].name for axis in axes[:1]}


def _named_baseline(axes: Sequence[AxisRecord], name: str) -> dict[str, str]:
    known = [(axis.name, value.name) for axis in axes for value in axis.values]
    matches = [pair for pair in known if name in (pair[1], '='.join(pair))]
    if len(matches) == 1:
        return dict(matches)
    wanted = ', '.join('='.join(pair) for pair in (matches or known))
    problem = 'several axes have this value' if matches else 'no compared axis has this value'
    raise SweepError(f'--baseline={name}: {problem}; wanted one of {wanted}')


def _pairs(
    results: Results, baselines: dict[str, str]
) -> tuple[list[tuple[Variant, Variant]], list[Variant]]:
    """Each variant with its baseline, and the variants without one."""
    pairs: dict[tuple[int, int], tuple[Variant, Variant]] = {}
    unmatched = []
    for axis, value in baselines.items():
        others = [one.name for one in results.axes(Role.COMPARED)]
        others = [name for name in others if name != axis and not _follows(name, axis, results)]
        first = [one for one in results.variants if one.settings.get(axis) == value]
        for variant in results.variants:
            if variant.settings.get(axis) == value:
                continue
            matches = [one for one in first if _matches(variant, one, others)]
            if len(matches) == 1:
                pairs[id(variant), id(matches[0])] = (variant, matches[0])
            else:
                unmatched.append(variant)
    return list(pairs.values()), unmatched


def _follows(axis: str, other: str, results: Results) -> bool:
    """Whether the value on an axis follows from that on the other one, as in a `Zip`."""
    values: dict[str | None, set] = {}
    for variant in results.variants:
        values.setdefault(variant.settings.get(other), set()).add(variant.settings.get(axis))
    return all(len(group) == 1 for group in values.values())


def _matches(one: Variant, other: Variant, axes: Sequence[str]) -> bool:
    """Whether two variants have equal values on the axes that both have."""
    common = [axis for axis in axes if axis in one.settings and axis in other.settings]
    return all(one.settings[axis] == other.settings[axis] for axis in common)


Reader = Callable[[str], ImageScores | None]


def _image_scores(folder: SweepFolder, cell: str, split: str) -> ImageScores | None:
    """None if a cell has no predictions with one label for each image."""
    try:
        predictions = folder.predictions(cell)
        if predictions is None or split not in predictions.splits:
            return None
        rows = predictions.splits[split]
        if not (rows.task.one_label and len(rows)):
            return None
        return image_scores(predictions.classes, rows)
    except (InputError, OSError):
        return None


def _difference(one: Variant, other: Variant, split: str, read: Reader) -> PairedSeeds | None:
    """The difference over the seeds that both have; None without such a seed."""
    first, second = _chosen(one, split), _chosen(other, split)
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return None
    pairs = [(first[seed], second[seed]) for seed in seeds]
    images = [_paired_images(a, b, split, read) for a, b in pairs]
    known = [pair for pair in images if pair is not None]
    if len(known) == len(pairs):
        same = all(pair[0].same_images(known[0][0]) for pair in known)
        rights = [[pair[side].right for pair in known] for side in (0, 1)]
        return paired_seeds.difference(rights[0], rights[1], same_images=same)
    means = [[cell.score(split) or 0.0 for cell in side] for side in zip(*pairs, strict=True)]
    return paired_seeds.difference_of_means(np.array(means[0]), np.array(means[1]))


def _chosen(variant: Variant, split: str) -> dict[str, CellResult]:
    """The chosen cell of each seed with a score."""
    cells = {one.seed: one.chosen for one in variant.seeds}
    return {seed: cell for seed, cell in cells.items() if cell and cell.score(split) is not None}


def _paired_images(
    one: CellResult, other: CellResult, split: str, read: Reader
) -> tuple[ImageScores, ImageScores] | None:
    """The scores of two cells on the same images; None if they cannot be paired."""
    first, second = read(one.record.name), read(other.record.name)
    if first is None or second is None or first.classes != second.classes:
        return None
    if not first.same_images(second):
        return None
    fits = [
        abs(images.right.mean() - (cell.score(split) or 0.0)) < ROUNDING
        for images, cell in ((first, one), (second, other))
    ]
    return (first, second) if all(fits) else None


@functools.cache
def _needed(deviation: float, tests: int) -> int | None:
    return power.seeds_needed(deviation, DIFFERENCE, POWER, LEVEL, max(tests, 1))
