"""Evaluates a network on labelled images: the work of `tljax evaluate`."""

import argparse
import collections
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from PIL import Image

from tljax import devices
from tljax.config import json_form
from tljax.config.experiment import Experiment
from tljax.data.csv_cells import Columns
from tljax.metrics import calibration, confusion
from tljax.metrics.tasks import choice
from tljax.models import preprocessing
from tljax.models.views import NAMED, Centre, check, unseen
from tljax.records import console, predictions, run_copies, runs, writers
from tljax.records.predictions import Predictions, SplitPredictions
from tljax.records.runs import EvaluationSettings
from tljax.training import averaged_networks, final_evaluation, labelled_data
from tljax.training import labelled_evaluation_output as output
from tljax.training.evaluation import Evaluation
from tljax.training.labelled_data import Data
from tljax.types import BadFiles, Examples, InputError, Preprocessing, Views
from tljax.weights import network
from tljax.weights.network import Network

print_ = console.console.print


def run(arguments: argparse.Namespace) -> None:
    """Evaluates a network, prints its metrics and writes the requested files.

    Args:
        arguments: the parsed arguments of `tljax evaluate`.

    Raises:
        InputError: the network or the images cannot be used.
    """
    _check(arguments)
    loaded, settings, data = _load(arguments)
    others = averaged_networks.load(loaded, arguments.others)
    views = _views(arguments, settings, data)
    if settings:
        notes = (*data.notes, *unseen(views, settings.augmentations))
        data = dataclasses.replace(data, notes=notes)
    _announce(arguments, loaded, data, views)
    batch_size, calibrated = arguments.batch_size, arguments.calibrated
    metrics, split = evaluate(
        loaded, data.examples, settings, views, batch_size, data.folder, calibrated=calibrated
    )
    if others:
        networks = [loaded, *others]
        metrics, split = _averaged(arguments, networks, settings, views, split)
    if calibrated:
        metrics |= {'calibration': _calibration(loaded, split)}
    for path, reason in data.bad.items():
        print(f'skipped: {path}: {reason}', file=sys.stderr)
    if not metrics['count']:
        raise InputError(f'no {loaded.preprocessing.inputs[:-1]} could be read')
    counts = _counts(split)
    if loaded.task.one_label:
        read = loaded.preprocessing.inputs
        output.print_classes(metrics, counts, data.class_names, read)
    else:
        output.print_measures(metrics, data)
    _write(arguments, data, views, metrics, counts)
    if arguments.predictions:
        splits = {data.split or 'all': split}
        predictions.write(arguments.predictions, Predictions(data.class_names, splits))


def _averaged(
    arguments: argparse.Namespace,
    networks: Sequence[Network],
    settings: EvaluationSettings | None,
    views: Views,
    split: SplitPredictions,
) -> tuple[dict[str, Any], SplitPredictions]:
    """The metrics and the predictions of the mean of all networks; `split` is of the first."""
    first, *others = networks
    splits = [split]
    for other in others:
        data = _data(arguments, other, {})
        size = arguments.batch_size
        splits.append(evaluate(other, data.examples, settings, views, size, data.folder)[1])
    mean = averaged_networks.predictions(networks, splits)
    loss = (settings.loss if settings else None) or first.task.default_loss()
    metrics = final_evaluation.make_metrics(loss, first.task)(mean, 1.0)
    return final_evaluation.with_intervals(metrics, mean), mean


def _announce(arguments: argparse.Namespace, loaded: Network, data: Data, views: Views) -> None:
    """Prints what is evaluated on which images, and the notes."""
    kind = f'{type(loaded.backbone).__name__}, {loaded.task.counted(loaded.model.num_classes)}'
    read = f'{len(data.examples):,} {loaded.preprocessing.inputs}'
    if isinstance(loaded.preprocessing, Preprocessing):
        read += f', views: {views}'
    names = ' with '.join((arguments.network, *arguments.others))
    for line in (f'{names} ({kind}) on {data.name}: {read}.', *data.notes):
        print_(line, soft_wrap=True, markup=False)


def _calibration(loaded: Network, split: SplitPredictions) -> dict[str, Any]:
    """The temperature, and the calibration before and after."""
    assert loaded.temperature is not None  # `_load` refuses other networks
    before, after = (
        calibration.summary(split.logits, split.labels, temperature)
        for temperature in (1.0, loaded.temperature)
    )
    return {'temperature': loaded.temperature, 'before': before, 'after': after}


