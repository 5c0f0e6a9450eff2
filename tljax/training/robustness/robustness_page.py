"""The page of a run's robustness, made from its record."""

from collections.abc import Mapping, Sequence
from typing import Any

from tljax.augment.corruptions.corruption import REFERENCE_PX
from tljax.records.figures import colors, curves, intervals
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Page, Row, Section, Table, Text
from tljax.training.report.inputs import split_name

Record = Mapping[str, Any]


def page(record: Record) -> Page:
    """The page of a record of `measurement.measure`."""
    makers = {
        'corrupted': _corrupted,
        'shifted': _shifted,
        'ood': _unfamiliar,
        'forgetting': _forgetting,
    }
    sections = [make(record[part]) for part, make in makers.items() if part in record]
    lead = [] if sections else [Text('Nothing was measured.', 'missing')]
    return Page(
        title='Robustness',
        opening=[Text(str(record['run']), 'verdict'), *lead],
        sections=sections,
        footer='The figures and their numbers are in robustness_figures/, all numbers in '
        'robustness.json. Intervals are 95 % intervals.',
        contents=True,
    )


def percent(value: float | None) -> str:
    """`83.6 %`; a dash for None."""
    return '–' if value is None else f'{100 * value:.1f} %'


def with_interval(value: float | None, ends: Sequence[float], digits: str = '.1f') -> str:
    """`83.6 % (78.1 to 88.0)`."""
    low, high = (format(100 * end, digits) for end in ends)
    return f'{percent(value)} ({low} to {high})'


def _estimate(found: Record) -> str:
    return with_interval(found['value'], (found['low'], found['high']))


def _corrupted(record: Record) -> Section:
    images = f'{record["images"]:,} {split_name(record["split"])} images'
    factor = record['size_px'] / REFERENCE_PX
    about = (
        f'{len(record["corruptions"])} corruptions of {images} at severities '
        f'{", ".join(map(str, record["severities"]))} of Hendrycks & Dietterich 2019. The network '
        f'reads images of {record["size_px"]} px, so lengths in pixels are {factor:.3g} times '
        f'those for {REFERENCE_PX} px.'
    )
    lines = [
        f'Accuracy without corruption '
        f'{with_interval(record["clean_accuracy"], record["clean_interval"])}; mean error under '
        f'corruption {_estimate(record["mean_error"])}.'
    ]
    if record['baseline']:
        lines.append(_against_baseline(record))
    blocks: list[Block] = [Text(about), *map(Text, lines)]
    blocks += [Figures([_severity_figure(record)]), _corruption_table(record)]
    return Section(title='Corruptions', blocks=blocks)


def _against_baseline(record: Record) -> str:
    gap = _estimate(record['mean_error_minus_baseline'])
    text = f'Mean error minus that of the baseline {record["baseline"]}: {gap}'
    if record['mce'] is None:
        return text + '; no mean corruption error, because the baseline has no error somewhere.'
    return text + f'; mean corruption error (mCE) {_estimate(record["mce"])}.'


def _severity_figure(record: Record) -> Figure:
    """Accuracy by severity, a curve for each group."""
    severities, groups = record['severities'], {}
    for row in record['corruptions']:
        groups.setdefault(row['group'], []).append(row['accuracy'])
    means = {
        name: [sum(column) / len(column) for column in zip(*rows, strict=True)]
        for name, rows in groups.items()
    }
    xs, clean = [0, *severities], record['clean_accuracy']
    lines = [
        Curve(name=name, xs=xs, ys=[clean, *ys], color=colors.series(index), dots=True)
        for index, (name, ys) in enumerate(means.items())
    ]
    last = '; '.join(f'{name} {percent(ys[-1])}' for name, ys in means.items())
    return Figure(
        name='corruptions',
        title='Accuracy by severity.',
        alt=f'Accuracy without corruption {percent(clean)}; at severity {severities[-1]}: {last}.',
        drawing=curves.chart(
            lines, x_label='severity; 0 is without corruption', percent=True, x_range=(0, xs[-1])
        ),
        columns=('corruption', 'group', 'severity', 'accuracy', 'low', 'high'),
        rows=[
            (row['name'], row['group'], severity, accuracy, *ends)
            for row in record['corruptions']
            for severity, accuracy, ends in zip(
                severities, row['accuracy'], row['intervals'], strict=True
            )
        ],
        caption='The mean accuracy of each group of corruptions.',
    )


