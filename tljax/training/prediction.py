"""Predicts the classes of images: the work of `tljax predict`."""

import argparse
import contextlib
import csv
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from tljax import devices
from tljax.data import decoded_images, unlabelled
from tljax.metrics import class_names
from tljax.metrics.losses import BinaryCrossEntropy, CrossEntropy
from tljax.models import preprocessing
from tljax.models.views import NAMED, check, unseen
from tljax.records import runs
from tljax.records.cells import cell_text
from tljax.training import final_evaluation
from tljax.training.evaluation import Evaluation
from tljax.training.robustness import subject, unfamiliar
from tljax.training.robustness.unfamiliar import Detector
from tljax.types import BadFiles, Batch, Examples, InputError, Params, Stats, Views
from tljax.weights import network
from tljax.weights.network import Network

SHOWN = 100  # images that are printed where a file has all
SUFFIXES = ('.csv', '.jsonl')
PATH_LETTERS = 60  # of a column; a longer path moves its own row's other columns

Write = Callable[..., None]  # of the path, the name of the class, the probabilities, the score


def run(given: argparse.Namespace) -> int:
    """Predicts, prints the likeliest classes, and writes what is asked for.

    Args:
        given: the words of `tljax predict`, by name.

    Returns:
        The exit code: 1 where files could not be read.

    Raises:
        InputError: nothing can be predicted.
    """
    if given.out and given.out.suffix.lower() not in SUFFIXES:
        raise InputError(f'--out is {given.out}, wanted one of {", ".join(SUFFIXES)}')
    examples = unlabelled.read(given.paths, BadFiles(given.bad_files), given.path_column)
    assert examples.findings
    bad = examples.findings.bad
    for note in examples.findings.notes:
        print(f'{note}.', file=sys.stderr)
    _report_bad(bad, ())
    if not len(examples):
        raise InputError(f'none of the {len(bad)} images can be read')
    known = set(bad)
    loaded = network.load(given.network)
    if loaded.origin.format == 'run':
        settings, _ = runs.evaluation_settings(pathlib.Path(given.network).expanduser())
        for note in unseen(NAMED[given.views], settings.augmentations):
            print(note, file=sys.stderr)
    if given.gray_range:
        shown = preprocessing.with_gray_range(loaded.preprocessing, given.gray_range)
        loaded = dataclasses.replace(
            loaded, model=dataclasses.replace(loaded.model, preprocessing=shown)
        )
    done = _write(given, loaded, examples, _detector(given))
    _report_bad(bad, known)  # what turned out so when it was decoded
    if given.out:
        print(f'{given.out}: {done:,} images')
    return 1 if bad else 0


def _report_bad(bad: dict[str, str], known) -> None:
    for path, reason in bad.items():
        if path not in known:
            print(f'not predicted: {path}: {reason}', file=sys.stderr)


def _detector(given: argparse.Namespace) -> Detector | None:
    """The score of --ood with its threshold; None without the flag.

    Raises:
        InputError: the network is no run, or the run or the views have no such score.
    """
    if given.ood is None:
        return None
    if given.views != 'centre':
        raise InputError(
            f'--ood scores one view of an image, wanted --views=centre, not {given.views}'
        )
    folder = pathlib.Path(given.network).expanduser()
    if not folder.is_dir():
        raise InputError(f'--ood: {given.network} is no run, whose validation images are needed')
    return unfamiliar.detector(subject.read(folder, given.batch_size), given.ood)


def _write(
    given: argparse.Namespace, loaded: Network, examples: Examples, detector: Detector | None
) -> int:
    """Prints and writes the predictions of all images as they come; returns how many."""
    names = class_names.labels(loaded.class_names, loaded.model.num_classes)
    longest = max(len(str(image)) for image in examples.encoded or ())
    line = _Line(names, min(longest, PATH_LETTERS), given.top)
    done, size = 0, given.batch_size or network.BATCH_SIZE
    with writer(given.out, names, detector) as write:
        views, calibrated = NAMED[given.views], not given.uncalibrated
        rows = scored(loaded, examples, views, size, detector, calibrated=calibrated)
        for path, row, score in rows:
            if given.out is None or done < SHOWN:
                print(line.text(path, row) + _score_text(detector, score))
            write(path, names[int(row.argmax())], row, score)
            done += 1
    return done


def _score_text(detector: Detector | None, score: float | None) -> str:
    if detector is None or score is None:
        return ''
    mark = '  out of distribution' if detector.rejects(score) else ''
    return f'  {detector.name} {score:.4g}{mark}'


def predictions(
    loaded: Network,
    examples: Examples,
    views: Views,
    batch_size: int,
    *,
    calibrated: bool = True,
) -> Iterator[tuple[str, np.ndarray]]:
    """The path and the probabilities [K] of each image that can be read, in order, as they come.

    See `scored` for the arguments.
    """
    rows = scored(loaded, examples, views, batch_size, None, calibrated=calibrated)
    yield from ((path, row) for path, row, _ in rows)


