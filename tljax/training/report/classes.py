"""The section on classes: the confusion matrix and the measures of each class."""

from collections.abc import Callable, Mapping

import numpy as np
import scipy

from tljax.metrics import confusion, scores
from tljax.metrics.totals import wilson_interval
from tljax.records.figures import intervals, matrices
from tljax.records.figures.axes import share_text
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table
from tljax.records.predictions import SplitPredictions
from tljax.training.report import label_sets
from tljax.training.report.inputs import Inputs, split_name

SORTED = 15  # with more classes, the matrix is sorted by clustering
PAIRS = 10  # the largest number of confusions in the table
FIGURE_ROWS = 30  # the largest number of classes in the figure of recalls


def section(inputs: Inputs) -> Section:
    """The section of the task, which its score decides."""
    _, split = inputs.predictions()
    return SECTIONS[split.task.score.name](inputs)


def _one_label(inputs: Inputs) -> Section:
    """The confusion matrix and the measures of each class."""
    name, split = inputs.predictions()
    size = len(inputs.classes)
    counts = confusion_counts(split, size)
    ordered = split.task.score is scores.KAPPA
    figures = [
        _matrix(counts, inputs.classes, inputs.named(name), sort=size > SORTED and not ordered)
    ]
    if recalls := _recalls(counts, inputs, name):
        figures.append(recalls)
    blocks: list[Block] = [Figures(figures)]
    if (pairs := _pairs(counts, inputs)).rows:
        blocks.append(pairs)
    blocks.append(_table(counts, inputs))
    return Section(title='Classes', blocks=blocks)


def confusion_counts(split: SplitPredictions, classes: int) -> np.ndarray:
    """The number of images [K, K] by true class (row) and predicted class (column)."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (split.labels, split.task.decided(split.logits, split.labels)), 1)
    return counts


def clustered(counts: np.ndarray) -> np.ndarray:
    """Orders classes so that those confused with each other are adjacent.

    Average linkage of the distances 1 - (share of i predicted as j + share of j predicted as i) / 2
    with optimal leaf ordering.

    Source: Bar-Joseph et al. 2001, "Fast optimal leaf ordering for hierarchical clustering".

    Args:
        counts: [K, K] images by true and predicted class.

    Returns:
        [K] indices.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    condensed = scipy.spatial.distance.squareform(distances, checks=False)
    best = len(counts) <= 300  # its time grows with the cube of the classes
    tree = scipy.cluster.hierarchy.linkage(condensed, 'average', optimal_ordering=best)
    return scipy.cluster.hierarchy.leaves_list(tree)


def _matrix(counts: np.ndarray, classes: tuple[str, ...], read: str, *, sort: bool) -> Figure:
    order = np.arange(len(classes))
    if sort:
        order = clustered(counts)
    names = [classes[place] for place in order]
    table = counts[np.ix_(order, order)]
    wrong = confusion.confused({(int(i), int(j)): int(counts[i, j]) for i, j in _cells(counts)})
    alt = f'{counts.trace():,} of {counts.sum():,} {read} are on the diagonal'
    if wrong:
        true, predicted, count = wrong[0]
        alt += f'; the largest other cell is {classes[true]} predicted as {classes[predicted]}'
        alt += f', {count}'
    caption = 'Rows are true classes; a darker cell is a larger share of its row.'
    if sort:
        caption += ' Classes that are confused with each other are adjacent.'
    return Figure(
        name='confusion',
        title='Confusion matrix.',
        alt=f'{alt}.',
        drawing=matrices.confusion(table, names),
        columns=('true class', *names),
        rows=[(name, *row) for name, row in zip(names, table.tolist(), strict=True)],
        caption=caption,
    )


def _cells(counts: np.ndarray):
    return zip(*np.nonzero(counts), strict=True)


def _recalls(counts: np.ndarray, inputs: Inputs, split: str) -> Figure | None:
    """The recall of each class with its interval, the lowest first."""
    support = counts.sum(1)
    rows = [
        (name, hits / n, *wilson_interval(int(hits), int(n)), int(n))
        for name, hits, n in zip(inputs.classes, counts.diagonal(), support, strict=True)
        if n
    ]
    rows = sorted(rows, key=lambda row: row[1])
    if len(rows) < 2:
        return None
    marks = [
        Interval(name=name, value=value, low=low, high=high, text=f'{100 * value:.0f} %')
        for name, value, low, high, _ in rows[:FIGURE_ROWS]
    ]
    lowest = 'the lowest first'
    if len(rows) > FIGURE_ROWS:
        lowest = f'the {len(marks)} lowest of {len(rows)} classes'
    return Figure(
        name='recalls',
        title='Accuracy of each class.',
        alt=f'The lowest accuracy is {share_text(rows[0][1], 0)}, of {rows[0][0]}; '
        f'the highest {share_text(rows[-1][1], 0)}, of {rows[-1][0]}.',
        drawing=intervals.dots(marks, label=f'{split_name(split)} accuracy, 95 % interval'),
        columns=('class', 'accuracy', 'low', 'high', inputs.noun),
        rows=rows,
        caption=f'Share of the {inputs.noun} of a class that are classified correctly, {lowest}.',
    )


def _pairs(counts: np.ndarray, inputs: Inputs) -> Table:
    classes = inputs.classes
    support = counts.sum(1)
    cells = {(int(i), int(j)): int(counts[i, j]) for i, j in _cells(counts)}
    rows = [
        Row(
            cells=[
                classes[true],
                classes[predicted],
                f'{count:,}',
                f'{100 * count / support[true]:.1f} %',
            ]
        )
        for true, predicted, count in confusion.confused(cells)[:PAIRS]
    ]
    return Table(
        name='The most frequent confusions',
        columns=('class', 'predicted as', inputs.noun, 'of the class'),
        rows=rows,
        texts=(1,),
        caption='The most frequent confusions.',
    )


def _table(counts: np.ndarray, inputs: Inputs) -> Table:
    classes = inputs.classes
    hits, support, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    rows = []
    for place, name in enumerate(classes):
        right, n, guesses = int(hits[place]), int(support[place]), int(predicted[place])
        f1 = 2 * right / (n + guesses) if n + guesses else None
        low, high = wilson_interval(right, n)
        interval = f'{100 * low:.1f} to {100 * high:.1f}' if n else '–'
        cells = [name, f'{n:,}', _percent(right, guesses), _percent(right, n), interval]
        rows.append(Row(cells=[*cells, '–' if f1 is None else f'{100 * f1:.1f} %']))
    return Table(
        name='Precision, recall and F1 of each class',
        columns=('class', inputs.noun, 'precision', 'recall', '95 % interval of the recall', 'F1'),
        rows=rows,
        folded=len(classes) > 2 * SORTED,
    )


def _percent(part: int, total: int) -> str:
    return f'{100 * part / total:.1f} %' if total else '–'


SECTIONS: Mapping[str, Callable[[Inputs], Section]] = {  # by the name of the task's score
    scores.ACCURACY.name: _one_label,
    scores.KAPPA.name: _one_label,
    scores.PRECISION.name: label_sets.section,
}
