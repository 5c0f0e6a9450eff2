"""The section on the upstream task."""

from tljax.records.figures import colors, curves
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.training.robustness.sections import texts
from tljax.training.robustness.sections.texts import Record

TASKS = {'source': 'upstream task', 'target': "the run's task"}


def section(record: Record) -> Section:
    """Upstream accuracy before and after training, and of the networks in between."""
    before, after, loss = record['before'], record['after'], record['loss']
    text = (
        f'Upstream accuracy on {before["images"]:,} images of {record["path"]}: '
        f'{texts.accuracy(before)} before and {texts.accuracy(after)} after training; lost '
        f'{texts.difference(loss)}.'
    )
    rows = [
        Row(cells=[f'{one["alpha"]:g}', *(texts.accuracy(one[task]) for task in TASKS)])
        for one in record['curve']
    ]
    table = Table(
        name='Between the start and the end of training',
        columns=('alpha', 'upstream accuracy', 'accuracy of the run'),
        rows=rows,
        caption='Alpha 0 is the network before training, alpha 1 after it; WiSE-FT averages both. '
        'Each task is measured with its own head.',
    )
    blocks: list[Block] = [Text(text), Figures([_figure(record)]), table]
    blocks += [Text(note, 'caption') for note in record['notes']]
    return Section(title='Forgetting', blocks=blocks)


def _figure(record: Record) -> Figure:
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
        for index, (name, text) in enumerate(TASKS.items())
    ]
    before, after = record['before']['accuracy'], record['after']['accuracy']
    return Figure(
        name='forgetting',
        title='Accuracy along the line from start to end.',
        alt=f'Upstream accuracy falls from {texts.percent(before)} to {texts.percent(after)}.',
        drawing=curves.chart(lines, x_label='alpha', percent=True),
        columns=('alpha', 'upstream', 'low', 'high', 'own', 'own low', 'own high'),
        rows=[
            (one['alpha'], *_ends(one['source']), *_ends(one['target'])) for one in record['curve']
        ],
    )


def _ends(accuracy: Record) -> tuple[float, ...]:
    """The accuracy and the ends of its interval."""
    return accuracy['accuracy'], *accuracy['accuracy_interval']
