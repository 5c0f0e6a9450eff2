"""Cost and accuracy of every cut: the implementation of `tljax frontier`."""

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
    """Measures every cut, trains each if `train` is set, and prints and writes the table.

    Args:
        experiment: see `measure`.
        out: the output folder.
        train: whether each cut is trained.
        rates: see `train_cuts`.
        repeats: see `measure`.

    Raises:
        InputError: the experiment cannot run.
    """
    cut_results = measure(experiment, repeats=repeats)
    if train:
        cut_results = train_cuts(experiment, cut_results, out, rates)
    _report(cut_results, out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutResult:
    """The cost of one cut and, after training, its accuracy.

    Field names are the keys of frontier.json.

    Attributes:
        lowest: the first trained stage.
        cost: the cost of a training step.
        seconds: the duration of each timed step.
        test: metrics with intervals on `split`; None without training.
        learning_rate: the learning rate of that training.
        split: `test`, or `val` if the data have no test split.
    """

    lowest: str
    cost: step_cost.Cost
    seconds: tuple[float, ...]
    test: dict[str, Any] | None = None
    learning_rate: float | None = None
    split: str | None = None

    @property
    def median_seconds(self) -> float:
        """The median duration of a step."""
        return float(np.median(self.seconds))


def cuts(experiment: Experiment, stages: Sequence[str]) -> dict[str, Experiment]:
    """For each stage, from the head down, the experiment that trains it and all stages above it.

    The learning rate keeps the multiplier of the experiment's strategy, if it has one.
    """
    scale = getattr(experiment.strategy, 'learning_rate_scale', 1.0)
    return {
        stage: dataclasses.replace(
            experiment,
            strategy=FreezeBelow(stage=stage, learning_rate_scale=scale),
            baselines=(),
            adapters=(),  # adapters in frozen stages are an error
            penalties=(),  # penalties on frozen stages are an error
            samples=None,  # samples with a head of their own need a trained stage below the head
        )
        for stage in reversed(stages)
    }


def measure(experiment: Experiment, *, repeats: int = 10) -> list[CutResult]:
    """Measures the cost of a training step of every cut.

    Args:
        experiment: the experiment; its strategy, adapters, penalties and samples are ignored.
        repeats: timed steps of each cut.

    Returns:
        The cuts, from the head alone to all stages.

    Raises:
        InputError: the experiment cannot run.
    """
    validation.validate(experiment)
    stages = [*experiment.backbone.stages(), 'head']
    if experiment.cut_after in stages:
        stages = [*stages[: stages.index(experiment.cut_after) + 1], 'head']
    steps, costs = [], {}
    for stage, cut in cuts(experiment, stages).items():
        job = jobs.setup(cut)
        (phase,) = job.phases
        program = compiled_step.compile_train_step(job, phase)
        steps.append((job, phase, program))
        costs[stage] = step_cost.of(job, phase, program)
    seconds = step_cost.step_seconds(steps, repeats)
    return [
        CutResult(lowest=stage, cost=cost, seconds=tuple(times.tolist()))
        for (stage, cost), times in zip(costs.items(), seconds, strict=True)
    ]


def train_cuts(
    experiment: Experiment,
    cut_results: Sequence[CutResult],
    out: pathlib.Path,
    rates: Sequence[float] = (),
) -> list[CutResult]:
    """Trains every cut and adds its metrics.

    Args:
        experiment: as for `measure`.
        cut_results: the result of `measure`.
        out: the folder for the runs.
        rates: learning rates to try for each cut; the run with the best validation accuracy counts.
            Empty for the experiment's learning rate.

    Raises:
        InputError: an experiment cannot run, or a split that is needed has no images.
    """
    rates = rates or (experiment.optimizer.learning_rate,)
    split = _reported_split(experiment, len(rates))
    experiments = cuts(experiment, [cut.lowest for cut in reversed(cut_results)])
    trained = []
    for cut in cut_results:
        folders = {
            rate: out / (cut.lowest if len(rates) == 1 else f'{cut.lowest}-{rate:g}')
            for rate in rates
        }
        rate, result = _train_with_rates(experiments[cut.lowest], folders)
        trained.append(
            dataclasses.replace(cut, test=result[split], learning_rate=rate, split=split)
        )
    if split != 'test':
        console.console.print('There is no test split: the accuracies are of validation images.')
    return trained


def _train_with_rates(
    experiment: Experiment, folders: dict[float, pathlib.Path]
) -> tuple[float, dict[str, Any]]:
    """Trains with each learning rate; returns the best rate on validation images and its result."""
    results = {}
    for rate, folder in folders.items():
        optimizer: Any = dataclasses.replace(experiment.optimizer, learning_rate=rate)  # type: ignore[type-var]
        changed = dataclasses.replace(experiment, optimizer=optimizer)
        results[rate] = train(changed, folder, show_model=False)
    best = max(results, key=lambda rate: _validation_rank(results[rate], len(results)))
    return best, results[best]


def _reported_split(experiment: Experiment, rate_count: int) -> str:
    """The split whose metrics are reported: `test`, or `val` if the data have no test split.

    Raises:
        InputError: a split that is needed has no images. This is known before training.
    """
    splits = jobs.read_splits(experiment)
    available = [name for name in ('test', 'val') if len(splits.get(name, ()))]
    if not available:
        raise InputError('the data have neither test nor validation images to compare the cuts on')
    if rate_count > 1 and 'val' not in available:
        raise InputError('the data have no validation images, which --rates needs to choose one')
    return available[0]


def _validation_rank(result: dict[str, Any], rate_count: int) -> tuple[float, float]:
    """The rank of a run among those with other rates; a single run needs none."""
    if rate_count == 1:
        return 0.0, 0.0
    if result['val'] is None:
        raise InputError('the run has no validation images, which --rates needs to choose one')
    return totals.rank(result['val'])


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """The indices of the Pareto front, in the order of rising cost.

    A point is on the front if no other point is at most as expensive and more accurate. Of equal
    points the first is on the front.
    """
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i])):
        if not front or accuracies[index] > accuracies[front[-1]]:
            front.append(index)
    return front


