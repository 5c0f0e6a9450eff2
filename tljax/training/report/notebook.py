"""Parts of the page of a run as objects for a notebook: `TrainedRun.show` and its relatives."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tljax.records.figures.axes import share_text
from tljax.records.pages import page
from tljax.records.pages.blocks import Block, Card, Figures, Gallery, Row, Table, Text
from tljax.records.pages.shown import Shown
from tljax.training.report import classes, curves, images, result
from tljax.training.report.inputs import Inputs, split_name
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

CURVES = ('loss', 'accuracy', 'mean_average_precision', 'r2')  # what `show` draws of training
MOST_CLASSES = 5  # probable classes of an image in a table


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongPrediction:
    """An image whose predicted class is not its label.

    Attributes:
        path: of the file, or the id of the image if it has none.
        label: the class that the data states.
        predicted: the class with the highest probability.
        probability: of the predicted class, without temperature scaling.
    """

    path: str
    label: str
    predicted: str
    probability: float


@dataclasses.dataclass(frozen=True, repr=False)
class WrongPredictions:
    """Wrong predictions, the most confident first; a notebook shows their images.

    Attributes:
        rows: the images in order.
        shown: the images as blocks.
        total: wrong predictions of the split.
    """

    rows: tuple[WrongPrediction, ...]
    shown: Shown
    total: int

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[WrongPrediction]:
        """The rows in order."""
        return iter(self.rows)

    def __getitem__(self, index: int) -> WrongPrediction:
        """A row by its index."""
        return self.rows[index]

    def _repr_html_(self) -> str:
        return self.shown._repr_html_()

    def __repr__(self) -> str:
        """A line for each image."""
        return repr(self.shown)


@dataclasses.dataclass(frozen=True, repr=False)
class ConfusionMatrix:
    """The number of images by true class (row) and predicted class (column).

    Attributes:
        counts: [K, K] int.
        classes: the names of the classes.
        shown: the matrix as a figure, and the most frequent confusions.
    """

    counts: np.ndarray
    classes: tuple[str, ...]
    shown: Shown

    def _repr_html_(self) -> str:
        return self.shown._repr_html_()

    def __repr__(self) -> str:
        """The most frequent confusions as a table."""
        return repr(self.shown)


@dataclasses.dataclass(frozen=True, repr=False)
class PredictedClasses:
    """The probabilities of images; a notebook shows the most probable classes.

    Attributes:
        classes: the names of the classes.
        probabilities: [B, K] float32.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray

    @property
    def best(self) -> tuple[str, ...]:
        """The name of the most probable class of each image."""
        return tuple(self.classes[place] for place in self.probabilities.argmax(-1))

    def _table(self) -> Table:
        count = min(MOST_CLASSES, len(self.classes))
        rows = []
        for index, row in enumerate(self.probabilities):
            places = np.argsort(-row, kind='stable')[:count]
            texts = [f'{self.classes[place]} {share_text(row[place])}' for place in places]
            rows.append(Row(cells=[str(index), *texts]))
        columns = ['image', 'most probable', *('' for _ in range(count - 1))]
        return Table(name='Predictions', columns=columns, rows=rows, texts=range(1, count + 1))

    def _repr_html_(self) -> str:
        return page.fragment([self._table()])

    def __repr__(self) -> str:
        """The most probable classes as a table."""
        return repr(Shown([self._table()]))


def opening(run: TrainedRun) -> list[Block]:
    """The result of a run in two sentences, beside its baselines."""
    inputs = Inputs(run)
    blocks = result.opening(inputs)
    return blocks + [one for one in result.section(inputs).blocks if isinstance(one, Table)]


def show(run: TrainedRun) -> Shown:
    """The result, the curves of training and the classes; see `TrainedRun.show`."""
    inputs = Inputs(run)
    drawn = []
    for make in (curves.section, classes.section):
        try:
            blocks = make(inputs).blocks
        except InputError:  # a solved head has no curves
            continue
        figures = [f for one in blocks if isinstance(one, Figures) for f in one.figures]
        drawn += figures if make is classes.section else figures[:2]
    return Shown([*opening(run), Figures(drawn)])


def errors(run: TrainedRun, count: int) -> WrongPredictions:
    """The most confident wrong predictions; see `TrainedRun.errors`."""
    inputs = Inputs(run)
    name, split = _with_classes(inputs)
    rows, total = images.confident_errors(split, count)
    wrong = tuple(_wrong(inputs, split, int(row)) for row in rows)
    text = f'{total:,} of {len(split):,} {split_name(name)} images are predicted wrongly.'
    blocks: list[Block] = [Text(text)]
    if len(rows):
        pictures, problem = images.small_pictures(inputs, name, rows)
        blocks += [Text(problem, 'missing')] if problem else []
        blocks.append(
            Gallery(
                cards=[
                    Card(
                        images=pictures.get(int(row), []),
                        lines=images.lines(inputs.classes, split, int(row)),
                        path=one.path,
                    )
                    for row, one in zip(rows, wrong, strict=True)
                ]
            )
        )
    return WrongPredictions(wrong, Shown(blocks), total)


def _with_classes(inputs: Inputs) -> tuple[str, Any]:
    """The predictions of a run whose examples have one class each.

    Raises:
        InputError: they have several labels, or numbers.
    """
    name, split = inputs.predictions()
    if split.task.numbers or split.task.multi_label:
        raise InputError(
            f'{inputs.run.workdir}: its labels are not one class for each image; '
            'report.html in its folder shows its errors'
        )
    return name, split


def _wrong(inputs: Inputs, split: Any, row: int) -> WrongPrediction:
    p = images.probabilities(split)[row]
    predicted = split.task.best(p)
    return WrongPrediction(
        path=images.path_text(split, row),
        label=inputs.classes[int(split.labels[row])],
        predicted=inputs.classes[predicted],
        probability=float(p[predicted]),
    )


def confusion(run: TrainedRun) -> ConfusionMatrix:
    """The confusion matrix; see `TrainedRun.confusion`."""
    inputs = Inputs(run)
    _, split = _with_classes(inputs)
    blocks = [
        Figures(one.figures[:1]) if isinstance(one, Figures) else one
        for one in classes.section(inputs).blocks
    ]
    counts = classes.confusion_counts(split, len(inputs.classes))
    return ConfusionMatrix(counts, tuple(inputs.classes), Shown(blocks[:-1]))


def predict(run: TrainedRun, given: Any) -> PredictedClasses:
    """The probabilities of new images; see `TrainedRun.predict`."""
    network = run.network
    probabilities = network.predict(given)
    names = network.class_names or tuple(map(str, range(probabilities.shape[-1])))
    return PredictedClasses(tuple(names), probabilities)
