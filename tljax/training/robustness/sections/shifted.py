"""The section on shifted test sets."""

from collections.abc import Sequence

from tljax.records.figures import intervals
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Figures, Row, Section, Table, Text
from tljax.training.robustness.sections import texts
from tljax.training.robustness.sections.texts import Record


def section(records: Sequence[Record]) -> Section:
    """Accuracy and calibration on each shifted set, and the gap to the run's images."""
    rows = []
    for one in records:
        gap, before_after = one['gap'], one['calibration']
        cells = [
            one['path'],
            f'{one["images"]:,}',
            texts.accuracy(one),
            texts.difference(gap),
            'yes' if gap['paired'] else 'no',
            texts.percent(before_after['before']['ece']),
            texts.percent(before_after['after']['ece']),
            texts.percent(one['own_calibration']['after']['ece']),
        ]
        rows.append(Row(cells=cells))
    table = Table(
        name='Shifted test sets',
        columns=(
            'set',
            'images',
            'accuracy',
            'accuracy gap',
            'paired',
            'ECE',
            'ECE, calibrated',
            'ECE of the run, calibrated',
        ),
        rows=rows,
        caption="The gap is the accuracy on the run's images minus that on the set. A paired set "
        'has the same images as the run. ECE is the calibration error; calibrated means with the '
        'temperature that was fitted to the validation images.',
    )
    notes = [Text(f'{one["path"]}: {note}', 'caption') for one in records for note in one['notes']]
    return Section(title='Shifted test sets', blocks=[Figures([_figure(records)]), table, *notes])


def _figure(records: Sequence[Record]) -> Figure:
    rows = [("the run's images", records[0]['own']), *((one['path'], one) for one in records)]
    marks = [
        Interval(
            name=name,
            value=one['accuracy'],
            low=one['accuracy_interval'][0],
            high=one['accuracy_interval'][1],
            text=texts.percent(one['accuracy']),
            color='accent' if index else 'quiet',
        )
        for index, (name, one) in enumerate(rows)
    ]
    alt = '; '.join(f'{name} {texts.percent(one["accuracy"])}' for name, one in rows)
    return Figure(
        name='shifted',
        title='Accuracy on shifted sets.',
        alt=f'Accuracy: {alt}.',
        drawing=intervals.dots(marks, label='accuracy, 95 % interval'),
        columns=('set', 'accuracy', 'low', 'high'),
        rows=[(name, one['accuracy'], *one['accuracy_interval']) for name, one in rows],
    )
