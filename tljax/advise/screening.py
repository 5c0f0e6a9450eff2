"""Screening of many networks: linear probes on growing subsamples, by successive halving.

In each round every remaining network computes the features of the new images only, a linear probe
of them is cross-validated, and the better half of the networks stays. Networks that are clearly
worse than the best are dropped in any case.

Source: Renggli et al. 2022, "Which model to transfer? Finding the needle in the growing haystack",
section 4; Jamieson & Talwalkar 2016 (successive halving).
"""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tljax.advise import evidence, folds, rules
from tljax.advise.held_out import HeldOutPredictions, scores
from tljax.advise.linear_probes import LabelledFolds
from tljax.advise.networks import CandidateNetwork
from tljax.advise.tasks import TargetImages
from tljax.models.stages import HEAD
from tljax.records import console

FROM = 3  # networks; two are both probed on all images
SHARES = (1 / 16, 1 / 8, 1 / 4)  # of the labelled images, in each round
PER_CLASS = 4  # images in the first round, at least
FOLDS = 3


# Features [M, F] of the images in some rows [M] of a task.
Features = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Screened:
    """The result of one network.

    Attributes:
        source: of its weights; None for random weights.
        label: its short name.
        accuracies: `(images, accuracy of the probe)` of each of its rounds.
        seconds: that its features and probes took.
        why: the reason for which it was dropped; None if it was kept.
    """

    source: str | None
    label: str
    accuracies: tuple[tuple[int, float], ...]
    seconds: float
    why: str | None


@dataclasses.dataclass(kw_only=True)
class _Entry:
    """A network during the search: its features [M, F] of the images so far."""

    network: CandidateNetwork
    features: Features | None = None
    parts: list[np.ndarray] = dataclasses.field(default_factory=list)
    predictions: HeldOutPredictions | None = None
    accuracies: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    why: str | None = None

    @property
    def score(self) -> float:
        """The mean score of the last round."""
        assert self.predictions is not None
        return float(scores(self.predictions).mean())


def computed(task: TargetImages, network: CandidateNetwork) -> Features:
    """The features of a network's last stage; its parameters are loaded when this is called."""
    job = evidence.job_of(task, network.experiment)

    def features(rows: np.ndarray) -> np.ndarray:
        (x,) = evidence.features_of(job, task, rows, [HEAD]).values()
        return x

    return features


def screen(
    task: TargetImages,
    networks: Sequence[CandidateNetwork],
    features: Callable[[TargetImages, CandidateNetwork], Features] = computed,
) -> tuple[list[CandidateNetwork], list[Screened]]:
    """Selects the networks whose frozen features suit a task best.

    Args:
        task: the labelled images.
        networks: the candidates.
        features: gives the features of a network; called once for each.

    Returns:
        The networks that are left, in their order, and the result of each network. With fewer than
        `FROM` networks all are left, and there are no results.
    """
    if len(networks) < FROM:
        return list(networks), []
    entries = [_Entry(network=network) for network in networks]
    order = _order(task)
    chunks: list[np.ndarray] = []
    for start, stop in itertools.pairwise([0, *_sizes(task)]):
        active = [entry for entry in entries if entry.why is None]
        if len(active) == 1:
            break
        chunks.append(np.sort(order[start:stop]))
        _measure(task, active, chunks, features)
        _halve(active)
        _print(active, stop)
    kept = [entry.network for entry in entries if entry.why is None]
    return kept, [_screened(entry) for entry in entries]


def _sizes(task: TargetImages) -> list[int]:
    """The number of images in each round; only one round if there are few images."""
    count = len(task.labels)
    first = min(count, max(round(SHARES[0] * count), PER_CLASS * task.num_classes))
    sizes = [max(first, round(share * count)) for share in SHARES]
    return sorted(set(sizes))


def _order(task: TargetImages) -> np.ndarray:
    """The rows in random order, so that each beginning has the classes in their proportions."""
    labels = task.labels
    rng = np.random.default_rng([task.experiment.image_seed, folds.SEED_STREAM])
    place = np.zeros(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = (rng.permutation(len(rows)) + rng.uniform(size=len(rows))) / len(rows)
    return np.argsort(place, kind='stable')


def _measure(
    task: TargetImages,
    entries: Sequence[_Entry],
    chunks: Sequence[np.ndarray],
    features: Callable[[TargetImages, CandidateNetwork], Features],
) -> None:
    """Features of the new rows, and cross-validated probes of all rows so far.

    Args:
        task: the labelled images.
        entries: the remaining networks.
        chunks: the rows of each round, those of the present one last.
        features: see `screen`.
    """
    for entry in entries:
        with _timed(entry):
            entry.features = entry.features or features(task, entry.network)
            entry.parts.append(entry.features(chunks[-1]))
    rows = np.concatenate(chunks)
    labels = task.labels[rows]
    count = int(np.clip(np.bincount(labels)[np.unique(labels)].min(), 2, FOLDS))
    data = LabelledFolds(
        ids=task.ids[rows],
        labels=labels,
        partitions=(folds.assign(labels, count, task.experiment.image_seed),),
        evaluated=np.full(len(rows), True),
        num_classes=task.num_classes,
    )
    width = max(entry.parts[0].shape[1] for entry in entries)  # so that all share one program
    for entry in entries:
        with _timed(entry):
            x = evidence.padded(np.concatenate(entry.parts), width)
            entry.predictions = data.cross_validate(x).best
            entry.accuracies.append((len(rows), entry.predictions.accuracy))


@contextlib.contextmanager
def _timed(entry: _Entry) -> Iterator[None]:
    started = time.perf_counter()
    yield
    entry.seconds += time.perf_counter() - started


def _halve(entries: Sequence[_Entry]) -> None:
    """Drops the worse half of the networks, and those that are clearly worse than the best."""
    ranked = sorted(entries, key=lambda entry: -entry.score)
    leader, kept = ranked[0], math.ceil(len(ranked) / 2)
    for rank, entry in enumerate(ranked[1:], 1):
        assert entry.predictions is not None
        assert leader.predictions is not None
        clearly = rules.clearly_better(leader.predictions, entry.predictions)
        if rank < kept and not clearly:
            continue
        count, accuracy = entry.accuracies[-1]
        best = leader.accuracies[-1][1]
        entry.why = (
            f'on {count} images a probe of its features has an accuracy of {100 * accuracy:.0f} %, '
            f'compared with {100 * best:.0f} % for {leader.network.label}'
        )
        entry.features, entry.parts = None, []  # frees the parameters


def _print(entries: Sequence[_Entry], count: int) -> None:
    """One line for each network of a round, the best first."""
    console.console.print(f'Screening on {count} images:')
    for entry in sorted(entries, key=lambda entry: -entry.score):
        state = 'dropped' if entry.why else 'kept'
        console.console.print(
            f'  {entry.network.label}: probe accuracy {100 * entry.accuracies[-1][1]:.0f} %, '
            f'{entry.seconds:.1f} s so far, {state}'
        )


def _screened(entry: _Entry) -> Screened:
    return Screened(
        source=entry.network.experiment.backbone.weights,
        label=entry.network.label,
        accuracies=tuple(entry.accuracies),
        seconds=entry.seconds,
        why=entry.why,
    )
