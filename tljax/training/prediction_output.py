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

PATH_LETTERS = 60  # the widest path column; in a row with a longer path the columns shift
ALIGNED_CLASSES = 100  # with more classes, the column of class names is not aligned


class Prediction(NamedTuple):
    """The prediction of one image.

    Attributes:
        path: the image file.
        probabilities: [K].
        score: the out-of-distribution score; None without a detector.
    """

    path: str
    probabilities: np.ndarray
    score: float | None = None


Write = Callable[[Prediction], None]


class Lines:
    """Formats predictions as lines with aligned columns.

    Args:
        names: the class names.
        longest_path: the number of letters of the longest path.
        top: the number of classes in each line.
        detector: the detector that computed the scores; None without scores.
    """

    def __init__(
        self, names: Sequence[str], longest_path: int, top: int, detector: Detector | None
    ):
        self._names, self._top, self._detector = names, top, detector
        self._path_letters = min(longest_path, PATH_LETTERS)
        self._name_letters = max(map(len, names)) if len(names) <= ALIGNED_CLASSES else 0

    def text(self, prediction: Prediction) -> str:
        """The path, the most probable classes, and the out-of-distribution score, if any."""
        row = prediction.probabilities
        best = np.argsort(-row, kind='stable')[: self._top]
        cells = (f'{self._names[i]:<{self._name_letters}} {row[i]:>6.1%}' for i in best)
        line = '  '.join([f'{prediction.path:<{self._path_letters}}', *cells])
        return line + self._score_text(prediction.score)

    def _score_text(self, score: float | None) -> str:
        if self._detector is None or score is None:
            return ''
        mark = '  out of distribution' if self._detector.rejects(score) else ''
        return f'  {self._detector.name} {score:.4g}{mark}'


@contextlib.contextmanager
def writer(
    path: pathlib.Path | None, names: Sequence[str], detector: Detector | None = None
) -> Iterator[Write]:
    """A function that writes one prediction; the file appears once all are written.

    Args:
        path: a `.csv` file with the columns `path`, `predicted` and `p_<class>` for each class, or
            a `.jsonl` file of objects with `path`, `predicted` and `probabilities` by class. In
            CSV, an apostrophe precedes text that a spreadsheet would run as a formula. None writes
            nothing.
        names: the class names.
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
            yield make(file, names, detector)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _csv_writer(file, names: Sequence[str], detector: Detector | None) -> Write:
    rows = csv.writer(file)
    score_columns = ['ood_score', 'ood_threshold', 'out_of_distribution'] if detector else []
    rows.writerow(['path', 'predicted', *(f'p_{name}' for name in names), *score_columns])

    def write(prediction: Prediction) -> None:
        path, row, score = prediction
        predicted = names[int(row.argmax())]
        cells = [cell_text(path), cell_text(predicted), *(f'{p:.7g}' for p in row)]
        if detector and score is not None:
            rejected = 'true' if detector.rejects(score) else 'false'
            cells += [f'{score:.7g}', f'{detector.threshold:.7g}', rejected]
        rows.writerow(cells)

    return write


def _json_writer(file, names: Sequence[str], detector: Detector | None) -> Write:
    def write(prediction: Prediction) -> None:
        path, row, score = prediction
        values = (float(f'{p:.7g}') for p in row)
        record = {
            'path': path,
            'predicted': names[int(row.argmax())],
            'probabilities': dict(zip(names, values, strict=True)),
        }
        if detector and score is not None:
            record['ood'] = {
                'name': detector.name,
                'score': score,
                'threshold': detector.threshold,
                'out_of_distribution': detector.rejects(score),
            }
        file.write(json.dumps(record, ensure_ascii=False) + '\n')

    return write
