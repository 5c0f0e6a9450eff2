"""Training images whose labels are likely wrong, by a probe on the features of the start."""

import dataclasses

import numpy as np

from tljax import features
from tljax.config.experiment import Experiment
from tljax.features import probes
from tljax.metrics import label_errors
from tljax.records import predictions
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.types import InputError

# Weaker decays fit wrong labels too, and take most of the steps.
DECAYS = tuple(decay for decay in probes.DECAYS if decay > 3e-3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikelyError:
    """An image whose label is likely wrong.

    Attributes:
        id: of the example.
        path: relative to the folder of the data; '' for an image without a file.
        label: its class.
        suggested: the class that it likely belongs to.
        confidence: the held-out probability of its label.
    """

    id: int
    path: str
    label: str
    suggested: str
    confidence: float


def likely_training_errors(experiment: Experiment, *, folds: int = 5) -> list[LikelyError]:
    """The likely label errors of the training images of an experiment, the likeliest first.

    Args:
        experiment: its data, and the network that training starts from.
        folds: of the cross-validation.

    Raises:
        InputError: the experiment cannot be set up, or an image has several labels.
    """
    return of_job(jobs.setup(experiment), folds=folds)


def of_job(job: Job, *, folds: int = 5) -> list[LikelyError]:
    """The same of an experiment that is set up.

    The features are those of the network that training starts from: a trained network has seen
    the labels, and would confirm them. Each image is judged by a linear probe that was fitted
    without it.
    """
    train = job.splits['train']
    if not job.model.task.one_label:
        raise InputError(
            'the training images have several labels or numbers, wanted one label per image'
        )
    extracted = features.extract(
        job.model,
        job.params,
        job.stats,
        train,
        cache_gigabytes=job.experiment.cache_gigabytes,
        batch_size=job.experiment.batch_size,
        threads=job.experiment.data_threads,
    )
    x, labels = extracted.matrix()
    classes = train.class_names
    p = probes.held_out_probabilities(
        x, labels, folds=folds, decays=DECAYS, num_classes=len(classes)
    )
    errors = label_errors.likely_errors(p, np.asarray(labels))
    folder = predictions.data_folder(job.splits, getattr(job.experiment.data, 'path', None))
    paths = predictions.relative_paths(train, folder)[extracted.places]
    return [
        LikelyError(
            id=int(extracted.ids[place]),
            path=str(paths[place]),
            label=classes[label],
            suggested=classes[suggested],
            confidence=float(confidence),
        )
        for place, label, suggested, confidence in zip(*errors, strict=True)
    ]
