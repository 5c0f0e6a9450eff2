"""Evidence without training: linear probes of every stage of a network."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tljax import features
from tljax.advise import folds
from tljax.advise.held_out import HeldOutPredictions
from tljax.advise.linear_probes import TRAIN_LIMIT, LabelledFolds, transferability_scores
from tljax.advise.tasks import TargetImages
from tljax.config.experiment import Experiment
from tljax.data import decoded_images
from tljax.features import transferability
from tljax.features.probes import Linear
from tljax.models import stages
from tljax.strategies.strategies import FineTune
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.training.penalty_terms import find_upstream
from tljax.types import Examples, InputError
from tljax.weights.pretrained import Pretrained

FEW_IMAGES = 250  # up to this number, images are partitioned into folds PARTITIONS times
PARTITIONS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageProbe:
    """A linear probe of one stage, evaluated on held-out images.

    Attributes:
        stage: the stage; the probe reads its pooled output.
        predictions: the held-out predictions on the first partition into folds.
        decay: the best weight decay over all partitions, in the units of `solvers.LBFGS`.
        accuracy: the mean accuracy over partitions.
        loss: the mean loss over partitions, in nats.
        width: the number of features, F.
        scores: transferability scores by name.
        linear: the linear layer that was fitted to all folds but the first.
    """

    stage: str
    predictions: HeldOutPredictions
    decay: float
    accuracy: float
    loss: float
    width: int
    scores: dict[str, float]
    linear: Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """The evidence on one network: how well probes of its frozen features solve a task.

    Attributes:
        source: the weights source; None for random weights.
        experiment: the experiment with these weights.
        job: the experiment, set up for full fine-tuning.
        probes: the probe of each stage below the head, in forward order.
        random: the predictions of a probe of the last stage with random weights; None if the
            network itself has random weights.
        half_accuracy: the accuracy of the last stage's probe with half of the labels; None if there
            are few labels.
        leep: the LEEP score of the pretrained head; None without such a head.
        seconds: the time that the evidence took.
    """

    source: str | None
    experiment: Experiment
    job: Job
    probes: tuple[StageProbe, ...]
    random: HeldOutPredictions | None
    half_accuracy: float | None
    leep: float | None
    seconds: float

    @property
    def last(self) -> StageProbe:
        """The probe of the last stage below the head."""
        return self.probes[-1]

    @property
    def best(self) -> StageProbe:
        """The probe with the lowest loss."""
        return min(self.probes, key=lambda probe: probe.loss)


def collect(task: TargetImages, experiment: Experiment, pretrained: Pretrained | None) -> Evidence:
    """Collects the evidence of one network.

    Args:
        task: the labelled images.
        experiment: the experiment with the network's weights.
        pretrained: the same weights with the upstream head; None for random weights.

    Raises:
        InputError: the weights cannot be loaded, or the network has no stage below its head.
    """
    started = time.perf_counter()
    job = job_of(task, experiment)
    rows = _rows(task)
    data = _labelled_folds(task, rows)
    stage_features = features_of(job, task, rows)
    width = max(x.shape[1] for x in stage_features.values())
    last = stage_features[job.model.names[-2]]
    half_accuracy = None
    probes = tuple(_probe(stage, x, data, width) for stage, x in stage_features.items())
    random = None if pretrained is None else _random_probe(job, task, rows, data, width)
    if len(rows) >= 4 * task.num_classes:
        half_accuracy = data.cross_validate(padded(last, width), train_share=0.5).best.accuracy
    return Evidence(
        source=experiment.backbone.weights,
        experiment=experiment,
        job=job,
        probes=probes,
        random=random,
        half_accuracy=half_accuracy,
        leep=_leep(job, pretrained, last, data.labels),
        seconds=time.perf_counter() - started,
    )


def job_of(task: TargetImages, experiment: Experiment) -> Job:
    """The experiment on the task's first fold, set up for full fine-tuning."""
    fold = task.fold(0)
    return jobs.setup(
        dataclasses.replace(
            experiment, data=fold, strategy=FineTune(), per_class=None, samples=None
        )
    )


def _rows(task: TargetImages) -> np.ndarray:
    """The rows for probes: all rows that are held out in a fold, and up to `TRAIN_LIMIT` others."""
    held_out = [task.held_out(index) for index in range(task.folds_used)]
    limit = TRAIN_LIMIT + sum(map(len, held_out))
    if len(task.labels) <= limit:
        return np.arange(len(task.labels))
    others = np.setdiff1d(np.arange(len(task.labels)), np.concatenate(held_out))
    train_only = folds.limited(others, TRAIN_LIMIT, task.experiment.seed, task.count)
    return np.sort(np.concatenate([*held_out, train_only]))


