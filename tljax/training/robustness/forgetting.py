"""Forgetting: accuracy on the upstream task before and after training, and in between (WiSE-FT)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tljax import devices, tree
from tljax.config.experiment import PRETRAINED
from tljax.metrics import paired_accuracy
from tljax.models import averaging
from tljax.models.averaging import NetworkValues
from tljax.models.stages import HEAD
from tljax.models.views import Centre
from tljax.records.predictions import SplitPredictions
from tljax.training import final_evaluation
from tljax.training.labelled_data import Data
from tljax.training.robustness import accuracy
from tljax.training.robustness.subject import Subject, evaluation_of, labelled_set
from tljax.types import BadFiles, Examples, InputError
from tljax.weights import network
from tljax.weights.network import Network

ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))


@dataclasses.dataclass(frozen=True)
class Upstream:
    """The network that a run started from, and images of its task.

    Attributes:
        network: with its own head.
        data: labelled images of its classes.
        tuned: the parameters and statistics after training, with the upstream head.
    """

    network: Network
    data: Data
    tuned: NetworkValues


def read(subject: Subject, path: str, bad_files: BadFiles) -> Upstream:
    """The upstream network of a run and images of its task.

    Raises:
        InputError: the run started from random weights or from weights without a head, its
            parameters have other shapes than the weights, or the images are missing or have other
            classes.
    """
    weights = getattr(subject.experiment.backbone, 'weights', None)
    if weights is None:
        raise InputError(f'--source: {subject.folder} started from random weights')
    try:
        start = network.load(weights, head=PRETRAINED)
    except InputError as error:
        raise InputError(f'--source: the upstream network cannot be used: {error}') from error
    tuned = NetworkValues(
        {**subject.network.params, HEAD: _source_head(subject, start)}, subject.network.stats
    )
    _check_leaves(subject, start, tuned)
    data = labelled_set(start, path, bad_files, {})
    return Upstream(start, data, tuned)


def _source_head(subject: Subject, start: Network) -> Any:
    """The upstream head: the run's own if the run fine-tuned it, else that of the weights."""
    fine_tuned = subject.experiment.head == PRETRAINED
    return (subject.network if fine_tuned else start).params[HEAD]


def _check_leaves(subject: Subject, start: Network, tuned: NetworkValues) -> None:
    before, after = (
        {path: np.shape(leaf) for path, leaf in tree.flatten({'params': p, 'stats': s}).items()}
        for p, s in ((start.params, start.stats), tuned)
    )
    differing = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    if differing:
        raise InputError(
            f'--source: the network of {subject.folder} has other parameters than its weights, '
            f'so the upstream head does not fit it: {", ".join(differing[:5])}'
        )


def measure(
    subject: Subject, upstream: Upstream, alphas: Sequence[float] = ALPHAS
) -> dict[str, Any]:
    """The accuracy on both tasks along the line from the start to the trained network, as JSON.

    BatchNorm statistics are interpolated too. A run with a new head has a head for each task: every
    network of the line is measured with the new head on the run's task, and with the upstream head
    on the upstream task.
    """
    split = subject.evaluated_split
    examples = subject.data(split).examples
    head = {HEAD: subject.network.params[HEAD]}
    if subject.experiment.head == PRETRAINED:
        head = {HEAD: upstream.network.params[HEAD]}
    target = (
        NetworkValues({**upstream.network.params, **head}, upstream.network.stats),
        NetworkValues(subject.network.params, subject.network.stats),
    )
    source = (NetworkValues(upstream.network.params, upstream.network.stats), upstream.tuned)
    lines = {
        'source': _line(subject, upstream.network, source, upstream.data.examples, alphas),
        'target': _line(subject, subject.network, target, examples, alphas),
    }
    before, after = (accuracy.correct(lines['source'][i]) for i in (0, -1))
    return {
        'path': upstream.data.name,
        'weights': upstream.network.origin.source,
        'split': split,
        'before': accuracy.summary(lines['source'][0]),
        'after': accuracy.summary(lines['source'][-1]),
        'loss': paired_accuracy.accuracy_difference(before, after)._asdict(),
        'curve': [
            {
                'alpha': alpha,
                **{name: accuracy.summary(line[index]) for name, line in lines.items()},
            }
            for index, alpha in enumerate(alphas)
        ],
        'notes': list(upstream.data.notes),
    }


def _line(
    subject: Subject,
    loaded: Network,
    ends: tuple[NetworkValues, NetworkValues],
    examples: Examples,
    alphas: Sequence[float],
) -> list[SplitPredictions]:
    """The predictions of every network on the line between two networks."""
    evaluation = evaluation_of(loaded, Centre(), subject.mesh, subject.batch_size)
    start, end = devices.put_replicated(subject.mesh, ends)
    mix = jax.jit(averaging.interpolate)
    predicted = []
    for alpha in alphas:
        params, stats = mix(start, end, alpha)
        predicted.append(final_evaluation.predict(evaluation, params, stats, examples))
    return predicted
