"""Evaluates a network on labelled images: the work of `tljax evaluate`."""

import argparse
import collections
import dataclasses
import pathlib
import sys
from typing import Any

from PIL import Image

from tljax import devices
from tljax.config import json_form
from tljax.config.experiment import Experiment
from tljax.data import decoded_images, labelled
from tljax.data.cells import Columns
from tljax.metrics import calibration, class_names, confusion
from tljax.metrics.losses import BinaryCrossEntropy, CrossEntropy
from tljax.models import preprocessing
from tljax.models.views import NAMED, Centre, check, unseen
from tljax.records import console, predictions, runs, tables, writers
from tljax.records.predictions import Predictions, SplitPredictions
from tljax.records.runs import EvaluationSettings
from tljax.training import final_evaluation, jobs
from tljax.training.evaluation import Evaluation
from tljax.types import BadFiles, Examples, InputError, Views
from tljax.weights import network, published
from tljax.weights.network import Network

print_ = console.console.print
PAIRS_SHOWN = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is evaluated on: labels are places among the network's logits."""

    name: str
    split: str | None
    examples: Examples
    notes: tuple[str, ...]
    class_names: tuple[str, ...] = ()  # of the logits, no two alike
    folder: pathlib.Path | None = None  # that the paths of the images are relative to

    @property
    def bad(self) -> dict[str, str]:
        """The files that are left out, and why; more may turn out so when they are decoded."""
        return dict(self.examples.findings.bad) if self.examples.findings else {}


def run(given: argparse.Namespace) -> None:
    """Evaluates, prints the figures, and writes what is asked for.

    Args:
        given: the words of `tljax evaluate`, by name.

    Raises:
        InputError: the network or the images cannot be used.
    """
    _check(given)
    loaded, settings, data = _load(given)
    views = _views(given, settings, data)
    of = f'{type(loaded.backbone).__name__}, {loaded.model.num_classes} classes'
    size = f'{len(data.examples):,} images, views: {views}'
    if settings:
        notes = (*data.notes, *unseen(views, settings.augmentations))
        data = dataclasses.replace(data, notes=notes)
    for line in (f'{given.network} ({of}) on {data.name}: {size}.', *data.notes):
        print_(line, soft_wrap=True, markup=False)
    found, split = evaluate(
        loaded,
        data.examples,
        settings,
        views,
        given.batch_size,
        data.folder,
        calibrated=given.calibrated,
    )
    counts = _counts(split)
    if given.calibrated:
        found |= {'calibration': _calibration(loaded, split)}
    for path, reason in data.bad.items():
        print(f'left out: {path}: {reason}', file=sys.stderr)
    if not found['count']:
        raise InputError('no image could be read')
    if loaded.multi_label:
        _print_sets(found, data)
    else:
        _print(found, counts, data.class_names)
    _write(given, data, views, found, counts)
    if given.predictions:
        names = {data.split or 'all': split}
        predictions.write(given.predictions, Predictions(data.class_names, names))


def _calibration(loaded: Network, split: SplitPredictions) -> dict[str, Any]:
    """The temperature, and the calibration before and after."""
    assert loaded.temperature is not None  # `_load` refuses other networks
    before, after = (
        calibration.summary(split.logits, split.labels, temperature)
        for temperature in (1.0, loaded.temperature)
    )
    return {'temperature': loaded.temperature, 'before': before, 'after': after}


def _counts(split: SplitPredictions) -> confusion.Counts:
    """How often a class was predicted as another; empty where an image has a set of labels."""
    if split.multi_label:
        return collections.Counter()
    return confusion.count(split.logits, split.labels)


def _check(given: argparse.Namespace) -> None:
    """What can be known to be wrong before anything is loaded."""
    if (given.path is None) == (given.data is None):
        raise InputError('one of DATA and --data=config is wanted')
    for path in (given.out, given.picture, given.predictions):
        if path and not path.absolute().parent.is_dir():
            raise InputError(f'{path}: there is no folder {path.parent} to write it into')
    if given.picture and given.picture.suffix.lower() not in Image.registered_extensions():
        raise InputError(f'--picture={given.picture}: no picture has the suffix of that name')


