"""Out-of-distribution images: how well scores separate them from the images of the run."""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from tljax.data import inputs, unlabelled
from tljax.metrics import detection
from tljax.metrics.out_of_distribution import OF_LOGITS, Scorer
from tljax.models.stages import HEAD
from tljax.records.predictions import SplitPredictions
from tljax.training.robustness.subject import Subject, spread
from tljax.types import BadFiles, Examples, InputError

TRAINING_IMAGES = 5000  # the largest number of training images that scores are fitted to


def read(subject: Subject, path: str, bad_files: BadFiles) -> Examples:
    """Reads the images of a folder or a list.

    Raises:
        InputError: the folder is missing or empty, an image cannot be read, or see `check`.
    """
    check(subject)
    if not pathlib.Path(path).expanduser().exists():
        raise InputError(f'{path}: no such folder or file')
    examples = unlabelled.read([path], bad_files)
    if not len(examples):
        raise InputError(f'{path}: no image in it can be read')
    return inputs.prepared({'': examples}, subject.network.preprocessing, 0)['']


@dataclasses.dataclass(frozen=True)
class Detector:
    """A score of a run with the threshold that accepts 95 % of its validation images.

    Attributes:
        name: of the score.
        scorer: fitted to the training images if the score needs them.
        threshold: an image with a smaller score is out of distribution.
    """

    name: str
    scorer: Scorer
    threshold: float

    @property
    def needs_features(self) -> bool:
        """Whether the score needs the features of an image."""
        return self.name not in OF_LOGITS

    def rejects(self, score: float) -> bool:
        """Whether an image with this score is out of distribution."""
        return score < self.threshold

    def record(self, score: float) -> dict[str, Any]:
        """The score of an image and its verdict as JSON."""
        return {
            'name': self.name,
            'score': score,
            'threshold': self.threshold,
            'out_of_distribution': self.rejects(score),
        }


def _scores(scorer: Scorer, name: str, split: SplitPredictions) -> np.ndarray:
    return scorer.score(name, split.logits, split.features)


def check(subject: Subject) -> None:
    """Raises: InputError: the outputs of the network are not logits of classes."""
    if not subject.network.task.calibrated:
        raise InputError(
            f'--ood: {subject.folder} predicts ordered classes, and scores need logits of classes'
        )


def scorer(subject: Subject, train: SplitPredictions | None = None) -> Scorer:
    """Fits every score that the run's head allows to its training images.

    Args:
        subject: the run.
        train: the predictions of training images with features; None computes them.

    Raises:
        InputError: see `check`.
    """
    check(subject)
    if train is None:
        examples = spread(subject.data('train').examples, TRAINING_IMAGES)
        train = subject.predict(examples, features=True)
    assert train.features is not None
    linear = _linear_head(subject, train)
    return Scorer.fit(train.features, train.logits, train.labels, linear)


def _linear_head(subject: Subject, train: SplitPredictions) -> dict[str, np.ndarray] | None:
    """The kernel and bias of the head if it is one linear layer; else None."""
    linear = subject.network.params[HEAD].get('linear')
    if linear is None or train.features is None:
        return None
    kernel, bias = np.asarray(linear['kernel']), np.asarray(linear['bias'])
    if kernel.shape[0] != train.features.shape[1]:
        return None
    difference = np.abs(train.features @ kernel + bias - train.logits).max(initial=0)
    small = 1e-3 * (1 + np.abs(train.logits).max(initial=0))
    return {'kernel': kernel, 'bias': bias} if difference < small else None


def detector(subject: Subject, name: str, train: SplitPredictions | None = None) -> Detector:
    """Makes the detector of one score.

    Args:
        subject: the run.
        name: of the score.
        train: see `scorer`.

    Raises:
        InputError: the head of the run does not allow the score, or there are no validation images.
    """
    check(subject)
    if not subject.has('val'):
        raise InputError(f'--ood: {subject.folder} has no validation images for a threshold')
    of_features = name not in OF_LOGITS
    fitted = scorer(subject, train) if of_features else Scorer()
    if name not in fitted.names:
        raise InputError(f'--ood={name}: the head of {subject.folder} is not one linear layer')
    val = subject.predict(subject.data('val').examples, features=of_features)
    return Detector(name, fitted, detection.threshold(_scores(fitted, name, val)))


@dataclasses.dataclass(frozen=True)
class Familiar:
    """The predictions of the run's images, which every unfamiliar set is compared with.

    Attributes:
        scorer: every score.
        split: the name of the split.
        predictions: of the split, with features.
        val: the predictions of the validation images; None if there are none.
    """

    scorer: Scorer
    split: str
    predictions: SplitPredictions
    val: SplitPredictions | None


def familiar(subject: Subject) -> Familiar:
    """Predicts the run's images."""
    split = subject.evaluated_split
    predicted = subject.predict(subject.data(split).examples, features=True)
    val = predicted if split == 'val' else None
    if val is None and subject.has('val'):
        val = subject.predict(subject.data('val').examples, features=True)
    return Familiar(scorer(subject), split, predicted, val)


def measure(subject: Subject, reference: Familiar, path: str, examples: Examples) -> dict[str, Any]:
    """How well each score separates the run's images from those of a folder, as JSON."""
    other = subject.predict(examples, features=True)
    if not len(other):
        raise InputError(f'{path}: no image in it can be read')
    rows = []
    for name in reference.scorer.names:
        scores_of = functools.partial(_scores, reference.scorer, name)
        inside, outside = scores_of(reference.predictions), scores_of(other)
        row: dict[str, Any] = {'name': name, **detection.detection(inside, outside)._asdict()}
        if reference.val is not None:
            threshold = detection.threshold(scores_of(reference.val))
            row |= {
                'threshold': threshold,
                'own_accepted': float((inside >= threshold).mean()),
                'unfamiliar_accepted': float((outside >= threshold).mean()),
            }
        rows.append(row)
    return {
        'path': path,
        'images': len(other),
        'split': reference.split,
        'own_images': len(reference.predictions),
        'scores': rows,
    }