def _counts(split: SplitPredictions) -> confusion.Counts:
    """How often a class was predicted as another; empty unless images have one label each."""
    if not split.task.one_label:
        return collections.Counter()
    return confusion.paired(split.task.decided(split.logits, split.labels), split.labels)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses wrong arguments before anything is loaded."""
    if (arguments.path is None) == (arguments.data is None):
        raise InputError('wanted either DATA or --data=config')
    for path in (arguments.out, arguments.picture, arguments.predictions):
        if path and not path.absolute().parent.is_dir():
            raise InputError(f'{path}: there is no folder {path.parent} to write it into')
    picture = arguments.picture
    if picture and picture.suffix.lower() not in Image.registered_extensions():
        raise InputError(f'--picture={picture}: its suffix is not that of an image format')


def _load(
    arguments: argparse.Namespace,
) -> tuple[Network, EvaluationSettings | None, Data]:
    """The network, the evaluation settings of its run if there is one, and the data."""
    loaded = network.load(arguments.network)
    if arguments.calibrated and loaded.temperature is None:
        raise InputError(
            f'--calibrated: {arguments.network} has no temperature, wanted a run with validation'
        )
    if arguments.calibrated and arguments.others:
        raise InputError('--calibrated measures the temperature of one network, wanted no --with')
    if arguments.picture and not loaded.task.one_label:
        raise InputError(
            f'--picture: {arguments.network} predicts several labels per image or numbers, and a '
            'confusion matrix needs one label per image'
        )
    if arguments.gray_range:
        images = preprocessing.with_gray_range(loaded.model.images, arguments.gray_range)
        model = dataclasses.replace(loaded.model, preprocessing=images)
        loaded = dataclasses.replace(loaded, model=model)
    settings, recorded = None, {}
    if loaded.origin.format == 'run':
        settings, recorded = runs.evaluation_settings(_folder(arguments))
    data = _data(arguments, loaded, recorded)
    notes = settings.notes if settings else ()
    return loaded, settings, dataclasses.replace(data, notes=(*data.notes, *notes))


def _folder(arguments: argparse.Namespace) -> pathlib.Path:
    return run_copies.folder(arguments.network)


def _data(arguments: argparse.Namespace, loaded: Network, recorded: dict[str, Any]) -> Data:
    """The images of DATA, or with --data=config those of the run."""
    if arguments.path is not None:
        columns = Columns(
            path=arguments.path_column,
            label=arguments.label_column,
            split=arguments.split_column,
        )
        bad_files = BadFiles(arguments.bad_files)
        return labelled_data.read(
            loaded, arguments.path, arguments.split, bad_files, recorded, columns
        )
    if loaded.origin.format != 'run':
        raise InputError(f'--data=config: {arguments.network} is not a run')
    experiment, _ = runs.records(_folder(arguments))
    return labelled_data.of_run(loaded, experiment, recorded, arguments.split)


def _views(arguments: argparse.Namespace, settings: EvaluationSettings | None, data: Data) -> Views:
    """The requested views, or those with which the run evaluates such images."""
    if arguments.views:
        return NAMED[arguments.views]
    if settings is None or (arguments.path is None and data.split != 'test'):
        return Centre()
    return settings.test_views


def _write(
    arguments: argparse.Namespace,
    data: Data,
    views: Views,
    metrics: dict[str, Any],
    counts: confusion.Counts,
) -> None:
    """Writes the files of --out and --picture."""
    if arguments.out:
        record = {
            'network': arguments.network,
            'with': arguments.others,
            'data': data.name,
            'split': data.split,
        }
        record |= {'views': json_form.encode(views), 'notes': data.notes, 'bad_files': data.bad}
        record |= {**metrics, 'class_names': data.class_names}
        if choice.of(data.examples).one_label:
            record |= output.class_record(metrics, counts, data.class_names)
        writers.write_json(arguments.out, {**record, **writers.environment()})
    if arguments.picture:
        accuracies = metrics['class_accuracy']
        present = [index for index, value in enumerate(accuracies) if value is not None]
        names = [data.class_names[index] for index in present]
        confusion.picture(confusion.matrix(counts, present), names).save(arguments.picture)


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
        examples: decoded images; labels are indices of the network's logits.
        settings: of the run, for its loss and batch size; None for the default loss of the task.
        views: of each image.
        batch_size: images or views per batch over all devices; None for the run's, or 32.
        folder: the paths of the predictions are relative to it.
        calibrated: whether the loss uses the network's temperature, if there is one.

    Raises:
        InputError: the views do not fit the network, or an image cannot be read.
    """
    check(views, loaded.preprocessing)
    evaluation = Evaluation(
        model=loaded.model,
        loss=(settings.loss if settings else None) or loaded.task.default_loss(),
        mesh=devices.make_mesh(),
        batch_size=batch_size or (settings.batch_size if settings else network.BATCH_SIZE),
        views=views,
    )
    params, stats = devices.put_replicated(evaluation.mesh, (loaded.params, loaded.stats))
    split = final_evaluation.predict(evaluation, params, stats, examples, folder)
    temperature = (loaded.temperature if calibrated else None) or 1.0
    metrics_of = final_evaluation.make_metrics(evaluation.loss, loaded.task)
    return final_evaluation.with_intervals(metrics_of(split, temperature), split), split