def _load(given: argparse.Namespace) -> tuple[Network, EvaluationSettings | None, Data]:
    """The network, how it evaluates if it is a run's, and the data in its order."""
    loaded = network.load(given.network)
    if given.calibrated and loaded.temperature is None:
        raise InputError(
            f'--calibrated: {given.network} has no temperature, wanted a run with validation'
        )
    if given.gray_range:
        shown = preprocessing.with_gray_range(loaded.preprocessing, given.gray_range)
        loaded = dataclasses.replace(
            loaded, model=dataclasses.replace(loaded.model, preprocessing=shown)
        )
    if loaded.multi_label and given.picture:
        raise InputError(
            f'--picture: {given.network} tells several labels of an image, and what is taken for '
            'what can be said of one'
        )
    folder, settings, recorded = None, None, {}
    if loaded.origin.format == 'run':
        folder = pathlib.Path(given.network).expanduser()
        settings, recorded = runs.evaluation_settings(folder)
    if given.path is not None:
        policy = BadFiles(given.bad_files)
        names = (given.path_column, given.label_column, given.split_column)
        columns = Columns(**dict(zip(('path', 'label', 'split'), names, strict=True)))
        data = given_data(loaded, given.path, given.split, policy, recorded, columns)
    elif folder is not None:
        experiment, _ = runs.records(folder)
        data = own_data(loaded, experiment, recorded, given.split)
    else:
        raise InputError(f'--data=config: {given.network} is no run, whose config has data')
    notes = settings.notes if settings else ()
    return loaded, settings, dataclasses.replace(data, notes=(*data.notes, *notes))


def _views(given: argparse.Namespace, settings: EvaluationSettings | None, data: Data) -> Views:
    """Those that are asked for, else those by which the run saw such images."""
    if given.views:
        return NAMED[given.views]
    if settings is None or (given.path is None and data.split != 'test'):
        return Centre()
    return settings.test_views


def _write(
    given: argparse.Namespace,
    data: Data,
    views: Views,
    found: dict[str, Any],
    counts: confusion.Counts,
) -> None:
    if given.out:
        about = {'network': given.network, 'data': data.name, 'split': data.split}
        about |= {'views': json_form.encode(views), 'notes': data.notes, 'bad_files': data.bad}
        about |= {**found, 'class_names': data.class_names}
        if not data.examples.multi_label:
            about |= _record(found, counts, data.class_names)
        writers.write_json(given.out, {**about, **writers.environment()})
    if given.picture:
        there = [place for place, value in enumerate(found['class_accuracy']) if value is not None]
        names = [data.class_names[place] for place in there]
        confusion.picture(confusion.matrix(counts, there), names).save(given.picture)


def given_data(
    loaded: Network,
    path: str,
    split: str | None,
    bad_files: BadFiles,
    recorded: dict[str, Any],
    columns: Columns = Columns(),  # noqa: B008  frozen
) -> Data:
    """Images of a folder, a list or a file, with labels as the network has its classes.

    Args:
        loaded: the network.
        path: see `labelled.read`.
        split: likewise.
        bad_files: likewise.
        recorded: what a run says of its splits, to notice images that it was trained on.
        columns: see `labelled.read`.

    Raises:
        InputError: there are no such images, or their classes are not the network's.
    """
    found = labelled.read(path, split, bad_files, columns)
    examples, findings = found.examples, found.examples.findings
    names = examples.class_names if found.named else None
    notes = [f'{note}.' for note in (findings.notes if findings else ())]
    seen = _paths(recorded.get('train', {}).get('files', ()))
    if known := sum(name in seen for name in _paths(map(str, examples.encoded or ()))):
        notes.append(f'{known} of these images are files that the network was trained on.')
    folder = predictions.data_folder({'': examples}, path)
    name = path if found.split is None else f'{path} ({found.split})'
    data = Data(name=name, split=found.split, examples=examples, notes=tuple(notes), folder=folder)
    return _matched(loaded, data, names, found.count, 0)


def _paths(names) -> set[pathlib.Path]:
    return {pathlib.Path(name).absolute() for name in names}


def own_data(
    loaded: Network, experiment: Experiment, recorded: dict[str, Any], split: str | None
) -> Data:
    """A split of a run's data as its config makes it, held against what the run recorded.

    Without a `split` it is the test split, or the validation split where there is no test split.

    Raises:
        InputError: there is no such data any more, or its classes are not the network's.
    """
    splits = jobs.read_splits(experiment)
    if split is None:
        split = 'test' if len(splits.get('test', ())) else 'val'
    examples = splits.get(split)
    if examples is None or not len(examples):
        raise InputError(f'--split={split}: there are no such images in the data of this run')
    notes = ()
    before = recorded.get(split, {'ids': [], 'labels': []})
    now = {'ids': examples.ids.tolist(), 'labels': examples.label_lists()}
    if any(before[name] != now[name] for name in now):
        counts = f'{len(before["ids"])} then, {len(now["ids"])} now'
        notes = (f'These are not the images that the run had: {counts}, ids or labels differ.',)
    folder = predictions.data_folder(splits, getattr(experiment.data, 'path', None))
    data = Data(
        name=f'its own {split} split', split=split, examples=examples, notes=notes, folder=folder
    )
    names = examples.class_names
    return _matched(loaded, data, names, len(names), experiment.cache_gigabytes)


