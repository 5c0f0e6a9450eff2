"""The section that compares the classes of several runs."""

from collections.abc import Sequence

import numpy as np

from tljax.metrics.totals import wilson_interval
from tljax.records.figures import colors, intervals
from tljax.records.figures.axes import share_text
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Figures, Row, Section, Table
from tljax.training.report import pairs
from tljax.training.report.inputs import Inputs, MissingError, split_name

CLASSES = 20  # the largest number of rows in the figure, which shows the classes that differ most


def section(runs: dict[str, Inputs]) -> Section:
    """The accuracy of each class in each run.

    Args:
        runs: by their names.

    Raises:
        MissingError: the runs have different classes, several labels per image, or no predictions.
    """
    first, *others = runs.values()
    name, split = first.predictions()
    if not split.task.one_label or any(run.classes != first.classes for run in others):
        raise MissingError(
            'Classes are compared only if runs have the same classes and one label per image.'
        )
    counts = {label: _counts(label, run, name) for label, run in runs.items()}
    support = np.bincount(split.labels, minlength=len(first.classes))
    accuracies = np.array([hits / np.maximum(images, 1) for hits, images in counts.values()])
    spread = np.where(support > 0, accuracies.max(0) - accuracies.min(0), -1)
    order = [int(place) for place in np.argsort(-spread, kind='stable') if support[place]]
    rows = [(first.classes[place], *accuracies[:, place].tolist()) for place in order]
    largest = order[: max(2, CLASSES // len(runs))]
    figure = Figure(
        name='classes',
        title='The classes that differ most.',
        alt=f'The accuracy of {rows[0][0]} differs most, by {100 * max(spread):.0f} points.',
        drawing=intervals.dots(
            [mark for place in largest for mark in _marks(first.classes, place, counts)],
            label=f'{split_name(name)} accuracy, 95 % interval',
        ),
        columns=('class', *runs),
        rows=rows,
    )
    table = Table(
        name='Accuracy of each class',
        columns=('class', 'images', *runs),
        rows=[
            Row(cells=[row[0], f'{support[place]:,}', *map(share_text, row[1:])])
            for place, row in zip(order, rows, strict=True)
        ],
        folded=len(rows) > 20,
    )
    return Section(title='Classes', blocks=[Figures([figure]), table])


def _counts(label: str, run: Inputs, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of correctly classified and of all images in each class, [K] each."""
    split = run.splits.get(name)
    if split is None:
        raise MissingError(f'{label} has no predictions of the {split_name(name)} split.')
    classes = len(run.classes)
    hits = np.bincount(split.labels, pairs.right(split), minlength=classes)
    return hits, np.bincount(split.labels, minlength=classes)


def _marks(
    classes: Sequence[str], place: int, counts: dict[str, tuple[np.ndarray, np.ndarray]]
) -> list[Interval]:
    """A heading with the name of a class, and a row for each run."""
    marks = [Interval(name=classes[place], heading=True)]
    for index, (label, (hits, images)) in enumerate(counts.items()):
        value = hits[place] / max(images[place], 1)
        low, high = wilson_interval(int(hits[place]), int(images[place]))
        text, color = share_text(value, 0), colors.series(index)
        marks.append(Interval(name=label, value=value, low=low, high=high, text=text, color=color))
    return marks