def _corruption_table(record: Record) -> Table:
    rows = []
    for row in record['corruptions']:
        mean = sum(row['accuracy']) / len(row['accuracy'])
        cells = [row['name'], *map(percent, row['accuracy']), percent(1 - mean)]
        cells += [percent(row['relative_error'])] if record['baseline'] else []
        rows.append(Row(cells=cells))
    columns = ['corruption', *(f'severity {s}' for s in record['severities']), 'mean error']
    columns += ['relative to the baseline'] if record['baseline'] else []
    return Table(
        name='Accuracy under corruption',
        columns=columns,
        rows=rows,
        caption='Accuracy at each severity, and the error averaged over them.',
    )


def _shifted(record: Sequence[Record]) -> Section:
    rows = []
    for one in record:
        gap, after = one['gap'], one['calibration']['after']['ece']
        cells = [
            one['path'],
            f'{one["images"]:,}',
            with_interval(one['accuracy'], one['accuracy_interval']),
            with_interval(gap['difference'], (gap['low'], gap['high'])),
            'yes' if gap['paired'] else 'no',
            percent(one['calibration']['before']['ece']),
            percent(after),
            percent(one['own_calibration']['after']['ece']),
        ]
        rows.append(Row(cells=cells))
    table = Table(
        name='Shifted test sets',
        columns=(
            'set',
            'images',
            'accuracy',
            'own minus shifted accuracy',
            'paired',
            'ECE',
            'ECE, calibrated',
            'own ECE, calibrated',
        ),
        rows=rows,
        caption='ECE is the calibration error; calibrated is after the temperature that was '
        'fitted to the validation images. Paired sets have the same images.',
    )
    notes = [Text(f'{one["path"]}: {note}', 'caption') for one in record for note in one['notes']]
    return Section(
        title='Shifted test sets', blocks=[Figures([_shift_figure(record)]), table, *notes]
    )


def _shift_figure(record: Sequence[Record]) -> Figure:
    rows = [('own images', record[0]['own'])] + [(one['path'], one) for one in record]
    marks = [
        Interval(
            name=name,
            value=one['accuracy'],
            low=one['accuracy_interval'][0],
            high=one['accuracy_interval'][1],
            text=percent(one['accuracy']),
            color='accent' if index else 'quiet',
        )
        for index, (name, one) in enumerate(rows)
    ]
    texts = '; '.join(f'{name} {percent(one["accuracy"])}' for name, one in rows)
    return Figure(
        name='shifted',
        title='Accuracy on shifted sets.',
        alt=f'Accuracy: {texts}.',
        drawing=intervals.dots(marks, label='accuracy, 95 % interval'),
        columns=('set', 'accuracy', 'low', 'high'),
        rows=[(name, one['accuracy'], *one['accuracy_interval']) for name, one in rows],
    )


def _unfamiliar(record: Sequence[Record]) -> Section:
    blocks: list[Block] = []
    for index, one in enumerate(record):
        blocks += [
            Text(
                f'{one["images"]:,} images of {one["path"]} against {one["own_images"]:,} '
                f'{split_name(one["split"])} images.'
            ),
            Figures([_score_figure(one, index)]),
            _score_table(one),
        ]
    return Section(title='Unfamiliar images', blocks=blocks)


