"""The section on training: learning curves from metrics.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax import tree
from tljax.records.figures import colors, curves
from tljax.records.figures.axes import share_text
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Figures, Listing, Section, Text
from tljax.strategies.partition import FROZEN, SINCE, TRAINED
from tljax.training.report.inputs import Inputs, MissingError, split_name, spread
from tljax.types import InputError, Rates

POINTS = 400  # the largest number of points of a curve
MEASURES = {
    'loss': 'Loss',
    'accuracy': 'Accuracy',
    'mean_average_precision': 'mAP',
    'r2': 'R²',
    'kappa': 'Weighted kappa',
}
SPLITS = {'train': 'series2', 'val': 'series1', 'test': 'series3'}
Records = Sequence[Mapping[str, Any]]
Marks = list[tuple[float, str]]


def section(inputs: Inputs) -> Section:
    """The curves of loss, measures, learning rates and speed."""
    records = inputs.run.metrics
    if not records:
        raise MissingError('The folder of the run has no metrics.jsonl, or it is empty.')
    marks = _phases(records)
    figures = [
        _measure(records, name, marks, _caption(inputs, name))
        for name in MEASURES
        if any(record.get(name) is not None for record in records)
    ]
    figures.append(_rates(inputs, records, marks))
    figures += _speed(records, marks, inputs.noun)
    blocks: list[Block] = [Figures(figures)]
    if lines := _unfreezing(inputs):
        blocks = [Text('Dashed vertical lines mark the phases:'), Listing(lines), *blocks]
    return Section(title='Training', blocks=blocks)


def _caption(inputs: Inputs, name: str) -> str:
    """Why the loss of training may be above that of validation."""
    try:
        augmented = bool(inputs.config.get('augmentations'))
    except InputError:
        augmented = False
    return 'Training images are augmented.' if augmented and name == 'loss' else ''


def _phases(records: Records) -> Marks:
    """The epoch at which each phase after the first starts."""
    marks, last = [], 0
    end = 0.0
    for record in records:
        if record.get('phase', 0) > last:
            last = record['phase']
            marks.append((end, f'phase {last + 1}'))
        end = record['epoch']
    return marks


def _thinned(records: Records) -> Records:
    """At most `POINTS` records, evenly spread, the first and the last included."""
    return [records[place] for place in spread(len(records), POINTS)]


def _curves(records: Records, name: str) -> list[Curve]:
    lines = []
    for split, color in SPLITS.items():
        rows = _thinned([r for r in records if r['split'] == split and r.get(name) is not None])
        if rows:
            xs, ys = [row['epoch'] for row in rows], [row[name] for row in rows]
            curve = Curve(name=split_name(split), xs=xs, ys=ys, color=color, dots=len(rows) < 40)
            lines.append(curve)
    return lines


def _measure(records: Records, name: str, marks: Marks, caption: str) -> Figure:
    lines = _curves(records, name)
    text = '{:.3f}'.format if name == 'loss' else share_text
    ends = [f'{line.name} {text(line.ys[-1] or 0.0)}' for line in lines]
    return Figure(
        name=f'training-{name.replace("_", "-")}',
        title=f'{MEASURES[name]} by epoch.',
        alt=f'{MEASURES[name]} at the end: {", ".join(ends)}.',
        drawing=curves.chart(lines, x_label='epoch', percent=name != 'loss', marks=marks),
        columns=('split', 'epoch', name),
        rows=_rows(lines),
        caption=caption,
    )


def _rows(lines: Sequence[Curve]) -> list[tuple[str, float, float | None]]:
    return [(one.name, x, y) for one in lines for x, y in zip(one.xs, one.ys, strict=True)]


def _rates(inputs: Inputs, records: Records, marks: Marks) -> Figure:
    """The learning rate of each group of parameters."""
    rows = _thinned([r for r in records if r['split'] == 'train' and 'learning_rate' in r])
    groups, note = _groups(inputs)
    names = dict.fromkeys(name for phase in groups.values() for name in phase) or {'': 1.0}
    lines = []
    for index, name in enumerate(names):
        ys = [_rate(row, groups, name) for row in rows]
        label = 'learning rate' if len(names) == 1 else name
        xs, color = [row['epoch'] for row in rows], colors.series(index)
        lines.append(Curve(name=label, xs=xs, ys=ys, color=color, dots=len(rows) < 40))
    return Figure(
        name='learning-rates',
        title='Learning rate of each group.' if len(names) > 1 else 'Learning rate.',
        alt='Learning rates of ' + ', '.join(line.name for line in lines) + ' by epoch.',
        drawing=curves.chart(lines, x_label='epoch', marks=marks),
        columns=('group', 'epoch', 'learning rate'),
        rows=_rows(lines),
        caption=note,
    )


def _rate(row: Mapping[str, Any], groups: Mapping[int, Mapping[str, float]], name: str):
    """The rate of a group at a record; None while it is frozen."""
    scale = groups.get(row.get('phase', 0), {'': 1.0}).get(name)
    return None if scale is None else scale * row['learning_rate']


def _groups(inputs: Inputs) -> tuple[dict[int, dict[str, float]], str]:
    """For each phase the scale of the learning rate of each group, and a note."""
    try:
        phases = inputs.job.phases
    except MissingError:
        return {}, 'The rate of the optimizer; the groups of the strategy can no longer be read.'
    groups, note = {}, ''
    names = _names(inputs.job.model.names, [tree.flatten(phase.labels) for phase in phases])
    for phase in phases:
        if phase.phase.rates is Rates.GRADIENT:
            note = 'Without the factors of each stage, which depend on the gradient.'
        labels = set(tree.flatten(phase.labels).values()) - {FROZEN}
        scales = {names[_group(label)]: _scale(label) for label in sorted(labels)}
        groups[phase.index] = dict(sorted(scales.items(), key=lambda one: -one[1]))
    return groups, note


def _names(stages: Sequence[str], phases: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Names each group by its stages and the factor of its learning rate: `stem to stage3 × 0.1`.

    Args:
        stages: in forward order.
        phases: the groups of each phase, by paths of leaves.
    """
    members: dict[str, set[str]] = {}
    for labels in phases:
        for path, label in labels.items():
            if label != FROZEN:
                members.setdefault(_group(label), set()).add(path.split('/')[0])
    texts = {}
    for group, trained in members.items():
        places = [place for place, stage in enumerate(stages) if stage in trained]
        run = len(places) > 2 and places == list(range(places[0], places[-1] + 1))
        text = f'{stages[places[0]]} to {stages[places[-1]]}' if run else ''
        text = text or ', '.join(stages[place] for place in places)
        other = ', '.join(part for part in group.split(', ') if 'learning rate' not in part)
        text += f', {other}' if other != TRAINED and other else ''
        texts[group] = f'{text} × {_scale(group):.3g}'
    return texts


