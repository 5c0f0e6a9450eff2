"""Paired comparison of runs that were made one by one: their groups, scores and differences."""

import dataclasses
import json
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax.config.experiment import HARMLESS, Experiment
from tljax.config.json_form import encode
from tljax.metrics import paired_seeds, power, seed_intervals
from tljax.metrics.paired_seeds import LEVEL, PairedSeeds
from tljax.metrics.seed_intervals import SeedInterval
from tljax.records import run_copies
from tljax.training.report import pairs
from tljax.training.report.inputs import EVALUATED, Inputs, MissingError
from tljax.training.report.pairs import ImageScores
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

SEED_FIELDS = ('seed', 'data_seed')
POWER = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRow:
    """Runs that differ only in their seeds, compared with the baseline.

    Attributes:
        name: of the folder; of several runs, what their names have in common.
        runs: the folders.
        seeds: the seed of each run.
        accuracies: the accuracy of each run; with several labels per image, the share of images
            with all labels correct; of ordered classes the weighted kappa, of numbers R².
        interval: the mean accuracy and its 95 % interval: Student's t over seeds, or with one run
            Wilson's interval over images.
        pair: the difference to the baseline; None of the baseline itself, and without a common
            seed.
        adjusted: the p-value, adjusted by Holm's method for all rows; NaN without a difference.
        distinguishable: whether the adjusted p-value is below 0.05 and the interval of the
            difference does not contain 0.
        seeds_needed: the number of seeds that find the stated difference with a probability of
            80 %; None with fewer than two seeds, or if it is above about 10,000.
    """

    name: str
    runs: tuple[pathlib.Path, ...]
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    interval: SeedInterval
    pair: PairedSeeds | None = None
    adjusted: float = math.nan
    distinguishable: bool = False
    seeds_needed: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunComparison:
    """A comparison of runs.

    Attributes:
        split: `test` or `val`.
        measure: `accuracy`, `all labels correct`, `weighted kappa` or `R²`.
        baseline: the name of its row.
        rows: the groups of runs, the baseline first.
        tests: the number of p-values.
        is_share: whether the score is a share of right predictions.
        difference: the true difference for which the number of seeds is suggested.
    """

    split: str
    measure: str
    baseline: str
    rows: tuple[RunRow, ...]
    tests: int
    difference: float
    is_share: bool = True


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run and its scores on the split of the comparison."""

    folder: pathlib.Path
    name: str
    config: Mapping[str, Any]
    split: str
    scores: ImageScores

    @property
    def seed(self) -> tuple[int, int]:
        """The seed of training and the seed of the choice of images."""
        seed, data_seed = (self.config[name] for name in SEED_FIELDS)
        return seed, seed if data_seed is None else data_seed

    @property
    def experiment(self) -> str:
        """The fields that can change a result, without the seeds, as text."""
        ignored = (*SEED_FIELDS, *HARMLESS)
        fields = {name: value for name, value in self.config.items() if name not in ignored}
        return json.dumps(fields, sort_keys=True)


def compare(
    runs: Sequence[str | os.PathLike[str] | TrainedRun],
    *,
    baseline: str | os.PathLike[str] | TrainedRun | None = None,
    split: str | None = None,
    difference: float = 0.01,
) -> RunComparison:
    """Compares finished runs with a baseline, seed by seed and image by image.

    Runs that differ only in `seed` and `data_seed` form one row. Rows are paired by the seeds that
    both have, and images by their ids. Two rows of one run each are paired whatever their seeds.

    Args:
        runs: the runs, or their folders.
        baseline: one of the runs, or another one; its row is the baseline. None for the first run.
        split: `test` or `val`; None for `test` if all runs have test images, else `val`.
        difference: the true difference for which the number of seeds is suggested, 0.01 for one
            point.

    Raises:
        InputError: a folder holds no run with predictions of the split, or there is one row only.
    """
    folders = _folders([*runs, *([] if baseline is None else [baseline])])
    groups = _groups(_read(folders, split))
    first = folders[0] if baseline is None else _folders([baseline])[0]
    # The sort is stable, so the other rows keep their order.
    groups.sort(key=lambda group: all(run.folder.resolve() != first.resolve() for run in group))
    if len(groups) < 2:
        raise InputError(
            f'{len(folders)} run{"s" * (len(folders) != 1)} of one config cannot be compared, '
            'wanted runs of at least two configs; runs that differ only in their seeds are one row'
        )
    differences = [None, *(_pair(group, groups[0]) for group in groups[1:])]
    names = _row_names(groups)
    return RunComparison(
        split=groups[0][0].split,
        measure=groups[0][0].scores.measure,
        baseline=names[0],
        rows=_rows(groups, names, differences, difference),
        tests=sum(pair is not None for pair in differences),
        difference=difference,
        is_share=groups[0][0].scores.is_share,
    )


def _folders(runs: Sequence[str | os.PathLike[str] | TrainedRun]) -> list[pathlib.Path]:
    """The folders of the runs, each once."""
    paths = [
        run.workdir if isinstance(run, TrainedRun) else run_copies.folder(os.fspath(run))
        for run in runs
    ]
    return list({path.resolve(): path for path in paths}.values())


def _read(folders: Sequence[pathlib.Path], split: str | None) -> list[_Run]:
    """Reads the configs of the runs and their predictions of one split."""
    inputs = [Inputs(TrainedRun(folder)) for folder in folders]
    configs = [{**_defaults(), **run.config} for run in inputs]  # fails without a run
    split = _common_split(inputs) if split is None else split
    result = []
    for run, name, config in zip(inputs, pairs.folder_names(folders), configs, strict=True):
        if split not in run.splits:
            raise InputError(
                f'{run.run.workdir} has no predictions of {split}, but of '
                f'{" and ".join(run.splits)}; --split=test|val chooses the split'
            )
        scores = pairs.image_scores(run.classes, run.splits[split])
        result.append(_Run(run.run.workdir, name, config, split, scores))
    return result


def _common_split(inputs: Sequence[Inputs]) -> str:
    """`test` if all runs have test images, else `val`."""
    return next((name for name in EVALUATED if all(name in run.splits for run in inputs)), 'test')


def _defaults() -> dict[str, Any]:
    """The JSON form of the fields with a default, which the record of an older run can lack."""
    result = {}
    for field in dataclasses.fields(Experiment):
        if field.default_factory is not dataclasses.MISSING:
            result[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            result[field.name] = field.default
    return json.loads(json.dumps({name: encode(value) for name, value in result.items()}))


def _groups(runs: Sequence[_Run]) -> list[list[_Run]]:
    """The runs of each row. Runs with the same config and the same seeds are rows of their own."""
    groups: dict[str, list[_Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    result = []
    for group in groups.values():
        unique = len({run.seed for run in group}) == len(group)
        result += [sorted(group, key=lambda run: run.seed)] if unique else [[run] for run in group]
    return result


def _row_names(groups: Sequence[Sequence[_Run]]) -> list[str]:
    """The common start of the names of each row's runs, or else the first name and a number."""
    starts = [_common_start([run.name for run in group]) for group in groups]
    return [
        start
        if start and starts.count(start) == 1
        else f'{group[0].name} and {len(group) - 1} more'
        for start, group in zip(starts, groups, strict=True)
    ]


