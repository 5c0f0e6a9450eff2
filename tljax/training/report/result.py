"""The section with the result of a run, its baselines and its settings."""

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import tljax
from tljax.config import json_form, resolved
from tljax.metrics import scores
from tljax.metrics.totals import wilson_interval
from tljax.records import console, tables
from tljax.records.figures import intervals
from tljax.records.figures.axes import seconds_text
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Code, Facts, Figures, Row, Section, Table, Text
from tljax.strategies import strategies
from tljax.training.report import pairs
from tljax.training.report.inputs import Inputs, split_name
from tljax.types import InputError, Score

# The end of `94 % of 500 test images ...`, by the name of the score.
CORRECT = {
    scores.ACCURACY.name: 'correct',
    scores.PRECISION.name: 'with all labels correct',
}


def opening(inputs: Inputs) -> list[Block]:
    """The headline of the page: the result, its interval and the strategy."""
    strategy = strategy_name(inputs)
    try:
        result, split = inputs.run.result, inputs.split
    except InputError as error:
        return [Text(strategy, 'verdict'), Text(str(error), 'missing')]
    if split is None:
        lead = 'There is neither a test nor a validation split, so nothing was evaluated.'
        return [Text(strategy, 'verdict'), Text(lead, 'lead')]
    metrics = result[split]
    low, high = _interval(metrics)
    count = f'{metrics["count"]:,} {split_name(split)} {tables.inputs(result)}'
    verdict = _verdict(metrics, count)
    lead = f'95 % interval {100 * low:.1f} to {100 * high:.1f} %. {_capital(strategy)}.'
    if split == 'val':
        lead += ' The validation split also selected the checkpoint, so this is optimistic.'
    return [Text(verdict, 'verdict'), Text(lead, 'lead')]


def section(inputs: Inputs) -> Section:
    """The result as a figure and a table, the settings, and the command that repeats the run."""
    rows = _runs(inputs)
    blocks: list[Block] = []
    if inputs.split is not None:
        blocks += [Figures([_figure(inputs, rows)]), _table(inputs, rows)]
    blocks += [Facts(facts(inputs)), Text('Command that repeats the run:')]
    config = shlex.quote(str(inputs.run.workdir / 'config.json'))
    blocks.append(Code(f'tljax train --config={config} --workdir=DIR'))
    return Section(title='Result', blocks=blocks)


def strategy_name(inputs: Inputs) -> str:
    """The name of the strategy, such as `freeze below stage2`, or its class if it is unreadable."""
    try:
        return strategies.name_of(json_form.decode(inputs.config['strategy']))
    except (InputError, KeyError, TypeError, ValueError, AttributeError, ImportError):
        strategy = inputs.config.get('strategy')
        return object_text(strategy) if strategy else 'a run'


def _runs(inputs: Inputs) -> dict[str, Inputs]:
    """The run and its finished baselines, by their names."""
    runs = {strategy_name(inputs): inputs}
    for name, run in inputs.run.baselines.items():
        other = Inputs(run)
        try:
            if run.result.get(inputs.split or '') and other.config:
                runs[name.replace('_', ' ')] = other
        except InputError:
            continue
    return runs


def _score(metrics: Mapping[str, Any]) -> Score:
    return scores.of(metrics) or scores.ACCURACY


def _measure(metrics: Mapping[str, Any]) -> float:
    score = _score(metrics)
    return metrics[score.compared] or 0.0


def _verdict(metrics: Mapping[str, Any], images: str) -> str:
    """`94 % of 500 test images correct`, or the score if it is no share of the images."""
    score, value = _score(metrics), f'{100 * _measure(metrics):.1f} %'
    if score.share is None:
        return f'{score.title} {value} on {images}'
    return f'{value} of {images} {CORRECT[score.name]}'


def _interval(metrics: Mapping[str, Any]) -> tuple[float, float]:
    score = _score(metrics)
    name = f'{score.compared}_interval'
    if name in metrics:
        return tuple(metrics[name])
    return wilson_interval(round(_measure(metrics) * metrics['count']), metrics['count'])


def _figure(inputs: Inputs, runs: Mapping[str, Inputs]) -> Figure:
    split = inputs.split
    assert split is not None
    rows = [
        (name, _measure(one.run.result[split]), *_interval(one.run.result[split]))
        for name, one in runs.items()
    ]
    marks = [
        Interval(
            name=name,
            value=value,
            low=low,
            high=high,
            text=f'{100 * value:.1f} %',
            color='accent' if index == 0 else 'quiet',
        )
        for index, (name, value, low, high) in enumerate(rows)
    ]
    measure = _score(inputs.run.result[split]).compared_title
    label = f'{split_name(split)} {measure}, 95 % interval'
    texts = [f'{name} {100 * value:.1f} %' for name, value, *_ in rows]
    baselines = ' next to its baselines' if len(rows) > 1 else ''
    return Figure(
        name='result',
        title=f'The result{baselines}.',
        alt=f'{_capital(label)}: {"; ".join(texts)}.',
        drawing=intervals.dots(marks, label=label),
        columns=('run', 'value', 'low', 'high'),
        rows=rows,
    )