def _labelled_folds(task: TargetImages, rows: np.ndarray) -> LabelledFolds:
    """The rows with their folds; a small number of rows is partitioned several times."""
    labels, partitions = task.labels[rows], [task.fold_of[rows]]
    if not task.own_validation and len(rows) <= FEW_IMAGES:
        for repeat in range(1, PARTITIONS):
            seed = task.experiment.seed + 1000 * repeat
            partitions.append(folds.assign(labels, task.count, seed))
    held_out = np.concatenate([task.held_out(index) for index in range(task.folds_used)])
    return LabelledFolds(
        ids=task.ids[rows],
        labels=labels,
        partitions=tuple(partitions),
        evaluated=np.isin(rows, held_out),
        num_classes=task.num_classes,
    )


def features_of(
    job: Job, task: TargetImages, rows: np.ndarray, cuts: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Pooled features [M, F] of the rows, by stage.

    Args:
        job: the network.
        task: the labelled images.
        rows: [M] indices of the images.
        cuts: the features of the stage below each cut are computed; empty for all stages.

    Raises:
        InputError: the network has no stage below its head, or an image cannot be read.
    """
    names = job.model.names
    if len(names) < 2:
        raise InputError(f'the network has the stages {list(names)}: no stage can be frozen')
    cuts = cuts or names[1:]
    parts, start = [], 0
    for examples in task.parts:
        part_rows = rows[(rows >= start) & (rows < start + len(examples))] - start
        start += len(examples)
        if len(part_rows):
            parts.append(_extract(job, examples.take(part_rows), cuts))
    below = {cut: names[names.index(cut) - 1] for cut in cuts}
    return {below[cut]: np.concatenate([part[cut] for part in parts]) for cut in cuts}


def _extract(job: Job, examples: Examples, cuts: Sequence[str]) -> dict[str, np.ndarray]:
    """Pooled features [M, F] of all examples below each cut."""
    gigabytes = job.experiment.cache_gigabytes
    decoded = decoded_images.wrap({'all': examples}, job.model.preprocessing, gigabytes)['all']
    extracted = features.extract_all(
        job.model, job.params, job.stats, decoded, cuts=cuts, **vars(job.experiment.reading)
    )
    if len(extracted[cuts[0]]) != len(examples):
        raise InputError('config.data: some images cannot be read; remove them first')
    return {cut: np.asarray(collected.matrix()[0]) for cut, collected in extracted.items()}


def padded(x: np.ndarray, width: int) -> np.ndarray:
    """The features padded with zero columns, so that all stages share one compiled program."""
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def _probe(stage: str, x: np.ndarray, data: LabelledFolds, width: int) -> StageProbe:
    """Probes features [M, F], padded to `width`, with the best weight decay on all partitions."""
    wide = padded(x, width)
    results = [data.cross_validate(wide, index) for index in range(len(data.partitions))]
    losses = np.array([[p.losses_at(1.0).mean() for p in result.predictions] for result in results])
    best = int(losses.mean(0).argmin())
    first = results[0]
    return StageProbe(
        stage=stage,
        predictions=first.predictions[best],
        decay=float(first.decays[best]),
        accuracy=float(np.mean([result.predictions[best].accuracy for result in results])),
        loss=float(losses[:, best].mean()),
        width=x.shape[1],
        scores=transferability_scores(x, data.labels),
        linear=Linear(first.first.kernel[best, : x.shape[1]], first.first.bias[best]),
    )


def _random_probe(
    job: Job, task: TargetImages, rows: np.ndarray, data: LabelledFolds, width: int
) -> HeldOutPredictions:
    """The best probe of the last stage of the same network with random weights."""
    params, stats = stages.init(job.model, jobs.keys(job.experiment.seed)[0])
    untrained = dataclasses.replace(
        job, params=stages.ordered(job.model, params), stats=stages.ordered(job.model, stats)
    )
    (x,) = features_of(untrained, task, rows, [stages.HEAD]).values()
    return data.cross_validate(padded(x, width)).best


def _leep(
    job: Job, pretrained: Pretrained | None, x: np.ndarray, labels: np.ndarray
) -> float | None:
    """The LEEP score of the pretrained head on the last stage's features; None without a head."""
    upstream = find_upstream(job.model, pretrained) if pretrained is not None else None
    if upstream is None or upstream.first != stages.HEAD:
        return None
    logits, _ = stages.run(
        upstream.model, upstream.params, upstream.stats, jnp.asarray(x), start=stages.HEAD
    )
    indices = np.searchsorted(np.unique(labels), labels)
    probabilities = np.asarray(jax.nn.softmax(logits.astype(jnp.float32)), np.float64)
    probabilities /= probabilities.sum(-1, keepdims=True)
    return transferability.leep(probabilities, indices)


def summary(evidence: Evidence) -> Mapping[str, object]:
    """The evidence as it is written to advice.json."""
    return {
        'weights': evidence.source,
        'depths': [
            {
                'stage': probe.stage,
                'width': probe.width,
                'accuracy': probe.accuracy,
                'interval': list(probe.predictions.interval),
                'loss': probe.loss,
                'scores': probe.scores,
            }
            for probe in evidence.probes
        ],
        'random_accuracy': None if evidence.random is None else evidence.random.accuracy,
        'half_the_labels': evidence.half_accuracy,
        'leep': evidence.leep,
        'seconds': evidence.seconds,
    }