def _group(label: str) -> str:
    """The group of a label, without the phase in which it began."""
    return label.partition(SINCE)[0]


def _scale(label: str) -> float:
    """The factor in the label of a group: 0.3 in `learning rate × 0.3`."""
    for part in _group(label).split(', '):
        name, _, value = part.partition(' × ')
        if name == 'learning rate':
            return float(value)
    return 1.0


def _unfreezing(inputs: Inputs) -> list[str]:
    """A sentence for each phase on the stages it trains; none for a single phase."""
    try:
        job = inputs.job
    except MissingError:
        return []
    if len(job.phases) < 2:
        return []
    starts = inputs.run.result.get('phase_starts', [phase.start for phase in job.phases])
    lines = []
    for phase, start in zip(job.phases, starts, strict=False):
        labels = tree.flatten(phase.labels)
        trained = dict.fromkeys(p.split('/')[0] for p, name in labels.items() if name != FROZEN)
        stages = ', '.join(name for name in job.model.names if name in trained)
        epoch = start / job.steps_per_epoch
        kind = 'solves' if phase.phase.solver else 'trains'
        lines.append(f'Phase {phase.index + 1}, from epoch {epoch:.3g}, {kind} {stages}.')
    return lines


def _speed(records: Records, marks: Marks, noun: str) -> list[Figure]:
    rows = _thinned([r for r in records if r['split'] == 'train' and 'images_per_second' in r])
    if not rows:
        return []
    xs = [row['epoch'] for row in rows]
    speeds = [row['images_per_second'] for row in rows]
    shares = [row['waiting_share'] for row in rows]
    dots = len(rows) < 40
    speed = Curve(name=f'{noun} per second', xs=xs, ys=speeds, color='series2', dots=dots)
    share = Curve(name='waiting for data', xs=xs, ys=shares, color='series3', dots=dots)
    middle, waiting = float(np.median(speeds)), float(np.median(shares))
    most = max(speeds)
    return [
        Figure(
            name='speed',
            title='Speed.',
            alt=f'Median speed of training: {middle:,.0f} {noun} per second.',
            drawing=curves.chart([speed], x_label='epoch', y_range=(0, most), marks=marks),
            columns=('epoch', f'{noun} per second'),
            rows=list(zip(xs, speeds, strict=True)),
        ),
        Figure(
            name='waiting',
            title='Share of the time spent waiting for data.',
            alt=f'Median share of the time spent waiting for data: {share_text(waiting, 0)}.',
            drawing=curves.chart(
                [share], x_label='epoch', percent=True, y_range=(0, 1), marks=marks
            ),
            columns=('epoch', 'waiting share'),
            rows=list(zip(xs, shares, strict=True)),
        ),
    ]
