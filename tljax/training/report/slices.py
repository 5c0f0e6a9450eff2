"""The section on weak slices: the accuracy of images with a property in common."""

from collections.abc import Callable, Sequence

import numpy as np

from tljax.data import image_properties, text_examples
from tljax.metrics import slices
from tljax.metrics.slices import Slice
from tljax.records.figures import intervals
from tljax.records.figures.axes import share_text
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Section, Text
from tljax.training.report import pairs
from tljax.training.report.budget import ASKED_SECONDS
from tljax.training.report.inputs import Inputs, split_name, spread
from tljax.types import InputError, TextPreprocessing

IMAGES = 4000  # the largest number of images whose properties are measured
SECONDS_PER_IMAGE = 0.004  # approximate time for a photograph of 500 px
IMAGE_SIZE = 'image size'
Named = tuple[str, str, Slice]  # the property, its range, and the slice


def section(inputs: Inputs) -> Section:
    """The accuracy by class frequency, and by size, aspect ratio and brightness or by length."""
    name, split = inputs.predictions()
    right = pairs.right(split)
    rows: list[Named] = []
    blocks: list[Block] = []
    if split.task.one_label:
        rows += _by_frequency(inputs, split.labels, right)
    try:
        reads_text = isinstance(inputs.run.network.preprocessing, TextPreprocessing)
        by_input = _by_length if reads_text else _by_image
        measured, note = by_input(inputs, name, right)
        rows += measured
        blocks += [Text(note, 'missing')] if note else []
    except (InputError, OSError) as error:
        blocks.append(Text(str(error), 'missing'))
    if rows:
        mean = float(right.mean())
        blocks.insert(0, Figures([_figure(rows, name, mean, inputs.noun)]))
        blocks.insert(0, Text(_weakest(rows, mean, inputs.noun)))
    else:
        blocks.append(Text(f'All {inputs.noun} have equal properties and class frequency.'))
    return Section(title='Weak slices', blocks=blocks)


def _by_frequency(inputs: Inputs, labels: np.ndarray, right: np.ndarray) -> list[Named]:
    train = inputs.job.splits['train'] if _has_job(inputs) else None
    if train is None:
        return []
    counts = slices.class_counts(labels, train.labels, len(inputs.classes))
    return _named(
        f'training {inputs.noun} of the class', slices.by_value(counts, right, 3), _number
    )


def _has_job(inputs: Inputs) -> bool:
    try:
        return inputs.job is not None
    except InputError:
        return False


def _by_image(inputs: Inputs, split: str, right: np.ndarray) -> tuple[list[Named], str]:
    """Slices by properties of the images, and a note if some images are not measured."""
    examples, places = inputs.examples(split)
    most = min(IMAGES, int(max(inputs.budget.left, 0) / 3 / SECONDS_PER_IMAGE))
    chosen = spread(len(places), most)
    if not len(chosen):
        return [], f'Slices by image: {inputs.no_time(ASKED_SECONDS)}'
    measured = image_properties.measure(examples.take(places[chosen]))
    right = right[chosen]
    size = np.sqrt(measured.width * measured.height)
    rows = _named(IMAGE_SIZE, slices.by_value(size, right), _number, ' px')
    rows += _named('width / height', slices.by_value(measured.aspect_ratio, right, 3), _ratio)
    rows += _named('brightness', slices.by_value(measured.brightness, right), _ratio)
    note = ''
    if len(chosen) < len(places):
        note = f'Measured on {len(chosen):,} of {len(places):,} images, evenly spread.'
    return rows, note


def _by_length(inputs: Inputs, split: str, right: np.ndarray) -> tuple[list[Named], str]:
    """Slices by the tokens of the texts that are read, and no note."""
    preprocessing = inputs.run.network.preprocessing
    assert isinstance(preprocessing, TextPreprocessing)
    examples, places = inputs.examples(split)
    lengths = text_examples.lengths(examples.take(places), preprocessing)
    return _named('tokens', slices.by_value(lengths, right), _number), ''


def _named(
    name: str, parts: Sequence[Slice], text: Callable[[float], str], unit: str = ''
) -> list[Named]:
    """The slices with the property and its ranges; empty if all images are in one slice."""
    if len(parts) < 2:
        return []
    return [(name, _range(text(part.low), text(part.high)) + unit, part) for part in parts]


def _number(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _ratio(value: float) -> str:
    return f'{value:.2f}'


def _range(low: str, high: str) -> str:
    return low if low == high else f'{low} to {high}'


def _figure(rows: Sequence[Named], split: str, mean: float, noun: str) -> Figure:
    marks, last = [], ''
    caption = f'Orange: the interval is below the accuracy of all {noun}, {share_text(mean)}.'
    if any(name == IMAGE_SIZE for name, *_ in rows):
        caption += ' Image size is the square root of width × height.'
    for name, text, part in rows:
        if name != last:
            marks.append(Interval(name=name, heading=True))
            last = name
        low, high = part.interval
        marks.append(
            Interval(
                name=text,
                value=part.accuracy,
                low=low,
                high=high,
                text=f'{100 * part.accuracy:.1f} %, {part.images:,} {noun}',
                color='warn' if high < mean else 'accent',
            )
        )
    return Figure(
        name='slices',
        title='Accuracy of slices.',
        alt=_weakest(rows, mean, noun),
        drawing=intervals.dots(marks, label=f'{split_name(split)} accuracy, 95 % interval'),
        columns=('property', 'range', noun, 'accuracy', 'low', 'high'),
        rows=[(n, t, part.images, part.accuracy, *part.interval) for n, t, part in rows],
        caption=caption,
    )


def _weakest(rows: Sequence[Named], mean: float, noun: str) -> str:
    weak = [row for row in rows if row[2].interval[1] < mean]
    if not weak:
        return f'No slice is significantly weaker than all {noun} together.'
    name, text, part = min(weak, key=lambda row: row[2].accuracy)
    return (
        f'The weakest slice is {name} {text}: its accuracy is {share_text(part.accuracy)} on '
        f'{part.images:,} {noun}, and {share_text(mean)} on all {noun}.'
    )
