"""The section on corrupted images."""

from tljax.augment.corruptions.corruption import REFERENCE_PX
from tljax.records.figures import colors, curves
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.training.report.inputs import split_name
from tljax.training.robustness.sections import texts
from tljax.training.robustness.sections.texts import Record


def section(record: Record) -> Section:
    """Accuracy by severity, and the mean error with its ratio to the baseline's."""
    images = f'{record["images"]:,} {split_name(record["split"])} images'
    factor = record['size_px'] / REFERENCE_PX
    clean = texts.with_interval(record['clean_accuracy'], record['clean_interval'])
    blocks: list[Block] = [
        Text(
            f'{len(record["corruptions"])} corruptions of {images} at severities '
            f'{", ".join(map(str, record["severities"]))} of Hendrycks & Dietterich 2019. The '
            f'network reads images of {record["size_px"]} px, so lengths in pixels are '
            f'{factor:.3g} times those for {REFERENCE_PX} px.'
        ),
        Text(
            f'Accuracy without corruption {clean}; mean error under corruption '
            f'{texts.estimate(record["mean_error"])}.'
        ),
    ]
    if record['baseline']:
        blocks.append(Text(_against_baseline(record)))
    blocks += [Figures([_figure(record)]), _table(record)]
    return Section(title='Corruptions', blocks=blocks)


def _against_baseline(record: Record) -> str:
    gap = texts.estimate(record['mean_error_minus_baseline'])
    text = f'Mean error minus that of the baseline {record["baseline"]}: {gap}'
    if record['mce'] is None:
        reason = 'because the baseline makes no error under one of the corruptions'
        return f'{text}; no mean corruption error, {reason}.'
    return f'{text}; mean corruption error (mCE) {texts.estimate(record["mce"])}.'


def _figure(record: Record) -> Figure:
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
    last = '; '.join(f'{name} {texts.percent(ys[-1])}' for name, ys in means.items())
    return Figure(
        name='corruptions',
        title='Accuracy by severity.',
        alt=f'Accuracy without corruption {texts.percent(clean)}; '
        f'at severity {severities[-1]}: {last}.',
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


def _table(record: Record) -> Table:
    rows = []
    for row in record['corruptions']:
        mean = sum(row['accuracy']) / len(row['accuracy'])
        cells = [row['name'], *map(texts.percent, row['accuracy']), texts.percent(1 - mean)]
        cells += [texts.percent(row['relative_error'])] if record['baseline'] else []
        rows.append(Row(cells=cells))
    columns = ['corruption', *(f'severity {s}' for s in record['severities']), 'mean error']
    columns += ['relative to the baseline'] if record['baseline'] else []
    return Table(
        name='Accuracy under corruption',
        columns=columns,
        rows=rows,
        caption='Accuracy at each severity, and the mean error over the severities.',
    )
