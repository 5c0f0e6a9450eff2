"""Predicts the classes of images: the work of `tljax predict`."""

import argparse
import contextlib
import csv
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tljax import devices
from tljax.data import decoded_images, unlabelled
from tljax.metrics import class_names
from tljax.metrics.losses import BinaryCrossEntropy, CrossEntropy
from tljax.models import preprocessing
from tljax.models.views import NAMED, check, unseen
from tljax.records import runs
from tljax.records.cells import cell_text
from tljax.training.evaluation import Evaluation
from tljax.types import BadFiles, Examples, InputError, Views
from tljax.weights import network
from tljax.weights.network import Network

SHOWN = 100  # images that are printed where a file has all
SUFFIXES = ('.csv', '.jsonl')
PATH_LETTERS = 60  # of a column; a longer path moves its own row's other columns

Write = Callable[[str, str, np.ndarray], None]


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
    done = _write(given, loaded, examples)
    _report_bad(bad, known)  # what turned out so when it was decoded
    if given.out:
        print(f'{given.out}: {done:,} images')
    return 1 if bad else 0


def _report_bad(bad: dict[str, str], known) -> None:
    for path, reason in bad.items():
        if path not in known:
            print(f'not predicted: {path}: {reason}', file=sys.stderr)


def _write(given: argparse.Namespace, loaded: Network, examples: Examples) -> int:
    """Prints and writes the predictions of all images as they come; returns how many."""
    names = class_names.labels(loaded.class_names, loaded.model.num_classes)
    longest = max(len(str(image)) for image in examples.encoded or ())
    line = _Line(names, min(longest, PATH_LETTERS), given.top)
    done, size = 0, given.batch_size or network.BATCH_SIZE
    with writer(given.out, names) as write:
        views, calibrated = NAMED[given.views], not given.uncalibrated
        for path, row in predictions(loaded, examples, views, size, calibrated=calibrated):
            if given.out is None or done < SHOWN:
                print(line.text(path, row))
            write(path, names[int(row.argmax())], row)
            done += 1
    return done


def predictions(
    loaded: Network,
    examples: Examples,
    views: Views,
    batch_size: int,
    *,
    calibrated: bool = True,
) -> Iterator[tuple[str, np.ndarray]]:
    """The path and the probabilities [K] of each image that can be read, in order, as they come.

    Args:
        loaded: the network.
        examples: image files; no more of them are in memory than are read ahead.
        views: of each image, whose probabilities are averaged.
        batch_size: of images or views, over all devices.
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
    place = 0
    for batch, _, logits in evaluation.batches(params, stats, shown):
        rows = np.asarray(loaded.probabilities(logits, calibrated=calibrated))
        real = np.asarray(batch['mask'])
        images = examples.encoded[place : place + len(rows)]
        for row, fine, image in zip(rows, real, images, strict=False):  # padding has no image
            if fine:
                yield str(image), row
        place += len(rows)


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
def writer(path: pathlib.Path | None, names: Sequence[str]) -> Iterator[Write]:
    """A function that writes a prediction; the file is there when all of them are.

    Args:
        path: .csv: `path`, `predicted`, and a column `p_<class>` for each class, where
            an apostrophe precedes what a spreadsheet would run as a formula; .jsonl: objects
            with `path`, `predicted` and `probabilities`, by class. None writes nothing.
        names: of the classes.
    """
    if path is None:
        yield lambda *_: None
        return
    part = path.with_name(path.name + '.part')
    try:
        with part.open('w', newline='', encoding='utf-8') as file:
            yield _csv(file, names) if path.suffix.lower() == '.csv' else _json(file, names)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _csv(file, names: Sequence[str]) -> Write:
    rows = csv.writer(file)
    rows.writerow(['path', 'predicted', *(f'p_{name}' for name in names)])

    def write(path: str, name: str, row: np.ndarray) -> None:
        rows.writerow([cell_text(path), cell_text(name), *(f'{p:.7g}' for p in row)])

    return write


def _json(file, names: Sequence[str]) -> Write:
    def write(path: str, name: str, row: np.ndarray) -> None:
        values = (float(f'{p:.7g}') for p in row)
        shown = dict(zip(names, values, strict=True))
        content = {'path': path, 'predicted': name, 'probabilities': shown}
        file.write(json.dumps(content, ensure_ascii=False) + '\n')

    return write
