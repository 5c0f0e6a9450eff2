"""What freezing saves and costs: every cut through the network, measured."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.box
import rich.table

from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.metrics import totals
from tljax.records import console, plots, tables, writers
from tljax.strategies.strategies import FreezeBelow
from tljax.training import compiled_step, jobs, step_cost
from tljax.training.run import train
from tljax.types import InputError


def run(
    experiment: Experiment, out: pathlib.Path, *, train: bool, rates: Sequence[float], repeats: int
) -> None:
    """Measures every cut, trains it if asked to, and prints and writes the table.

    Args:
        experiment: see `measure`.
        out: the folder of the records.
        train: whether each cut is trained.
        rates: see `trained`.
        repeats: see `measure`.

    Raises:
        InputError: the experiment cannot run.
    """
    found = measure(experiment, repeats=repeats)
    if train:
        found = trained(experiment, found, out, rates)
    _tell(found, out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A cut: what a step costs when a stage and all above it train, and what that gives."""

    lowest: str  # the first stage that trains
    cost: step_cost.Cost
    seconds: tuple[float, ...]  # of each timed step
    test: dict[str, Any] | None = None  # metrics with interval, of val where there is no test split
    learning_rate: float | None = None  # that it was trained with
    split: str | None = None  # of the metrics: `test` or `val`

    @property
    def median_seconds(self) -> float:
        """Of a step."""
        return float(np.median(self.seconds))


def cuts(experiment: Experiment, stages: Sequence[str]) -> dict[str, Experiment]:
    """The experiment that trains a stage and all above it, by that stage, from the head down.

    The learning rates keep the multiple that the experiment's strategy gives them, if it has one.
    """
    scale = getattr(experiment.strategy, 'learning_rate_scale', 1.0)
    return {
        stage: dataclasses.replace(
            experiment,
            strategy=FreezeBelow(stage=stage, learning_rate_scale=scale),
            baselines=(),
            adapters=(),  # those of frozen stages are refused
            penalties=(),  # those that hold frozen stages are refused
            samples=None,  # nothing is shared below the head of the first
        )
        for stage in reversed(stages)
    }


def measure(experiment: Experiment, *, repeats: int = 10) -> list[Point]:
    """What a step of every cut costs.

    Args:
        experiment: its strategy, adapters, penalties and source of samples are put aside.
        repeats: timed steps of each.

    Returns:
        The cuts, from the head alone to all stages.

    Raises:
        InputError: the experiment cannot run.
    """
    validation.validate(experiment)
    stages = [*experiment.backbone.stages(), 'head']
    if experiment.cut_after in stages:
        stages = [*stages[: stages.index(experiment.cut_after) + 1], 'head']
    steps, found = [], []
    for stage, one in cuts(experiment, stages).items():
        job = jobs.setup(one)
        (phase,) = job.phases
        compiled = compiled_step.compile_train_step(job, phase)
        steps.append((job, phase, compiled))
        found.append((stage, step_cost.of(job, phase, compiled)))
    seconds = step_cost.step_seconds(steps, repeats)
    return [
        Point(lowest=stage, cost=cost, seconds=tuple(taken.tolist()))
        for (stage, cost), taken in zip(found, seconds, strict=True)
    ]


def trained(
    experiment: Experiment, found: Sequence[Point], out: pathlib.Path, rates: Sequence[float] = ()
) -> list[Point]:
    """The cuts with their test metrics.

    Args:
        experiment: as for `measure`.
        found: what that found.
        out: the folder in which each is trained.
        rates: learning rates to try; the one that is best on the validation images is taken.
            Empty for the experiment's own.

    Raises:
        InputError: an experiment cannot run, there are no images to judge the cuts by, or several
            rates have no validation images to be chosen by.
    """
    rates = rates or (experiment.optimizer.learning_rate,)
    split = _judged_split(experiment, len(rates))
    experiments = cuts(experiment, [point.lowest for point in reversed(found)])
    points = []
    for point in found:
        results = {}
        for rate in rates:
            optimizer: Any = dataclasses.replace(experiment.optimizer, learning_rate=rate)  # type: ignore[type-var]
            one = dataclasses.replace(experiments[point.lowest], optimizer=optimizer)
            folder = out / (point.lowest if len(rates) == 1 else f'{point.lowest}-{rate:g}')
            results[rate] = train(one, folder, show_model=False)
        best = max(rates, key=lambda rate: _validated(results[rate], len(rates)))
        metrics = results[best][split]
        points.append(dataclasses.replace(point, test=metrics, learning_rate=best, split=split))
    if split != 'test':
        console.console.print('There is no test split: the accuracies are of validation images.')
    return points


