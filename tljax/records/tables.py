"""Results side by side: what they are compared on, and by."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from tljax.records import console

SHOWN = 10  # classes at each end of a table


def measures(metrics: Mapping[str, Any], split: str = '') -> dict[str, str]:
    """What results are compared by, best first: `{column: text}`.

    Args:
        metrics: of `with_interval`.
        split: named in the columns.
    """
    named = f'{split} '.lstrip()
    loss = f'{metrics["loss"]:.3f}'
    if 'accuracy' in metrics:
        accuracy = console.accuracy_text(metrics)
        return {f'{named}accuracy (95 % interval)': accuracy, f'{named}loss': loss}
    return {
        f'{named}mAP': _percent(metrics['mean_average_precision']),
        'micro F1': _percent(metrics['micro_f1']),
        'all right (95 % interval)': console.accuracy_text(metrics, 'subset_accuracy'),
        'loss': loss,
    }


def headline_text(metrics: Mapping[str, Any]) -> str:
    """The first of `measures` as `name value`: the accuracy, or the mAP of several labels."""
    name, text = next(iter(measures(metrics).items()))
    return f'{name.removesuffix(" (95 % interval)")} {text}'


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.1f} %'


def headline(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The line above the comparison: the images that it is on."""
    result = next(iter(results.values()))
    split = split_of(result)
    if split == 'test':
        return f'On {result["test"]["count"]} test images:'
    if split is None:
        return 'There is neither a test nor a validation split:'
    count = result['val']['count']
    return f'There is no test split; on {count} validation images, which picked the checkpoint:'


def split_of(result: Mapping[str, Any]) -> str | None:
    """The split that results are compared on: `test`, else `val`; None without any."""
    return next((name for name in ('test', 'val') if result.get(name)), None)


def table(results: Mapping[str, Mapping[str, Any]]) -> rich.table.Table:
    """Results side by side, `{name: result}`: on test, or on validation where there is no test."""
    split = split_of(next(iter(results.values())))
    found = {n: measures(r[split], split) if split else {} for n, r in results.items()}
    rows = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    rows.add_column('strategy')
    rows.add_column('trained parameters', justify='right')
    for column in next(iter(found.values())):
        rows.add_column(column, justify='right')
    rows.add_column('seconds', justify='right')
    for name, result in results.items():
        trained, seconds = f'{result["trained_parameters"]:,}', f'{result["wall_seconds"]:.0f}'
        rows.add_row(name, trained, *found[name].values(), seconds)
    return rows


def gain(found: Mapping[str, Any], without: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What a source does to each class's accuracy, best first; None where there is none to tell.

    Args:
        found: the result of a run.
        without: of the same run without its source.
    """
    split = split_of(found)
    if split is None or 'class_accuracy' not in found[split]:
        return None
    pairs = (result[split]['class_accuracy'] for result in (found, without))
    rows = [
        {'class': name, 'with_source': one, 'without': other, 'gain': one - other}
        for name, one, other in zip(found['class_names'], *pairs, strict=True)
        if one is not None
    ]
    return sorted(rows, key=lambda row: -row['gain'])


def gain_table(rows: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """The best and the worst of `gain`, in percent."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ('class', 'with the source', 'without', 'gain'):
        table.add_column(name, justify='left' if name == 'class' else 'right')
    for row in rows if len(rows) <= 2 * SHOWN else [*rows[:SHOWN], *rows[-SHOWN:]]:
        values = [f'{100 * row[name]:.1f}' for name in ('with_source', 'without')]
        table.add_row(row['class'], *values, f'{100 * row["gain"]:+.1f}')
    return table
