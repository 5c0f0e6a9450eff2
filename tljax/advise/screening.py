"""Screening of many networks: linear probes on growing subsamples, by successive halving.

In each round every remaining network computes the features of the new images only, and a ridge
classifier of them predicts each image from all others. The best networks stay, one after the last
round. Networks that are clearly worse than the best are dropped in any case. With so few images, a
ridge classifier ranks networks better than a cross-validated logistic regression, and it is solved
in milliseconds (docs/results.md).

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
from tljax.advise.held_out import HeldOutPredictions, calibrated_losses, scores
from tljax.advise.networks import CandidateNetwork
from tljax.advise.tasks import TargetImages
from tljax.features import probes
from tljax.models.stages import HEAD
from tljax.records import console

FROM = 3  # networks; two are both probed on all images
PER_CLASS, LEAST = 2, 20  # images in the first round; the second has twice as many
LAST_SHARE, LIMIT = 1 / 4, 1000  # of the labelled images in the last round, and at most
DECAYS = (0.01, 0.1, 1.0, 10.0)  # in units of the features' total variance per example


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
        The network that is left, and the result of each network. With fewer than `FROM` networks
        all are left, and there are no results.
    """
    if len(networks) < FROM:
        return list(networks), []
    entries = [_Entry(network=network) for network in networks]
    order = _order(task)
    chunks: list[np.ndarray] = []
    sizes = _sizes(len(task.labels), task.num_classes)
    for index, (start, stop) in enumerate(itertools.pairwise([0, *sizes]), 1):
        active = [entry for entry in entries if entry.why is None]
        if len(active) == 1:
            break
        chunks.append(np.sort(order[start:stop]))
        _measure(task, active, chunks, features)
        # Each round divides the networks by the same factor.
        _drop(active, math.ceil(len(entries) ** (1 - index / len(sizes))))
        _print(active, stop)
    kept = [entry.network for entry in entries if entry.why is None]
    return kept, [_screened(entry) for entry in entries]


def _sizes(count: int, classes: int) -> list[int]:
    """The number of images in each round; fewer rounds if there are few labelled images."""
    first = max(PER_CLASS * classes, LEAST)
    sizes = (first, 2 * first, max(2 * first, min(LIMIT, round(LAST_SHARE * count))))
    return sorted({min(size, count) for size in sizes})


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
    width = max(entry.parts[0].shape[1] for entry in entries)  # so that one check is compiled
    for entry in entries:
        with _timed(entry):
            x = evidence.padded(np.concatenate(entry.parts), width)
            entry.predictions = _held_out(task, rows, x)
            entry.accuracies.append((len(rows), entry.predictions.accuracy))


def _held_out(task: TargetImages, rows: np.ndarray, x: np.ndarray) -> HeldOutPredictions:
    """Each image predicted from all others, with the weight decay of the smallest loss."""
    labels = task.labels[rows]
    decays = np.asarray(DECAYS) * max(float(x.var(0).sum()), 1e-12) / len(x)
    outputs = probes.ridge_leave_one_out(x, labels, decays, num_classes=task.num_classes)
    predictions = [
        HeldOutPredictions(ids=task.ids[rows], labels=labels, logits=one) for one in outputs
    ]
    return min(predictions, key=lambda one: calibrated_losses(one).mean())


@contextlib.contextmanager
def _timed(entry: _Entry) -> Iterator[None]:
    started = time.perf_counter()
    yield
    entry.seconds += time.perf_counter() - started


def _drop(entries: Sequence[_Entry], kept: int) -> None:
    """Drops all but the best networks, and those that are clearly worse than the best one."""
    ranked = sorted(entries, key=lambda entry: -entry.score)
    leader = ranked[0]
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
