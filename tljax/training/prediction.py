"""Predicts the classes of images: the implementation of `tljax predict`."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Container, Iterator, Sequence

import jax
import numpy as np

from tljax import devices
from tljax.data import inputs, labelled_texts, unlabelled
from tljax.metrics import class_names
from tljax.models import preprocessing
from tljax.models.views import NAMED, check, unseen
from tljax.records import run_copies, runs
from tljax.training import averaged_networks, final_evaluation, prediction_output
from tljax.training.evaluation import Evaluation
from tljax.training.prediction_output import Lines, Prediction
from tljax.training.robustness import subject, unfamiliar
from tljax.training.robustness.unfamiliar import Detector
from tljax.types import (
    BadFiles,
    Batch,
    Examples,
    InputError,
    Params,
    Stats,
    TextPreprocessing,
    Views,
)
from tljax.weights import network
from tljax.weights.network import Network

PRINT_LIMIT = 100  # images that are printed if all predictions are also written to a file
SUFFIXES = ('.csv', '.jsonl')


def run(arguments: argparse.Namespace) -> int:
    """Prints the most probable classes of images and writes the output file.

    Args:
        arguments: the parsed command line of `tljax predict`.

    Returns:
        The exit code: 1 if some files could not be read, else 0.

    Raises:
        InputError: a flag, the network or every image cannot be used.
    """
    if arguments.out and arguments.out.suffix.lower() not in SUFFIXES:
        raise InputError(f'--out is {arguments.out}, wanted one of {", ".join(SUFFIXES)}')
    loaded = _load_network(arguments)
    others = averaged_networks.load(loaded, arguments.others)
    examples = _read_examples(arguments, loaded)
    assert examples.findings
    unreadable = examples.findings.bad
    reported = set(unreadable)
    count = _predict_all(arguments, [loaded, *others], examples, _detector(arguments))
    _report_unreadable(unreadable, reported)  # decoding can add files
    if arguments.out:
        print(f'{arguments.out}: {count:,} {loaded.preprocessing.inputs}')
    return 1 if unreadable else 0


def _read_examples(arguments: argparse.Namespace, loaded: Network) -> Examples:
    """The images or texts of the command line; reports unreadable files."""
    policy = BadFiles(arguments.bad_files)
    reads_text = isinstance(loaded.preprocessing, TextPreprocessing)
    read = labelled_texts.unlabelled if reads_text else unlabelled.read
    examples = read(arguments.paths, policy, arguments.path_column)
    assert examples.findings
    for note in examples.findings.notes:
        print(f'{note}.', file=sys.stderr)
    _report_unreadable(examples.findings.bad, ())
    read = loaded.preprocessing.inputs
    if not len(examples):
        raise InputError(f'none of the {len(examples.findings.bad)} {read} can be read')
    return examples


def _report_unreadable(reasons: dict[str, str], reported: Container[str]) -> None:
    for path, reason in reasons.items():
        if path not in reported:
            print(f'not predicted: {path}: {reason}', file=sys.stderr)


def _load_network(arguments: argparse.Namespace) -> Network:
    """The network, with the gray range of the command line; warns of unsuitable views."""
    loaded = network.load(arguments.network)
    if loaded.origin.format == 'run':
        settings, _ = runs.evaluation_settings(run_copies.folder(arguments.network))
        for note in unseen(NAMED[arguments.views], settings.augmentations):
            print(note, file=sys.stderr)
    if not arguments.gray_range:
        return loaded
    changed = preprocessing.with_gray_range(loaded.model.images, arguments.gray_range)
    model = dataclasses.replace(loaded.model, preprocessing=changed)
    return dataclasses.replace(loaded, model=model)


def _detector(arguments: argparse.Namespace) -> Detector | None:
    """The score of --ood with its threshold; None without the flag.

    Raises:
        InputError: the network is not a run, or the score cannot be computed for it.
    """
    if arguments.ood is None:
        return None
    if arguments.others:
        raise InputError('--ood computes the score of one network, wanted no --with')
    if arguments.views != 'centre':
        raise InputError(
            f'--ood computes the score of one view, wanted --views=centre, not {arguments.views}'
        )
    folder = run_copies.folder(arguments.network)
    if not folder.is_dir():
        raise InputError(
            f'--ood needs the validation images of a run; {arguments.network} is not a run folder'
        )
    return unfamiliar.detector(subject.read(folder, arguments.batch_size), arguments.ood)


def _predict_all(
    arguments: argparse.Namespace,
    networks: Sequence[Network],
    examples: Examples,
    detector: Detector | None,
) -> int:
    """Prints and writes the prediction of each image; returns the number of images."""
    loaded = networks[0]
    names = class_names.labels(loaded.class_names, loaded.model.num_classes)
    longest_path = max(len(str(image)) for image in examples.encoded or ())
    lines = Lines(names, loaded.task, longest_path, arguments.top, detector)
    predictions = predict(
        loaded,
        examples,
        NAMED[arguments.views],
        arguments.batch_size or network.BATCH_SIZE,
        detector,
        calibrated=not arguments.uncalibrated,
        others=networks[1:],
    )
    count = 0
    with prediction_output.writer(arguments.out, names, loaded.task, detector) as write:
        for prediction in predictions:
            if arguments.out is None or count < PRINT_LIMIT:
                print(lines.text(prediction))
            write(prediction)
            count += 1
    return count


def predict(
    loaded: Network,
    examples: Examples,
    views: Views,
    batch_size: int,
    detector: Detector | None = None,
    *,
    calibrated: bool = True,
    others: Sequence[Network] = (),
) -> Iterator[Prediction]:
    """Yields the prediction of each readable image, in order.

    Images are decoded as the predictions are consumed, so memory does not grow with their number.

    Args:
        loaded: the network.
        examples: image files.
        views: the views of each image; their probabilities are averaged.
        batch_size: images or views per batch, over all devices.
        detector: computes an out-of-distribution score; needs a single view.
        calibrated: whether the network's temperature is applied, if it has one.
        others: networks whose predictions are averaged with those of `loaded`.

    Raises:
        InputError: the views do not fit the network, or a file is unreadable and the policy for
            such files is `error`.
    """
    assert examples.encoded is not None
    networks = [loaded, *others]
    evaluations = [_evaluation(one, views, batch_size) for one in networks]
    mesh = evaluations[0].mesh
    variables = [devices.put_replicated(mesh, (one.params, one.stats)) for one in networks]
    streams = [
        evaluation.batches(values[0], values[1], _decoded(one, examples))
        for evaluation, values, one in zip(evaluations, variables, networks, strict=True)
    ]
    score_batch = _score_function(detector, evaluations[0])
    start = 0
    for results in zip(*streams, strict=True):
        batch, logits = results[0][0], [one[-1] for one in results]
        rows = np.asarray(_mean(networks, logits, calibrated))
        params, stats = variables[0]
        scores = score_batch(params, stats, batch, logits[0])
        mask = np.asarray(batch['mask'])
        images = examples.encoded[start : start + len(rows)]
        # The last batch is padded: it can have more rows than images.
        for row, score, valid, image in zip(rows, scores, mask, images, strict=False):
            if valid:
                yield Prediction(str(image), row, score)
        start += len(rows)


def _evaluation(loaded: Network, views: Views, batch_size: int) -> Evaluation:
    check(views, loaded.preprocessing)
    return Evaluation(
        model=loaded.model,
        loss=loaded.task.default_loss(),
        mesh=devices.make_mesh(),
        batch_size=batch_size,
        views=views,
    )


def _mean(networks: Sequence[Network], logits: Sequence[jax.Array], calibrated: bool) -> jax.Array:
    """The mean prediction of a batch; see `Task.predicted`."""
    loaded = networks[0]
    if len(networks) == 1:
        return loaded.probabilities(logits[0], calibrated=calibrated)
    mean = averaged_networks.outputs(networks, logits, calibrated=calibrated)
    return loaded.task.predicted(mean)


def _decoded(loaded: Network, examples: Examples) -> Examples:
    """The examples, decoded when they are read, with labels of zero in the form of the task."""
    task, shape = loaded.task, loaded.task.label_shape(loaded.model.num_classes)
    decoded = inputs.prepared({'': examples}, loaded.preprocessing, 0)['']
    zeros = np.zeros((len(decoded), *shape), task.label_dtype)
    return dataclasses.replace(decoded, labels=zeros, task=task)


def _score_function(
    detector: Detector | None, evaluation: Evaluation
) -> Callable[..., Sequence[float | None]]:
    """The function `(params, stats, batch, logits) -> scores [B]`; None scores without detector."""
    if detector is None:
        return lambda params, stats, batch, logits: [None] * len(logits)
    head_inputs = final_evaluation.head_inputs(evaluation) if detector.needs_features else None

    def scores(params: Params, stats: Stats, batch: Batch, logits: jax.Array) -> list[float]:
        features = None
        if head_inputs is not None:
            features = np.asarray(head_inputs(params, stats, batch))
        return detector.scorer.score(detector.name, np.asarray(logits), features).tolist()

    return scores