def _matched(
    loaded: Network, data: Data, names: tuple[str, ...] | None, count: int, gigabytes: float
) -> Data:
    """Data with the network's labels and canvases; classes of ImageNet go by their ids too."""
    aliases, total = {}, loaded.model.num_classes
    if loaded.class_names == published.imagenet_classes():
        aliases = {key: place for place, key in enumerate(published.imagenet_ids())}
    match = class_names.match(loaded.class_names, names, count, total, aliases)
    labels = match.placed(data.examples.labels, total, several=loaded.multi_label)
    if names is not None and len(names) < total:
        names = None  # some of the outputs, found by their numbers
    examples = dataclasses.replace(data.examples, labels=labels)
    return dataclasses.replace(
        data,
        examples=decoded_images.wrap({'': examples}, loaded.preprocessing, gigabytes)[''],
        class_names=class_names.labels(loaded.class_names or names, total),
        notes=(match.note, *data.notes),
    )


def evaluate(
    loaded: Network,
    examples: Examples,
    settings: EvaluationSettings | Experiment | None,
    views: Views,
    batch_size: int | None = None,
    folder: pathlib.Path | None = None,
    *,
    calibrated: bool = False,
) -> tuple[dict[str, Any], SplitPredictions]:
    """Metrics as in a run's result.json, and the predictions of each image.

    Args:
        loaded: the network.
        examples: canvases, with labels in its order.
        settings: the run's, whose loss and batch size are used; None for cross-entropy, binary
            where an image has several labels.
        views: of each image.
        batch_size: of images or views, over all devices; None for the run's, or 32.
        folder: that the paths of the predictions are relative to.
        calibrated: whether the loss is that at the network's temperature, if it has one.

    Raises:
        InputError: the views do not fit the network, or an image cannot be read.
    """
    check(views, loaded.preprocessing)
    usual = BinaryCrossEntropy() if loaded.multi_label else CrossEntropy()
    evaluation = Evaluation(
        model=loaded.model,
        loss=(settings.loss if settings else None) or usual,
        mesh=devices.make_mesh(),
        batch_size=batch_size or (settings.batch_size if settings else network.BATCH_SIZE),
        views=views,
    )
    params, stats = devices.put_replicated(evaluation.mesh, (loaded.params, loaded.stats))
    split = final_evaluation.predict(evaluation, params, stats, examples, folder)
    temperature = (loaded.temperature if calibrated else None) or 1.0
    metrics_of = final_evaluation.make_metrics(evaluation.loss)
    return console.with_interval(metrics_of(split, temperature)), split


def _mean_class_accuracy(found: dict[str, Any]) -> float | None:
    there = [value for value in found['class_accuracy'] if value is not None]
    return sum(there) / len(there) if there else None


def _record(
    found: dict[str, Any], counts: confusion.Counts, names: tuple[str, ...]
) -> dict[str, Any]:
    """What --out has of one label an image besides."""
    return {
        'mean_class_accuracy': _mean_class_accuracy(found),
        'class_count': confusion.class_counts(counts, len(names)),
        'confused': [
            {'true': names[true], 'predicted': names[taken], 'count': n}
            for true, taken, n in confusion.confused(counts)
        ],
    }


def _calibration_lines(found: dict[str, Any]) -> dict[str, str]:
    """The temperature and the calibration error before and after, with --calibrated."""
    if 'calibration' not in found:
        return {}
    one = found['calibration']
    before, after = (100 * one[when]['ece'] for when in ('before', 'after'))
    errors = f'{before:.1f} % before, {after:.1f} % after'
    return {'temperature': f'{one["temperature"]:.4g}', 'calibration error': errors}


def _print_sets(found: dict[str, Any], data: Data) -> None:
    """The figures of images with several labels."""
    for name, text in (tables.measures(found) | _calibration_lines(found)).items():
        print_(f'  {name:<28}{text}')
    columns = {'average precision': 'class_average_precision', 'F1': 'class_f1'}
    shares = {column: found[name] for column, name in columns.items()}
    numbers = data.examples.labels.sum(0).tolist()
    print_(confusion.class_table(shares, numbers, data.class_names))


def _print(found: dict[str, Any], counts: confusion.Counts, names: tuple[str, ...]) -> None:
    lines = {'accuracy': f'{console.accuracy_text(found)}, 95 % interval'}
    if len(names) > 5:
        lines['top-5 accuracy'] = f'{100 * found["top5_accuracy"]:.1f} %'
    lines['mean over classes'] = f'{100 * (_mean_class_accuracy(found) or 0):.1f} %'
    lines['loss'] = f'{found["loss"]:.4f}'
    lines |= _calibration_lines(found)
    for name, text in lines.items():
        print_(f'  {name:<20}{text}')
    numbers = confusion.class_counts(counts, len(names))
    print_(confusion.class_table({'accuracy': found['class_accuracy']}, numbers, names))
    wrong = confusion.confused(counts)
    if wrong:
        print_(confusion.pair_table(wrong[:PAIRS_SHOWN], numbers, names))
    if len(wrong) > PAIRS_SHOWN:
        print_(f'{len(wrong) - PAIRS_SHOWN} more pairs were confused; --out has all.')
