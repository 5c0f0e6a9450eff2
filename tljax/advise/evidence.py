"""Evidence that costs no training: what can be read out of the frozen stages of a network."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tljax import features
from tljax.advise import folds
from tljax.advise.choice import Answers
from tljax.advise.linear_probes import TRAIN_LIMIT, Fitted, cross_validated, scores
from tljax.advise.tasks import Task
from tljax.config.experiment import Experiment
from tljax.data import decoded_images
from tljax.features import transferability
from tljax.features.probes import Linear
from tljax.models import stages
from tljax.strategies.strategies import FineTune
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.training.penalty_terms import find_upstream
from tljax.types import InputError
from tljax.weights.loading import Pretrained

FEW_LABELS, REPEATS = 250, 2  # below so many images, so many partitions into folds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Depth:
    """What a linear layer reads out of one stage, held-out images alone.

    Attributes:
        stage: whose pooled output it reads.
        answers: of the first partition into folds.
        decay: the best on all partitions, in the units of `solver.LBFGS`.
        accuracy: the mean over partitions.
        loss: likewise, in nats.
        width: F.
        scores: of transferability, by name.
        linear: the layer of plain features that was fitted without the first fold.
    """

    stage: str
    answers: Answers
    decay: float
    accuracy: float
    loss: float
    width: int
    scores: dict[str, float]
    linear: Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """A network, frozen, at the task's images.

    Attributes:
        source: of the weights; None for a network that has none.
        experiment: the task's, with these weights.
        job: the same, set up for training everything.
        depths: one for each stage below the head, in forward order.
        random: of the last stage of the same network with random weights.
        fewer: the last stage's accuracy with half of the labels.
        leep: of the weights' own head; None without one.
        seconds: that it took.
    """

    source: str | None
    experiment: Experiment
    job: Job
    depths: tuple[Depth, ...]
    random: Answers | None
    fewer: float | None
    leep: float | None
    seconds: float

    @property
    def last(self) -> Depth:
        """What the head reads."""
        return self.depths[-1]

    @property
    def best(self) -> Depth:
        """The stage with the least loss."""
        return min(self.depths, key=lambda depth: depth.loss)


def look(task: Task, experiment: Experiment, pretrained: Pretrained | None) -> Look:
    """The evidence of one network.

    Args:
        task: the labelled images.
        experiment: with the network's weights.
        pretrained: the same weights, for their own head; None where it has none.

    Raises:
        InputError: the network cannot be had, or has no stage below its head.
    """
    started = time.perf_counter()
    job = jobs.setup(
        dataclasses.replace(
            experiment, data=task.fold(0), strategy=FineTune(), per_class=None, samples=None
        )
    )
    rows = _rows(task)
    labels = task.labels[rows]
    found = _features(job, task, rows)
    widest = max(x.shape[1] for x in found.values())
    partitions = _partitions(task, rows)
    depths = [
        _depth(stage, _widened(x, widest), x, labels, task, rows, partitions)
        for stage, x in found.items()
    ]
    last = _widened(next(reversed(found.values())), widest)
    random = None
    if pretrained is not None:
        random = _random_answers(job, task, rows, labels, partitions[0], widest)
    return Look(
        source=experiment.backbone.weights,
        experiment=experiment,
        job=job,
        depths=tuple(depths),
        random=random,
        fewer=_fewer(last, labels, task, rows, partitions[0]),
        leep=_leep(job, pretrained, next(reversed(found.values())), labels),
        seconds=time.perf_counter() - started,
    )


def _rows(task: Task) -> np.ndarray:
    """The rows that probes see: all that are held out in their turn, and enough to be fitted to."""
    held_out = [task.held_out(index) for index in range(task.asked)]
    wanted = TRAIN_LIMIT + sum(map(len, held_out))
    if len(task.labels) <= wanted:
        return np.arange(len(task.labels))
    rest = np.setdiff1d(np.arange(len(task.labels)), np.concatenate(held_out))
    more = folds.limited(rest, TRAIN_LIMIT, task.experiment.seed, task.count)
    return np.sort(np.concatenate([*held_out, more]))


def _features(job: Job, task: Task, rows: np.ndarray, cuts: Sequence[str] = ()) -> dict:
    """Pooled outputs [M, F] by stage, of the rows; of all stages, or of those below `cuts`."""
    names = job.model.names
    if len(names) < 2:
        raise InputError(f'the network has the stages {list(names)}: nothing could be frozen')
    cuts = cuts or names[1:]
    parts, start = [], 0
    for examples in task.parts:
        own = rows[(rows >= start) & (rows < start + len(examples))] - start
        start += len(examples)
        if not len(own):
            continue
        gigabytes = job.experiment.cache_gigabytes
        wrapped = decoded_images.wrap(
            {'all': examples.take(own)}, job.model.preprocessing, gigabytes
        )
        extracted = features.extract_all(
            job.model,
            job.params,
            job.stats,
            wrapped['all'],
            cuts=cuts,
            **vars(job.experiment.reading),
        )
        if len(extracted[cuts[0]]) != len(own):
            raise InputError('config.data: some images cannot be read; take them out first')
        parts.append({cut: np.asarray(one.matrix()[0]) for cut, one in extracted.items()})
    below = {cut: names[names.index(cut) - 1] for cut in cuts}
    return {below[cut]: np.concatenate([part[cut] for part in parts]) for cut in cuts}


def _partitions(task: Task, rows: np.ndarray) -> list[np.ndarray]:
    """The fold of each row, in one partition or, of few images, in several."""
    found = [task.place[rows]]
    if not task.own_validation and len(rows) <= FEW_LABELS:
        for repeat in range(1, REPEATS):
            seed = task.experiment.seed + 1000 * repeat
            found.append(folds.assign(task.labels[rows], task.count, seed))
    return found


def _widened(x: np.ndarray, width: int) -> np.ndarray:
    """With columns of zeros, so that all stages are one program."""
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def _shown(task: Task, rows: np.ndarray) -> np.ndarray:
    """[M] bool: which of the rows count when they are held out."""
    held_out = np.concatenate([task.held_out(index) for index in range(task.asked)])
    return np.isin(rows, held_out)


def _depth(
    stage: str,
    x: np.ndarray,
    plain: np.ndarray,
    labels: np.ndarray,
    task: Task,
    rows: np.ndarray,
    partitions: Sequence[np.ndarray],
) -> Depth:
    ids, shown = task.ids[rows], _shown(task, rows)
    every = [cross_validated(x, labels, place, shown, task.num_classes) for place in partitions]
    tried = [_answers(found, ids, labels) for found in every]
    losses = np.array([[one.losses_at(1.0).mean() for one in row] for row in tried])
    best = int(losses.mean(0).argmin())
    return Depth(
        stage=stage,
        answers=tried[0][best],
        decay=float(every[0].decays[best]),
        accuracy=float(np.mean([row[best].accuracy for row in tried])),
        loss=float(losses[:, best].mean()),
        width=plain.shape[1],
        scores=scores(plain, labels),
        linear=Linear(
            every[0].first.kernel[best, : plain.shape[1]],
            every[0].first.bias[best],
        ),
    )


def _answers(found: Fitted, ids: np.ndarray, labels: np.ndarray) -> list[Answers]:
    """Of each strength."""
    rows = found.rows
    return [Answers(ids=ids[rows], labels=labels[rows], logits=one) for one in found.logits]


def _best(tried: Sequence[Answers]) -> Answers:
    return min(tried, key=lambda one: one.losses_at(1.0).mean())


def _random_answers(
    job: Job,
    task: Task,
    rows: np.ndarray,
    labels: np.ndarray,
    place: np.ndarray,
    width: int,
) -> Answers:
    """Of the last stage of the network with random weights: what its form alone knows."""
    params, stats = stages.init(job.model, jobs.keys(job.experiment.seed)[0])
    drawn = dataclasses.replace(
        job, params=stages.ordered(job.model, params), stats=stages.ordered(job.model, stats)
    )
    (x,) = _features(drawn, task, rows, [stages.HEAD]).values()
    shown = _shown(task, rows)
    found = cross_validated(_widened(x, width), labels, place, shown, task.num_classes)
    return _best(_answers(found, task.ids[rows], labels))


def _fewer(
    x: np.ndarray, labels: np.ndarray, task: Task, rows: np.ndarray, place: np.ndarray
) -> float | None:
    """The best accuracy with half of the labels; None where there are few."""
    if len(labels) < 4 * task.num_classes:
        return None
    shown = _shown(task, rows)
    found = cross_validated(x, labels, place, shown, task.num_classes, share=0.5)
    return _best(_answers(found, task.ids[rows], labels)).accuracy


def _leep(
    job: Job, pretrained: Pretrained | None, x: np.ndarray, labels: np.ndarray
) -> float | None:
    """What the weights' own head says without training: the zero-shot evidence."""
    upstream = find_upstream(job.model, pretrained) if pretrained is not None else None
    if upstream is None or upstream.first != stages.HEAD:
        return None
    logits, _ = stages.run(
        upstream.model, upstream.params, upstream.stats, jnp.asarray(x), start=stages.HEAD
    )
    known = np.searchsorted(np.unique(labels), labels)
    probabilities = np.asarray(jax.nn.softmax(logits.astype(jnp.float32)), np.float64)
    probabilities /= probabilities.sum(-1, keepdims=True)
    return transferability.leep(probabilities, known)


def summary(found: Look) -> Mapping[str, object]:
    """What a report says of a look."""
    return {
        'weights': found.source,
        'depths': [
            {
                'stage': depth.stage,
                'width': depth.width,
                'accuracy': depth.accuracy,
                'interval': list(depth.answers.interval),
                'loss': depth.loss,
                'scores': depth.scores,
            }
            for depth in found.depths
        ],
        'random_accuracy': None if found.random is None else found.random.accuracy,
        'half_the_labels': found.fewer,
        'leep': found.leep,
        'seconds': found.seconds,
    }