def _score_figure(one: Record, index: int) -> Figure:
    marks = [
        Interval(
            name=row['name'].replace('_', ' '),
            value=row['auroc'],
            low=row['auroc_low'],
            high=row['auroc_high'],
            text=percent(row['auroc']),
        )
        for row in one['scores']
    ]
    best = max(one['scores'], key=lambda row: row['auroc'])
    return Figure(
        name=f'unfamiliar-{index + 1}',
        title='How well scores tell unfamiliar images.',
        alt=f'The largest area under the ROC curve is {percent(best["auroc"])}, {best["name"]}.',
        drawing=intervals.dots(marks, label='area under the ROC curve, 95 % interval'),
        columns=('score', 'auroc', 'low', 'high'),
        rows=[(r['name'], r['auroc'], r['auroc_low'], r['auroc_high']) for r in one['scores']],
        caption='50 % is chance.',
    )


def _score_table(one: Record) -> Table:
    known = 'threshold' in one['scores'][0]
    columns = ['score', 'AUROC', 'AUPR, own', 'AUPR, unfamiliar', 'FPR at 95 %']
    columns += ['threshold', 'own accepted', 'unfamiliar accepted'] if known else []
    rows = []
    for row in one['scores']:
        cells = [row['name'], with_interval(row['auroc'], (row['auroc_low'], row['auroc_high']))]
        cells += [percent(row[n]) for n in ('aupr_familiar', 'aupr_unfamiliar', 'fpr95')]
        if known:
            cells += [f'{row["threshold"]:.5g}', percent(row['own_accepted'])]
            cells.append(percent(row['unfamiliar_accepted']))
        rows.append(Row(cells=cells))
    return Table(
        name=f'Scores for {one["path"]}',
        columns=columns,
        rows=rows,
        caption='FPR at 95 %: the share of unfamiliar images that is accepted where 95 % of the '
        'own images are. The threshold accepts 95 % of the validation images.',
    )


def _forgetting(record: Record) -> Section:
    before, after, loss = record['before'], record['after'], record['loss']
    text = (
        f'Upstream accuracy on {before["images"]:,} images of {record["path"]}: '
        f'{with_interval(before["accuracy"], before["accuracy_interval"])} before and '
        f'{with_interval(after["accuracy"], after["accuracy_interval"])} after training; lost '
        f'{with_interval(loss["difference"], (loss["low"], loss["high"]))}.'
    )
    rows = [
        Row(
            cells=[
                f'{one["alpha"]:g}',
                *(
                    with_interval(one[n]['accuracy'], one[n]['accuracy_interval'])
                    for n in ('source', 'target')
                ),
            ]
        )
        for one in record['curve']
    ]
    table = Table(
        name='Between the start and the end of training',
        columns=('alpha', 'upstream accuracy', 'own accuracy'),
        rows=rows,
        caption='Alpha 0 is the network before training and 1 after it; WiSE-FT averages both. '
        'Each task is measured under its own head.',
    )
    blocks: list[Block] = [Text(text), Figures([_line_figure(record)]), table]
    blocks += [Text(note, 'caption') for note in record['notes']]
    return Section(title='Forgetting', blocks=blocks)


def _line_figure(record: Record) -> Figure:
    names = {'source': 'upstream task', 'target': 'own task'}
    xs = [one['alpha'] for one in record['curve']]
    lines = [
        Curve(
            name=text,
            xs=xs,
            ys=[one[name]['accuracy'] for one in record['curve']],
            band=[tuple(one[name]['accuracy_interval']) for one in record['curve']],
            color=colors.series(index),
            dots=True,
        )
        for index, (name, text) in enumerate(names.items())
    ]
    before, after = record['before']['accuracy'], record['after']['accuracy']
    return Figure(
        name='forgetting',
        title='Accuracy along the line from start to end.',
        alt=f'Upstream accuracy falls from {percent(before)} to {percent(after)}.',
        drawing=curves.chart(lines, x_label='alpha', percent=True),
        columns=('alpha', 'upstream', 'low', 'high', 'own', 'own low', 'own high'),
        rows=[
            (
                one['alpha'],
                *(
                    x
                    for name in names
                    for x in (one[name]['accuracy'], *one[name]['accuracy_interval'])
                ),
            )
            for one in record['curve']
        ],
    )
