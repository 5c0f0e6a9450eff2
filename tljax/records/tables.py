"""Tables that compare the results of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from tljax.records import console

CLASSES_SHOWN = 10  # at each end of a table


def measures(metrics: Mapping[str, Any], split: str = '') -> dict[str, str]:
    """The metrics of a comparison, the most important first: `{column: text}`.

    Args:
        metrics: the output of `with_interval`.
        split: a prefix of the column names.
    """
    prefix = f'{split} '.lstrip()
    loss = f'{metrics["loss"]:.3f}'
    if 'kappa' in metrics:
        return {
            f'{prefix}weighted kappa (95 % interval)': _share(metrics, 'kappa'),
            'accuracy': _percent(metrics['accuracy']),
            'MAE': f'{metrics["mae"]:.3g}' if metrics['mae'] is not None else '-',
            'loss': loss,
        }
    if 'accuracy' in metrics:
        accuracy = console.accuracy_text(metrics)
        return {f'{prefix}accuracy (95 % interval)': accuracy, f'{prefix}loss': loss}
    if 'perplexity' in metrics:
        tokens = _percent(metrics['token_accuracy'])
        perplexity = f'{metrics["perplexity"]:.4g}'
        return {f'{prefix}perplexity': perplexity, 'right tokens': tokens, f'{prefix}loss': loss}
    if 'r2' in metrics:
        return {
            f'{prefix}R² (95 % interval)': _share(metrics, 'r2'),
            **_errors(metrics),
            'loss': loss,
        }
    return {
        f'{prefix}mAP': _percent(metrics['mean_average_precision']),
        'micro F1': _percent(metrics['micro_f1']),
        'all right (95 % interval)': console.accuracy_text(metrics, 'subset_accuracy'),
        'loss': loss,
    }


def _share(metrics: Mapping[str, Any], name: str) -> str:
    """A share of 1 in percent, with its interval if there is one."""
    known = metrics.get(f'{name}_interval') is not None
    return console.accuracy_text(metrics, name) if known else _percent(metrics.get(name))


def _errors(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The errors of a predicted number in its unit, and the correlation of ranks.

    Of their intervals, which result.json has, a table has room for one.
    """
    texts = {}
    for name, title in {'rmse': 'RMSE', 'mae': 'MAE', 'spearman': 'Spearman'}.items():
        if metrics.get(name) is None:
            continue
        low_high = metrics.get(f'{name}_interval') if name == 'rmse' else None
        interval = ' ({:.3g} to {:.3g})'.format(*low_high) if low_high else ''
        texts[title] = f'{metrics[name]:.4g}{interval}'
    return texts


def headline_text(metrics: Mapping[str, Any]) -> str:
    """The first of `measures` as `name value`: the accuracy, or with several labels the mAP."""
    name, text = next(iter(measures(metrics).items()))
    return f'{name.removesuffix(" (95 % interval)")} {text}'


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.1f} %'


def headline(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The line above a comparison, which says on which images it was made."""
    result = next(iter(results.values()))
    split = split_of(result)
    if split == 'test':
        return f'On {result["test"]["count"]} test {inputs(result)}:'
    if split is None:
        return 'There is neither a test nor a validation split:'
    count = result['val']['count']
    read = f'{count} validation {inputs(result)}'
    return f'Without a test split, on {read}, which selected the checkpoint:'


def inputs(result: Mapping[str, Any]) -> str:
    """What the network of a result reads: `images` or `texts`."""
    return result.get('inputs', 'images')


def split_of(result: Mapping[str, Any]) -> str | None:
    """The split on which results are compared: `test`, else `val`; None without both."""
    return next((name for name in ('test', 'val') if result.get(name)), None)


def table(results: Mapping[str, Mapping[str, Any]]) -> rich.table.Table:
    """A table of results `{name: result}` on the test split, or else on the validation split."""
    split = split_of(next(iter(results.values())))
    texts = {n: measures(r[split], split) if split else {} for n, r in results.items()}
    rows = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    rows.add_column('strategy')
    rows.add_column('trained parameters', justify='right')
    for column in next(iter(texts.values())):
        rows.add_column(column, justify='right')
    rows.add_column('seconds', justify='right')
    for name, result in results.items():
        trained, seconds = f'{result["trained_parameters"]:,}', f'{result["wall_seconds"]:.0f}'
        rows.add_row(name, trained, *texts[name].values(), seconds)
    return rows


def gain(result: Mapping[str, Any], without: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The change of each class's accuracy by samples of a source domain, the largest first.

    Args:
        result: the result of a run.
        without: the result of the same run without samples.

    Returns:
        A row for each class; None if the results have no accuracy of classes.
    """
    split = split_of(result)
    if split is None or 'class_accuracy' not in result[split]:
        return None
    pairs = (one[split]['class_accuracy'] for one in (result, without))
    rows = [
        {'class': name, 'with_source': one, 'without': other, 'gain': one - other}
        for name, one, other in zip(result['class_names'], *pairs, strict=True)
        if one is not None
    ]
    return sorted(rows, key=lambda row: -row['gain'])


def gain_table(rows: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """A table of the largest and the smallest gains, in percent."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ('class', 'with the source', 'without', 'gain'):
        table.add_column(name, justify='left' if name == 'class' else 'right')
    long = len(rows) > 2 * CLASSES_SHOWN
    for row in [*rows[:CLASSES_SHOWN], *rows[-CLASSES_SHOWN:]] if long else rows:
        values = [f'{100 * row[name]:.1f}' for name in ('with_source', 'without')]
        table.add_row(row['class'], *values, f'{100 * row["gain"]:+.1f}')
    return table
