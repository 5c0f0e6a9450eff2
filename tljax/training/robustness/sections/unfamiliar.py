"""The section on out-of-distribution images."""

from collections.abc import Sequence

from tljax.records.figures import intervals
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.training.report.inputs import split_name
from tljax.training.robustness.sections import texts
from tljax.training.robustness.sections.texts import Record


def section(records: Sequence[Record]) -> Section:
    """How well each score separates each set from the run's images."""
    blocks: list[Block] = []
    for index, one in enumerate(records):
        blocks += [
            Text(
                f'{one["images"]:,} images of {one["path"]} against {one["own_images"]:,} '
                f'{split_name(one["split"])} images.'
            ),
            Figures([_figure(one, index)]),
            _table(one),
        ]
    return Section(title='Unfamiliar images', blocks=blocks)


def _figure(one: Record, index: int) -> Figure:
    marks = [
        Interval(
            name=row['name'].replace('_', ' '),
            value=row['auroc'],
            low=row['auroc_low'],
            high=row['auroc_high'],
            text=texts.percent(row['auroc']),
        )
        for row in one['scores']
    ]
    best = max(one['scores'], key=lambda row: row['auroc'])
    return Figure(
        name=f'unfamiliar-{index + 1}',
        title='How well scores separate unfamiliar images.',
        alt=f'The largest area under the ROC curve is {texts.percent(best["auroc"])}, '
        f'of {best["name"]}.',
        drawing=intervals.dots(marks, label='area under the ROC curve, 95 % interval'),
        columns=('score', 'auroc', 'low', 'high'),
        rows=[(r['name'], r['auroc'], r['auroc_low'], r['auroc_high']) for r in one['scores']],
        caption='50 % is chance.',
    )


def _table(one: Record) -> Table:
    has_threshold = 'threshold' in one['scores'][0]
    columns = ['score', 'AUROC', 'AUPR, run', 'AUPR, unfamiliar', 'FPR at 95 %']
    columns += ['threshold', 'run accepted', 'unfamiliar accepted'] if has_threshold else []
    rows = []
    for row in one['scores']:
        auroc = texts.with_interval(row['auroc'], (row['auroc_low'], row['auroc_high']))
        cells = [row['name'], auroc]
        cells += [texts.percent(row[n]) for n in ('aupr_familiar', 'aupr_unfamiliar', 'fpr95')]
        if has_threshold:
            cells += [f'{row["threshold"]:.5g}', texts.percent(row['own_accepted'])]
            cells.append(texts.percent(row['unfamiliar_accepted']))
        rows.append(Row(cells=cells))
    return Table(
        name=f'Scores for {one["path"]}',
        columns=columns,
        rows=rows,
        caption='FPR at 95 %: the share of unfamiliar images that is accepted when 95 % of the '
        'images of the run are. The threshold accepts 95 % of the validation images.',
    )