def _table(inputs: Inputs, runs: Mapping[str, Inputs]) -> Table:
    split = inputs.split
    assert split is not None
    rows = []
    for index, (name, one) in enumerate(runs.items()):
        result = one.run.result
        values = tables.measures(console.with_interval(result[split]))
        cells = [name, *values.values()]
        if len(runs) > 1:
            cells.append('' if index == 0 else pairs.difference_text(inputs, one))
        cells += [f'{result["trained_parameters"]:,}', seconds_text(result['wall_seconds'])]
        rows.append(Row(cells=cells, style='chosen' if index == 0 else ''))
    columns = ['run', *tables.measures(console.with_interval(inputs.run.result[split]))]
    if len(runs) > 1:
        columns.append('this run minus baseline, points')
    columns += ['trained parameters', 'time']
    caption = ''
    if len(runs) > 1:
        caption = (
            f'Differences are paired: both networks predict the same {inputs.noun}, and the 95 % '
            f'interval is a bootstrap interval over these {inputs.noun}.'
        )
    return Table(name='Results', columns=columns, rows=rows, caption=caption)


def facts(inputs: Inputs) -> list[tuple[str, str]]:
    """The settings of a run: data, weights, strategy, cost and versions."""
    config, result = inputs.config, inputs.run.result
    weights = result.get('weights')
    sizes = {'training': result.get('train_count')}
    sizes |= {split_name(s): result[s]['count'] for s in ('val', 'test') if result.get(s)}
    sizes_text = ', '.join(f'{n:,} {name}' for name, n in sizes.items() if n is not None)
    device = result.get('device', {})
    versions = {'tljax': tljax.__version__, **result.get('versions', {})}
    pairs = [
        ('data', object_text(config.get('data'))),
        (tables.inputs(result), f'{sizes_text}; {_counted(inputs, len(result["class_names"]))}'),
        ('network', object_text(config.get('backbone'))),
        ('weights', _weights_text(weights)),
        ('strategy', object_text(config.get('strategy'))),
        ('optimizer', object_text(config.get('optimizer'))),
        ('schedule', object_text(config.get('schedule'))),
        ('trained', _trained_text(result)),
        ('steps', f'{result["steps"]:,} of {config.get("batch_size")} {tables.inputs(result)}'),
        ('checkpoint', f'step {result["step"]:,}'),
        ('time', seconds_text(result['wall_seconds'])),
        ('devices', f'{result.get("device_count", 1)} × {device.get("kind", "unknown")}'),
        ('seed', str(result.get('seed'))),
        ('revision', str(result.get('git_revision') or 'not recorded')),
        ('versions', ', '.join(f'{name} {version}' for name, version in versions.items())),
    ]
    if config.get('data_seed') is not None:
        pairs.insert(-2, ('seed of the images', str(config['data_seed'])))
    if skipped := result.get('skipped_steps', {}).get('count'):
        pairs.insert(9, ('skipped steps', f'{skipped:,}, which were not finite'))
    if augmentations := config.get('augmentations'):
        text = ', '.join(map(object_text, augmentations))
        pairs.insert(7, ('augmentations', text))
    return pairs


def _counted(inputs: Inputs, count: int) -> str:
    """`10 classes`; runs without predictions state the count alone."""
    try:
        split = next(iter(inputs.splits.values()), None)
    except InputError:
        split = None
    return f'{count} classes' if split is None else split.task.counted(count)


def _weights_text(weights: Mapping[str, Any] | None) -> str:
    if not weights:
        return 'random'
    parts = [str(weights.get('source'))]
    if weights.get('sha256'):
        parts.append(f'SHA-256 {weights["sha256"][:12]}…')
    if weights.get('licence'):
        parts.append(f'licence {weights["licence"]}')
    return ', '.join(parts)


def _trained_text(result: Mapping[str, Any]) -> str:
    trained, frozen = result['trained_parameters'], result['frozen_parameters']
    return f'{trained:,} of {trained + frozen:,} parameters'


def object_text(value: Any) -> str:
    """The JSON form of an object as Python code, without fields that equal their defaults."""
    if isinstance(value, dict) and 'enum' in value:
        return str(value['value'])
    if isinstance(value, list):
        return f'({", ".join(map(object_text, value))})'
    if not isinstance(value, dict) or 'class' not in value:
        return str(value) if value is None else repr(value)
    name = value['class'].partition(':')[2]
    defaults = _defaults(name) if value['class'].startswith(f'{json_form.PACKAGE}:') else {}
    fields = {
        key: inner
        for key, inner in value.items()
        if key != 'class' and not (key in defaults and defaults[key] == inner)
    }
    return f'{name}({", ".join(f"{key}={object_text(inner)}" for key, inner in fields.items())})'


def _defaults(name: str) -> dict[str, Any]:
    """The JSON form of the default of each field of a public class."""
    kind = getattr(tljax, name, None)
    if kind is None or not dataclasses.is_dataclass(kind):
        return {}
    return {
        field.name: json_form.encode(resolved.default_of(field))
        for field in dataclasses.fields(kind)
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def name_of(workdir: pathlib.Path) -> str:
    """The name of a run, which is the name of its folder."""
    return workdir.resolve().name
