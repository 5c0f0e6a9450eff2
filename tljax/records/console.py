"""The output of a run on the console: tables, a progress bar, and records as lines."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO, cast

import numpy as np
import rich.box
import rich.console
import rich.progress
import rich.table

from tljax import tree
from tljax.metrics import scores
from tljax.metrics.totals import wilson_interval
from tljax.records import progress_bars
from tljax.records.output import StandardOutput
from tljax.strategies.partition import FROZEN
from tljax.types import Params

console = rich.console.Console(highlight=False, file=cast(TextIO, StandardOutput()))
if not console.is_terminal:
    console.width = 110  # a file or a pipe has no width; narrow tables would be wrapped


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A context in which runs print nothing."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def model_table(
    rows: Sequence[tuple[str, tuple[int, ...], int]], labels: Params
) -> rich.table.Table:
    """A table of the stages: output shape, number of parameters, and whether they are trained.

    Args:
        rows: name, output shape and number of parameters of each stage.
        labels: `frozen` or the group that trains it, per leaf.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ('stage', 'output'):
        table.add_column(name)
    table.add_column('parameters', justify='right')
    table.add_column('')
    for name, shape, total in rows:
        groups = sorted(set(tree.flatten(labels[name]).values()))
        size = ' × '.join(map(str, shape))
        style = 'dim' if groups == [FROZEN] else None
        table.add_row(name, size, f'{total:,}', '; '.join(groups), style=style)
    return table


def counts(params: Params, labels: Params) -> tuple[int, int]:
    """The numbers of trained and of frozen parameters."""
    names, leaves = tree.flatten(labels), tree.flatten(params)
    trained = sum(int(np.prod(leaves[p].shape)) for p in leaves if names[p] != FROZEN)
    return trained, sum(int(np.prod(leaf.shape)) for leaf in leaves.values()) - trained


@contextlib.contextmanager
def progress(total_steps: int, done: int, inputs: str = 'images') -> Iterator[Any]:
    """Draws a progress bar, if the output can show one.

    Args:
        total_steps: of the run.
        done: steps that are already done.
        inputs: what the network reads, see `Preprocessing.inputs`.

    Yields:
        `update(step, inputs_per_second, waiting_share)`.
    """
    if not progress_bars.can_draw(console):
        in_notebook = console.is_jupyter and not console.quiet
        bar = progress_bars.of_notebook(total_steps, done, inputs) if in_notebook else _no_bar()
        with bar as update:
            yield update
        return
    columns = (
        rich.progress.TextColumn('{task.description}'),
        rich.progress.BarColumn(),
        rich.progress.TextColumn('step {task.completed}/{task.total}'),
        rich.progress.TextColumn(f'{{task.fields[rate]:,.0f}} {inputs}/s'),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn('left, {task.fields[waiting]:.0%} waiting for data'),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task('training', total=total_steps, completed=done, rate=0.0, waiting=0.0)

        def update(step: int, rate: float, waiting: float) -> None:
            bar.update(task, completed=step, rate=rate, waiting=waiting)

        yield update


@contextlib.contextmanager
def _no_bar() -> Iterator[Any]:
    yield lambda *_: None


def print_record(record: Mapping[str, Any], inputs: str = 'images') -> None:
    """Prints one record of metrics as a line; `inputs` names what the network reads."""
    parts = [f'step {record["step"]:>5}', f'epoch {record["epoch"]:>6.1f}', f'{record["split"]:<5}']
    parts.append(_scores_text(record))
    if record['split'] == 'train':
        parts.append(f'{record["images_per_second"]:,.0f} {inputs}/s')
        parts.append(f'{record["seconds_left"]:.0f} s left')
        parts.append(f'{record["waiting_share"]:.0%} waiting for data')
    console.print('  ' + '  '.join(parts))


def _scores_text(record: Mapping[str, Any]) -> str:
    """The loss and the scores."""
    if record['loss'] is None:
        return 'every step was skipped'
    score = scores.of(record)
    shown = {score.name: score.title, **score.shown} if score else {}
    known = {title: record[name] for name, title in shown.items() if record.get(name) is not None}
    unbounded = {score.title} if score and score.lower_is_better else set()  # no share of examples
    parts = [f'{t} {v:.4g}' if t in unbounded else f'{t} {v:.1%}' for t, v in known.items()]
    measured = score.measured.items() if score else ()
    parts += [f'{title} {record[name]:.4g}' for name, title in measured if name in record]
    return '  '.join([f'loss {record["loss"]:.4f}', *parts])


def with_interval(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the 95 % interval of the accuracy to the metrics of a split.

    It is the interval of the score's share: with several labels per image of `subset_accuracy`,
    because their other metrics have no formula for one.
    """
    score = scores.of(metrics)
    if score is None or score.share is None:
        return dict(metrics)
    count = metrics['count']
    correct = round((metrics[score.share] or 0.0) * count)
    return {**metrics, f'{score.share}_interval': list(wilson_interval(correct, count))}


def accuracy_text(metrics: Mapping[str, Any], name: str = 'accuracy') -> str:
    """`94.1 % (92.2 to 95.6)`."""
    low, high = metrics[f'{name}_interval']
    return f'{100 * metrics[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})'


def bytes_text(count: float) -> str:
    """`44.7 MiB`."""
    for unit in ('B', 'KiB', 'MiB'):
        if count < 1024:
            return f'{count:.4g} {unit}'
        count /= 1024
    return f'{count:.4g} GiB'