def _common_start(names: Sequence[str]) -> str:
    """`probe` of `probe_seed0` and `probe_seed1`."""
    if len(names) == 1:
        return names[0]
    start = os.path.commonprefix(list(names))  # noqa: RUF071  (of characters is meant)
    if any(name[len(start) :][:1].isdigit() for name in names):
        start = start.rstrip('0123456789')  # numbers are not cut: `a_1` and `a_10`
    return start.rstrip('-_./ ').removesuffix('seed').rstrip('-_./ ')


def _pair(group: Sequence[_Run], baseline: Sequence[_Run]) -> PairedSeeds | None:
    """The difference over the seeds that both have; None without such a seed."""
    by_seed = {run.seed: run for run in baseline}
    couples = [(run, by_seed[run.seed]) for run in group if run.seed in by_seed]
    if not couples and len(group) == len(baseline) == 1:
        couples = [(group[0], baseline[0])]
    if not couples:
        return None
    scores = [_paired(*couple) for couple in couples]
    if not scores[0][0].is_share:
        return pairs.difference_over_seeds(scores)
    return paired_seeds.difference(
        [first.right for first, _ in scores],
        [second.right for _, second in scores],
        same_images=all(first.same_images(scores[0][0]) for first, _ in scores),
    )


def _paired(one: _Run, other: _Run) -> tuple[ImageScores, ImageScores]:
    try:
        return pairs.paired(one.scores, other.scores)
    except MissingError as error:
        raise InputError(f'{one.name} and {other.name}: {error}') from error


def _rows(
    groups: Sequence[Sequence[_Run]],
    names: Sequence[str],
    differences: Sequence[PairedSeeds | None],
    difference: float,
) -> tuple[RunRow, ...]:
    adjusted = paired_seeds.holm(
        [math.nan if pair is None else pair.p_value for pair in differences]
    )
    tests = int(np.isfinite(adjusted).sum())
    return tuple(
        RunRow(
            name=name,
            runs=tuple(run.folder for run in group),
            seeds=tuple(run.seed[0] for run in group),
            accuracies=tuple(run.scores.score for run in group),
            interval=_interval(group),
            pair=pair,
            adjusted=float(p),
            distinguishable=pair is not None and paired_seeds.is_distinguishable(pair, float(p)),
            seeds_needed=_seeds_needed(pair, difference, tests),
        )
        for name, group, pair, p in zip(names, groups, differences, adjusted, strict=True)
    )


def _interval(group: Sequence[_Run]) -> SeedInterval:
    """Over seeds; of one run over images."""
    result = seed_intervals.of_scores(np.array([run.scores.score for run in group]))
    if len(group) > 1:
        return result
    low, high = group[0].scores.interval
    return result._replace(low=low, high=high)


def _seeds_needed(pair: PairedSeeds | None, difference: float, tests: int) -> int | None:
    if pair is None or pair.seeds < 2:
        return None
    deviation = statistics.stdev(pair.differences)
    return power.seeds_needed(deviation, difference, POWER, LEVEL, tests)