def scored(
    loaded: Network,
    examples: Examples,
    views: Views,
    batch_size: int,
    detector: Detector | None,
    *,
    calibrated: bool = True,
) -> Iterator[tuple[str, np.ndarray, float | None]]:
    """`predictions` with the score of each image, None without a detector.

    Args:
        loaded: the network.
        examples: image files; no more of them are in memory than are read ahead.
        views: of each image, whose probabilities are averaged.
        batch_size: of images or views, over all devices.
        detector: computes the scores; for one view of an image.
        calibrated: whether the network's temperature is applied, if it has one.

    Raises:
        InputError: the views do not fit the network, or a file is bad and its policy `error`.
    """
    check(views, loaded.preprocessing)
    assert examples.encoded is not None
    shown = decoded_images.wrap({'': examples}, loaded.preprocessing, 0)['']
    if loaded.multi_label:  # views are averaged by the kind of the labels
        none = np.zeros((len(shown), loaded.model.num_classes), np.uint8)
        shown = dataclasses.replace(shown, labels=none)
    evaluation = Evaluation(
        model=loaded.model,
        loss=BinaryCrossEntropy() if loaded.multi_label else CrossEntropy(),
        mesh=devices.make_mesh(),
        batch_size=batch_size,
        views=views,
    )
    params, stats = devices.put_replicated(evaluation.mesh, (loaded.params, loaded.stats))
    scores_of = _scores_of(detector, evaluation)
    place = 0
    for batch, _, logits in evaluation.batches(params, stats, shown):
        rows = np.asarray(loaded.probabilities(logits, calibrated=calibrated))
        scores = scores_of(params, stats, batch, logits)
        real = np.asarray(batch['mask'])
        images = examples.encoded[place : place + len(rows)]
        # Padding has no image.
        for row, score, fine, image in zip(rows, scores, real, images, strict=False):
            if fine:
                yield str(image), row, score
        place += len(rows)


def _scores_of(detector: Detector | None, evaluation: Evaluation) -> Callable[..., Sequence]:
    """The function `(params, stats, batch, logits) -> scores [B]`, each None without a detector."""
    if detector is None:
        return lambda params, stats, batch, logits: [None] * len(logits)
    features_of = final_evaluation.head_inputs(evaluation) if detector.needs_features else None

    def scores(params: Params, stats: Stats, batch: Batch, logits: jax.Array) -> list[float]:
        features = None
        if features_of is not None:
            features = np.asarray(features_of(params, stats, batch))
        found = detector.scorer.score(detector.name, np.asarray(logits), features)
        return found.tolist()

    return scores


class _Line:
    """An image and its likeliest classes in a line, in columns."""

    def __init__(self, names: Sequence[str], path_letters: int, top: int):
        self._names, self._path_letters, self._top = names, path_letters, top
        self._name_letters = max(map(len, names)) if len(names) <= 100 else 0

    def text(self, path: str, row: np.ndarray) -> str:
        """The line of a row of probabilities [K]."""
        best = np.argsort(-row, kind='stable')[: self._top]
        cells = (f'{self._names[i]:<{self._name_letters}} {row[i]:>6.1%}' for i in best)
        return '  '.join([f'{path:<{self._path_letters}}', *cells])


@contextlib.contextmanager
def writer(
    path: pathlib.Path | None, names: Sequence[str], detector: Detector | None = None
) -> Iterator[Write]:
    """A function that writes a prediction; the file is there when all of them are.

    Args:
        path: .csv: `path`, `predicted`, and a column `p_<class>` for each class, where
            an apostrophe precedes what a spreadsheet would run as a formula; .jsonl: objects
            with `path`, `predicted` and `probabilities`, by class. None writes nothing.
        names: of the classes.
        detector: adds the columns `ood_score`, `ood_threshold` and `out_of_distribution`, or an
            entry `ood` with the same.
    """
    if path is None:
        yield lambda *_: None
        return
    part = path.with_name(path.name + '.part')
    try:
        with part.open('w', newline='', encoding='utf-8') as file:
            make = _csv if path.suffix.lower() == '.csv' else _json
            yield make(file, names, detector)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _csv(file, names: Sequence[str], detector: Detector | None) -> Write:
    rows = csv.writer(file)
    more = ['ood_score', 'ood_threshold', 'out_of_distribution'] if detector else []
    rows.writerow(['path', 'predicted', *(f'p_{name}' for name in names), *more])

    def write(path: str, name: str, row: np.ndarray, score: float | None = None) -> None:
        cells = [cell_text(path), cell_text(name), *(f'{p:.7g}' for p in row)]
        if detector and score is not None:
            rejected = 'true' if detector.rejects(score) else 'false'
            cells += [f'{score:.7g}', f'{detector.threshold:.7g}', rejected]
        rows.writerow(cells)

    return write


def _json(file, names: Sequence[str], detector: Detector | None) -> Write:
    def write(path: str, name: str, row: np.ndarray, score: float | None = None) -> None:
        values = (float(f'{p:.7g}') for p in row)
        shown = dict(zip(names, values, strict=True))
        content = {'path': path, 'predicted': name, 'probabilities': shown}
        if detector and score is not None:
            content['ood'] = {
                'name': detector.name,
                'score': score,
                'threshold': detector.threshold,
                'out_of_distribution': detector.rejects(score),
            }
        file.write(json.dumps(content, ensure_ascii=False) + '\n')

    return write
