"""Images of no class of the network: how well scores tell them from the run's own."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from tljax.data import decoded_images, unlabelled
from tljax.metrics import detection
from tljax.metrics.out_of_distribution import OF_LOGITS, Scorer
from tljax.models.stages import HEAD
from tljax.records.predictions import SplitPredictions
from tljax.training.robustness.subject import Subject, spread
from tljax.types import BadFiles, Examples, InputError

TRAINING_IMAGES = 5000  # whose features are kept, at the most


def read(subject: Subject, path: str, bad_files: BadFiles) -> Examples:
    """The images of a folder or a list.

    Raises:
        InputError: it is missing or empty, or an image cannot be read.
    """
    if not pathlib.Path(path).expanduser().exists():
        raise InputError(f'{path}: no such folder or file')
    examples = unlabelled.read([path], bad_files)
    if not len(examples):
        raise InputError(f'{path}: no image in it can be read')
    return decoded_images.wrap({'': examples}, subject.network.preprocessing, 0)['']


@dataclasses.dataclass(frozen=True)
class Detector:
    """A score of a run with the threshold that accepts 95 % of its validation images.

    Attributes:
        name: of the score.
        scorer: fitted to the training images if the score needs them.
        threshold: of the score; an image with a smaller one is out of distribution.
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


def _scores(scorer: Scorer, name: str, split: SplitPredictions) -> np.ndarray:
    return scorer.score(name, split.logits, split.features)


def scorer(subject: Subject) -> Scorer:
    """Every score that the run has, fitted to its training images."""
    train = subject.predict(spread(subject.data('train').examples, TRAINING_IMAGES), features=True)
    assert train.features is not None
    linear = _linear_head(subject, train)
    return Scorer.fit(train.features, train.logits, train.labels, linear)


def _linear_head(subject: Subject, train: SplitPredictions) -> dict[str, np.ndarray] | None:
    """The kernel and bias of a head that is one linear layer of the features; else None."""
    linear = subject.network.params[HEAD].get('linear')
    if linear is None or train.features is None:
        return None
    kernel, bias = np.asarray(linear['kernel']), np.asarray(linear['bias'])
    if kernel.shape[0] != train.features.shape[1]:
        return None
    difference = np.abs(train.features @ kernel + bias - train.logits).max(initial=0)
    small = 1e-3 * (1 + np.abs(train.logits).max(initial=0))
    return {'kernel': kernel, 'bias': bias} if difference < small else None


def detector(subject: Subject, name: str) -> Detector:
    """One score of a run with its threshold.

    Raises:
        InputError: the run has no such score, or no validation images.
    """
    if not subject.has('val'):
        raise InputError(f'--ood: {subject.folder} has no validation images for a threshold')
    of_features = name not in OF_LOGITS
    fitted = scorer(subject) if of_features else Scorer()
    if name not in fitted.names:
        raise InputError(f'--ood={name}: the head of {subject.folder} is not one linear layer')
    val = subject.predict(subject.data('val').examples, features=of_features)
    return Detector(name, fitted, detection.threshold(_scores(fitted, name, val)))


@dataclasses.dataclass(frozen=True)
class Familiar:
    """The run's own images with their predictions, which sets of unfamiliar ones share.

    Attributes:
        scorer: every score.
        split: the name of the split.
        own: its predictions, with features.
        val: those of the validation images; None if there are none.
    """

    scorer: Scorer
    split: str
    own: SplitPredictions
    val: SplitPredictions | None


def familiar(subject: Subject) -> Familiar:
    """Predicts the run's own images."""
    split = subject.evaluated_split
    own = subject.predict(subject.data(split).examples, features=True)
    val = own if split == 'val' else None
    if val is None and subject.has('val'):
        val = subject.predict(subject.data('val').examples, features=True)
    return Familiar(scorer(subject), split, own, val)


def measure(subject: Subject, known: Familiar, path: str, examples: Examples) -> dict[str, Any]:
    """How well each score separates the run's own images from those of a folder, as JSON."""
    other = subject.predict(examples, features=True)
    if not len(other):
        raise InputError(f'{path}: no image in it can be read')
    rows = []
    for name in known.scorer.names:
        own, outside = (_scores(known.scorer, name, one) for one in (known.own, other))
        row: dict[str, Any] = {'name': name, **detection.detection(own, outside)._asdict()}
        if known.val is not None:
            limit = detection.threshold(_scores(known.scorer, name, known.val))
            row |= {
                'threshold': limit,
                'own_accepted': float((own >= limit).mean()),
                'unfamiliar_accepted': float((outside >= limit).mean()),
            }
        rows.append(row)
    return {
        'path': path,
        'images': len(other),
        'split': known.split,
        'own_images': len(known.own),
        'scores': rows,
    }
