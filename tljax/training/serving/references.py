"""The training images of a run, which images on the page are compared with."""

import dataclasses
import functools
from typing import Any

import numpy as np

from tljax.data import inputs
from tljax.features.nearest import nearest
from tljax.metrics.out_of_distribution import OF_LOGITS, unit_length
from tljax.training.report import thumbnails
from tljax.training.robustness import unfamiliar
from tljax.training.robustness.subject import Subject, spread
from tljax.training.robustness.unfamiliar import Detector
from tljax.types import InputError

NEIGHBOURS = 5


class TrainingImages:
    """Training images with their features.

    Args:
        subject: the run.
        most: the largest number of images; if there are more, they are evenly spread.

    Attributes:
        predictions: of the images, with features.
        notes: whether the images differ from those that the run was trained on.

    Raises:
        InputError: the images cannot be read.
    """

    def __init__(self, subject: Subject, most: int):
        data = subject.data('train')
        examples = spread(data.examples, most)
        self.predictions = subject.predict(examples, data.folder, features=True)
        assert self.predictions.features is not None
        kept = np.isin(examples.ids, self.predictions.ids)
        self._examples = examples.take(np.flatnonzero(kept))
        self._features = unit_length(self.predictions.features)
        self._task, self._names = subject.network.task, data.class_names
        self._preprocessing = subject.network.preprocessing
        self.notes = data.notes[1:]  # the first is on the names of the classes
        self._picture = functools.cache(self._decoded_picture)

    def nearest(self, features: np.ndarray) -> list[dict[str, Any]]:
        """The nearest images by the angle between features, as JSON, the nearest first.

        Args:
            features: [F], the pooled input of the head.

        Returns:
            For each image `label`, its label as text; `path`, relative to the folder of the data,
            or '' without a file; `distance`, from 0 for the same direction to 2; and `source`, a
            data URI, or '' if the image can no longer be read.
        """
        count = min(NEIGHBOURS, len(self._features))
        query = unit_length(features[None])
        places, squares = next(nearest(query, self._features, count, block=1))
        order = np.argsort(squares[0], kind='stable')
        return [self._entry(int(places[0, i]), float(squares[0, i])) for i in order]

    def _entry(self, place: int, square: float) -> dict[str, Any]:
        label = self._task.names(self.predictions.labels[place], self._names)
        return {
            'label': ', '.join(label) or 'no label',
            'path': str(self.predictions.paths[place]),
            'distance': max(square + 1, 0.0) ** 0.5,  # the squared norm of the query is 1
            'source': self._picture(place),
        }

    def _decoded_picture(self, place: int) -> str:
        try:
            image, valid = inputs.row(self._examples, self._preprocessing, place)
        except (InputError, OSError):
            return ''
        return thumbnails.data_uri(thumbnails.thumbnail(image)) if valid else ''


@dataclasses.dataclass(frozen=True)
class References:
    """What images on the page are compared with.

    Attributes:
        training: the training images; None without them.
        detector: of images unlike those of training; None without one.
        notes: a sentence for each of them.
    """

    training: TrainingImages | None = None
    detector: Detector | None = None
    notes: tuple[str, ...] = ()


def read(subject: Subject, most: int, score: str) -> References:
    """Reads the training images of a run and fits an out-of-distribution score.

    Args:
        subject: the run.
        most: the largest number of training images; 0 reads none.
        score: the name of the score.
    """
    training, detector, notes = None, None, []
    try:
        training = TrainingImages(subject, most) if most else None
        notes.append(_training_text(training))
        notes += training.notes if training else ()
    except (InputError, OSError) as error:
        notes.append(f'The nearest training images are missing: {_reason(error)}')
    try:
        detector = _detector(subject, score, training)
        notes.append(
            f'An image is marked as unlike the training images if its score, {score}, is below '
            f'{detector.threshold:.3g}, which 95 % of the validation images reach.'
        )
    except (InputError, OSError) as error:
        notes.append(f'No image is marked as unlike the training images: {_reason(error)}')
    return References(training, detector, tuple(notes))


def _detector(subject: Subject, score: str, training: TrainingImages | None) -> Detector:
    """See `unfamiliar.detector`."""
    if not subject.network.task.one_label:
        raise InputError('the scores need one class for each image')
    if training is None and score not in OF_LOGITS:
        raise InputError(f'the score {score} needs training images')
    return unfamiliar.detector(subject, score, training.predictions if training else None)


def _training_text(training: TrainingImages | None) -> str:
    if training is None:
        return 'The nearest training images are missing: --training_images is 0.'
    return (
        f'The nearest images are those of {len(training.predictions):,} training images with the '
        'smallest distance between features of length 1: 0 is equal, 2 is opposite.'
    )


def _reason(error: Exception) -> str:
    return ' '.join(str(error).split()).rstrip('.') + '.'