def _judged_split(experiment: Experiment, rates: int) -> str:
    """The split whose metrics are reported: `test`, or `val` where there is no test split.

    Raises:
        InputError: the split that is needed has no images. This is known before training.
    """
    splits = jobs.read_splits(experiment)
    there = [name for name in ('test', 'val') if len(splits.get(name, ()))]
    if not there:
        raise InputError('there are neither test nor validation images to judge the cuts by')
    if rates > 1 and 'val' not in there:
        raise InputError('there are no validation images to choose one of --rates by')
    return there[0]


def _validated(result: dict[str, Any], count: int) -> tuple[float, float]:
    """What ranks a run: its accuracy on the validation images, then its loss."""
    if count == 1:
        return 0.0, 0.0
    if result['val'] is None:
        raise InputError('there are no validation images to choose one of --rates by')
    return totals.rank(result['val'])


def pareto(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """The indices of what nothing is both cheaper and better than, by rising cost.

    Of equals the first is taken.
    """
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i])):
        if not front or gains[index] > gains[front[-1]]:
            front.append(index)
    return front


COLUMNS = (
    'trains',
    'parameters',
    'GFLOP',
    'ms',
    'memory',
    'optimizer',
    'rate',
    'accuracy (95 % interval)',
)
CAPTION = (
    'Of a step: operations, median time, temporary memory; in brackets beside training everything.'
    ' *: nothing is faster and better.'
)


def rows(found: Sequence[Point]) -> list[list[str]]:
    """The cells of a table: what is only cheaper or better in brackets beside full fine-tuning."""
    full = found[-1]
    front = set()
    if all(point.test for point in found):
        front = set(pareto(*_costs_and_gains(found)))

    def beside(value: float, whole: float, text: str) -> str:
        return f'{text} ({value / whole:.2f})'

    return [
        [
            'head' if point.lowest == 'head' else f'{point.lowest} up',
            f'{point.cost.trained_parameters:,}',
            beside(point.cost.flops, full.cost.flops, f'{point.cost.flops / 1e9:.3g}'),
            beside(point.median_seconds, full.median_seconds, _milliseconds(point.median_seconds)),
            console.bytes_text(point.cost.temporary_bytes),
            console.bytes_text(point.cost.optimizer_bytes),
            f'{point.learning_rate:g}' if point.learning_rate else '–',
            (tables.headline_text(point.test).removeprefix('accuracy ') + ' *' * (index in front))
            if point.test
            else '–',
        ]
        for index, point in enumerate(found)
    ]


def _milliseconds(seconds: float) -> str:
    return f'{1e3 * seconds:.3g}' if seconds < 1 else f'{1e3 * seconds:,.0f}'


def _costs_and_gains(found: Sequence[Point]) -> tuple[list[float], list[float]]:
    """The time of a step, and the test accuracy."""
    return [p.median_seconds for p in found], [totals.rank(p.test)[0] for p in found if p.test]


def _tell(found: Sequence[Point], out: pathlib.Path) -> None:
    """Prints and writes the table; draws what was trained."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(name, justify='left' if name == 'trains' else 'right')
    cells = rows(found)
    for row in cells:
        table.add_row(*row)
    console.console.print(table)
    console.console.print(
        'In brackets: beside training everything. *: nothing is faster and better.'
    )
    out.mkdir(parents=True, exist_ok=True)
    writers.write_json(out / 'frontier.json', [dataclasses.asdict(point) for point in found])
    lines = [COLUMNS, ('---',) * len(COLUMNS), *cells]
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    (out / 'frontier.md').write_text(text)
    if all(point.test for point in found):
        try:
            draw(found, out / 'frontier.png')
        except plots.NoPictureError as error:
            console.console.print(str(error))
    console.console.print(f'Records are in {out}.')


def draw(found: Sequence[Point], path: pathlib.Path) -> None:
    """Draws the accuracy against the operations and the time of a step.

    Raises:
        NoPictureError: there is no matplotlib.
    """
    seconds, accuracies = _costs_and_gains(found)
    panels = {
        'GFLOP per step': [point.cost.flops / 1e9 for point in found],
        'seconds per step (median)': seconds,
    }
    plots.frontier(
        path,
        names=[point.lowest for point in found],
        panels=panels,
        fronts=[pareto(values, accuracies) for values in panels.values()],
        accuracies=accuracies,
        intervals=[
            point.test.get('accuracy_interval', (gain, gain))
            for point, gain in zip(found, accuracies, strict=True)
            if point.test
        ],
        split=found[0].split or 'test',
    )
