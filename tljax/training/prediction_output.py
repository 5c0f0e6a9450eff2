"""The output of `tljax predict`: lines on the console, and a CSV or JSON-lines file."""

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tljax.records.csv_text import cell_text
from tljax.training.robustness.unfamiliar import Detector
from tljax.types import Task

PATH_LETTERS = 60  # the widest path column; in a row with a longer path the columns shift


class Prediction(NamedTuple):
    """The prediction of one image.

    Attributes:
        path: the image file.
        values: as `Task.predicted` states, such as the probabilities [K] of classes.
        score: the out-of-distribution score; None without a detector.
    """

    path: str
    values: np.ndarray
    score: float | None = None


Write = Callable[[Prediction], None]


class Lines:
    """Formats predictions as lines with aligned columns.

    Args:
        names: the class names.
        task: what is predicted.
        longest_path: the number of letters of the longest path.
        top: the number of classes in each line.
        detector: the detector that computed the scores; None without scores.
    """

    def __init__(
        self,
        names: Sequence[str],
        task: Task,
        longest_path: int,
        top: int,
        detector: Detector | None,
    ):
        self._names, self._task, self._top, self._detector = names, task, top, detector
        self._path_letters = min(longest_path, PATH_LETTERS)

    def text(self, prediction: Prediction) -> str:
        """The path, the prediction, and the out-of-distribution score, if any."""
        cells = self._task.shown(prediction.values, self._names, self._top)
        line = '  '.join([f'{prediction.path:<{self._path_letters}}', *cells])
        return line + self._score_text(prediction.score)

    def _score_text(self, score: float | None) -> str:
        if self._detector is None or score is None:
            return ''
        mark = '  out of distribution' if self._detector.rejects(score) else ''
        return f'  {self._detector.name} {score:.4g}{mark}'


@contextlib.contextmanager
def writer(
    path: pathlib.Path | None, names: Sequence[str], task: Task, detector: Detector | None = None
) -> Iterator[Write]:
    """A function that writes one prediction; the file appears once all are written.

    Args:
        path: a `.csv` file with the column `path` and those of `Task.cells`, or a `.jsonl` file of
            objects with `path` and the entries of `Task.record`. In CSV, an apostrophe precedes
            text that a spreadsheet would run as a formula. None writes nothing.
        names: the names of the classes or numbers.
        task: what is predicted.
        detector: adds the columns `ood_score`, `ood_threshold` and `out_of_distribution`, or an
            entry `ood` with the same values.
    """
    if path is None:
        yield lambda _: None
        return
    part = path.with_name(path.name + '.part')
    try:
        with part.open('w', newline='', encoding='utf-8') as file:
            make = _csv_writer if path.suffix.lower() == '.csv' else _json_writer
            yield make(file, names, task, detector)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _csv_writer(file, names: Sequence[str], task: Task, detector: Detector | None) -> Write:
    rows, header = csv.writer(file), []
    score_columns = ['ood_score', 'ood_threshold', 'out_of_distribution'] if detector else []

    def write(prediction: Prediction) -> None:
        path, row, score = prediction
        predicted = task.cells(row, names)
        if not header:
            header.extend(['path', *predicted, *score_columns])
            rows.writerow(header)
        texts = (cell_text(x) if isinstance(x, str) else f'{x:.7g}' for x in predicted.values())
        cells = [cell_text(path), *texts]
        if detector and score is not None:
            rejected = 'true' if detector.rejects(score) else 'false'
            cells += [f'{score:.7g}', f'{detector.threshold:.7g}', rejected]
        rows.writerow(cells)

    return write


def _json_writer(file, names: Sequence[str], task: Task, detector: Detector | None) -> Write:
    def write(prediction: Prediction) -> None:
        path, row, score = prediction
        record = {'path': path, **task.record(row, names)}
        if detector and score is not None:
            record['ood'] = detector.record(score)
        file.write(json.dumps(record, ensure_ascii=False) + '\n')

    return write
