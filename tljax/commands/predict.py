"""Predicts the classes of images.

python -m tljax.predict NETWORK PATH... [--top=3] [--views=flip] [--out=FILE.csv]

NETWORK                     whatever tljax.load takes: a run's folder, a file, embedded:<name>,
torchvision:<name>, hf:<repo>, an https address
PATH                        an image, a folder of images, or a list of them: CSV or JSON lines with
a path in each row, or .txt with a path a line, relative to the list
--config=FILE               the config file of a run whose backbone or head is a class of your own;
nothing else imports that class
--top=N                     classes that are printed of each image; default 3
--views=NAME                centre (the default), flip or ten_crop; probabilities are averaged
--path_column=NAME          of lists in CSV or JSON lines; default path
--gray_range=LOW,HIGH       black and white of images deeper than 8 bits; default the network's own
--bad_files=error           nothing is predicted where a file cannot be read; by default it is
reported and the others go on
--batch_size=N              images on the devices at a time; default 32
--out=FILE                  .csv or .jsonl, with the probability of every class; then the first 100
images only are printed

The exit code is 0, 1 where files could not be read, 2 where nothing could be done.
"""

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
from tljax.commands import command_line
from tljax.data import decoded_images, unlabelled
from tljax.metrics import class_names
from tljax.metrics.losses import BinaryCrossEntropy, CrossEntropy
from tljax.models import preprocessing
from tljax.models.views import NAMED, check, unseen
from tljax.records import runs
from tljax.training.evaluation import Evaluation
from tljax.types import BadFiles, Examples, InputError, Views
from tljax.weights import network
from tljax.weights.network import Network

SHOWN = 100  # images that are printed where a file has all
SUFFIXES = ('.csv', '.jsonl')
FORMULA_STARTS = ('=', '+', '-', '@', '＝', '＋', '－', '＠')  # as spreadsheets read a cell
PATH_LETTERS = 60  # of a column; a longer path moves its own row's other columns

Write = Callable[[str, str, np.ndarray], None]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = command_line.parser('tljax.commands.predict', __doc__)
    command_line.add_classes_flag(found)
    found.add_argument('network', metavar='NETWORK')
    found.add_argument('paths', metavar='PATH', nargs='+')
    found.add_argument('--top', type=int, default=3)
    found.add_argument('--views', choices=NAMED, default='centre')
    found.add_argument('--path_column', default='path')
    found.add_argument('--gray_range')
    found.add_argument('--bad_files', choices=('error', 'skip'), default='skip')
    found.add_argument('--batch_size', type=int, default=network.BATCH_SIZE)
    found.add_argument('--out', type=pathlib.Path)
    return found


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    given = parser().parse_args(argv)
    try:
        return _run(given)
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


def _run(given: argparse.Namespace) -> int:
    for name in ('top', 'batch_size'):
        if getattr(given, name) < 1:
            raise InputError(f'--{name} is {getattr(given, name)}, wanted 1 or more')
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
    done = 0
    with writer(given.out, names) as write:
        for path, row in predictions(loaded, examples, NAMED[given.views], given.batch_size):
            if given.out is None or done < SHOWN:
                print(line.text(path, row))
            write(path, names[int(row.argmax())], row)
            done += 1
    return done


def predictions(
    loaded: Network, examples: Examples, views: Views, batch_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The path and the probabilities [K] of each image that can be read, in order, as they come.

    Args:
        loaded: the network.
        examples: image files; no more of them are in memory than are read ahead.
        views: of each image, whose probabilities are averaged.
        batch_size: of images or views, over all devices.

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
        rows = np.asarray(loaded.probabilities(logits))
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


def cell_text(text: str) -> str:
    """Text that spreadsheets show: an apostrophe goes before what they would take for a formula."""
    risky = text.startswith(('\t', '\r', '\n')) or text.lstrip().startswith(FORMULA_STARTS)
    return f"'{text}" if risky else text


def _json(file, names: Sequence[str]) -> Write:
    def write(path: str, name: str, row: np.ndarray) -> None:
        values = (float(f'{p:.7g}') for p in row)
        shown = dict(zip(names, values, strict=True))
        content = {'path': path, 'predicted': name, 'probabilities': shown}
        file.write(json.dumps(content, ensure_ascii=False) + '\n')

    return write


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