COLUMNS = (
    'trained',
    'parameters',
    'GFLOP',
    'ms',
    'memory',
    'optimizer',
    'rate',
    'accuracy (95 % interval)',
)


def table_rows(cut_results: Sequence[CutResult]) -> list[list[str]]:
    """The cells of the table, one row for each cut.

    Operations and time have their share of the cost of full fine-tuning in brackets. A star marks
    the cuts on the Pareto front of time and accuracy.
    """
    front: set[int] = set()
    if all(cut.test for cut in cut_results):
        front = set(pareto_front(*_times_and_accuracies(cut_results)))
    full = cut_results[-1]
    return [_row(cut, full, index in front) for index, cut in enumerate(cut_results)]


def _row(cut: CutResult, full: CutResult, on_front: bool) -> list[str]:
    operations, seconds = cut.cost.flops, cut.median_seconds
    accuracy = '–'
    if cut.test:
        accuracy = tables.headline_text(cut.test).removeprefix('accuracy ') + ' *' * on_front
    return [
        'head' if cut.lowest == 'head' else f'{cut.lowest} and above',
        f'{cut.cost.trained_parameters:,}',
        f'{operations / 1e9:.3g} ({operations / full.cost.flops:.2f})',
        f'{_milliseconds(seconds)} ({seconds / full.median_seconds:.2f})',
        console.bytes_text(cut.cost.temporary_bytes),
        console.bytes_text(cut.cost.optimizer_bytes),
        f'{cut.learning_rate:g}' if cut.learning_rate else '–',
        accuracy,
    ]


def _milliseconds(seconds: float) -> str:
    return f'{1e3 * seconds:.3g}' if seconds < 1 else f'{1e3 * seconds:,.0f}'


def _times_and_accuracies(cut_results: Sequence[CutResult]) -> tuple[list[float], list[float]]:
    """The median time of a step and the accuracy of each trained cut."""
    accuracies = [totals.rank(cut.test)[0] for cut in cut_results if cut.test]
    return [cut.median_seconds for cut in cut_results], accuracies


def _report(cut_results: Sequence[CutResult], out: pathlib.Path) -> None:
    """Prints and writes the table; draws the accuracies if the cuts were trained."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(name, justify='left' if name == 'trained' else 'right')
    rows = table_rows(cut_results)
    for row in rows:
        table.add_row(*row)
    console.console.print(table)
    console.console.print(
        'All costs are of one training step. In brackets: the share of the cost of training '
        'everything. *: no cut is both faster and better.'
    )
    out.mkdir(parents=True, exist_ok=True)
    writers.write_json(out / 'frontier.json', [dataclasses.asdict(cut) for cut in cut_results])
    lines = [COLUMNS, ('---',) * len(COLUMNS), *rows]
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    (out / 'frontier.md').write_text(text)
    if all(cut.test for cut in cut_results):
        try:
            draw(cut_results, out / 'frontier.png')
        except plots.NoPictureError as error:
            console.console.print(str(error))
    console.console.print(f'The results are in {out}.')


def draw(cut_results: Sequence[CutResult], path: pathlib.Path) -> None:
    """Draws the accuracy against the operations and the time of a step.

    Raises:
        NoPictureError: matplotlib is not installed.
    """
    seconds, accuracies = _times_and_accuracies(cut_results)
    panels = {
        'GFLOP per step': [cut.cost.flops / 1e9 for cut in cut_results],
        'seconds per step (median)': seconds,
    }
    plots.frontier(
        path,
        names=[cut.lowest for cut in cut_results],
        panels=panels,
        fronts=[pareto_front(costs, accuracies) for costs in panels.values()],
        accuracies=accuracies,
        intervals=[
            cut.test.get('accuracy_interval', (accuracy, accuracy))
            for cut, accuracy in zip(cut_results, accuracies, strict=True)
            if cut.test
        ],
        split=cut_results[0].split or 'test',
    )
