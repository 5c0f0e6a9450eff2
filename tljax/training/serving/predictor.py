"""What a run says about an image, for a page."""

import threading
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from tljax.metrics import class_names
from tljax.models import views
from tljax.records.figures.axes import share_text
from tljax.training import final_evaluation
from tljax.training.report import thumbnails
from tljax.training.serving import uploads
from tljax.training.serving.program import Outputs, Program
from tljax.training.serving.references import References
from tljax.training.serving.uploads import UploadError
from tljax.types import InputError, TextPreprocessing
from tljax.weights.network import Network

TOP = 5  # classes on the page
SIDE_PX = 224  # of pictures on the page


class Predictor:
    """Answers for one image after another.

    Several threads may call it: one image is decoded and computed at a time, so that many requests
    take no more memory than one.

    Args:
        network: of the run; see `check`.
        calibration: `calibration` of the run's result.json; None if no temperature was fitted.
        references: what images are compared with.

    Attributes:
        notes: a sentence for everything that a reader of the page should know.
    """

    def __init__(
        self,
        network: Network,
        calibration: Mapping[str, Any] | None,
        references: References = References(),  # noqa: B008  frozen
    ):
        self._images, self._references = network.model.images, references
        self._network, self._program = network, Program(network)
        self._names = class_names.labels(network.class_names, network.model.num_classes)
        self._lock = threading.Lock()
        self.notes = [
            _calibration_text(network, calibration),
            _saliency_text(self._program),
            *references.notes,
        ]

    def warm_up(self) -> None:
        """Compiles the program, so that the first answer is as fast as the others."""
        self._program(np.zeros((self._images.resize_px, self._images.resize_px, 3), np.uint8))

    def answer(self, data: bytes) -> dict[str, Any]:
        """What the run says about an image.

        Args:
            data: the content of an image file.

        Returns:
            JSON: the entries of `Task.record`; `headline`, the prediction as text; `top`, a list of
            `name`, `probability` and `text`; `pictures`, a list of `source`, a data URI, and
            `text`; `ood`, see `Detector.record`, or null without a detector; and `nearest`, see
            `TrainingImages.nearest`.

        Raises:
            UploadError: the image cannot be predicted.
        """
        with self._lock:
            image = uploads.decoded(data, self._images)
            outputs = self._program(image)
            if not all(np.isfinite(x).all() for x in (outputs.values, outputs.features)):
                raise UploadError('The outputs of the network for this image are not finite.', 422)
            return {
                **self._prediction(outputs.values),
                'pictures': self._pictures(image, outputs),
                'ood': self._verdict(outputs),
                'nearest': self._nearest(outputs),
            }

    def _verdict(self, outputs: Outputs) -> dict[str, Any] | None:
        """The out-of-distribution score; see `Detector.record`."""
        detector = self._references.detector
        if detector is None:
            return None
        logits, features = outputs.outputs[None], outputs.features[None]
        score = detector.scorer.score(detector.name, logits, features)
        return detector.record(float(score[0]))

    def _nearest(self, outputs: Outputs) -> list[dict[str, Any]]:
        training = self._references.training
        return training.nearest(outputs.features) if training else []

    def _prediction(self, values: np.ndarray) -> dict[str, Any]:
        """The prediction as values and as text."""
        task, names = self._network.task, self._names
        record = task.record(values, names)
        if task.numbers:
            texts = [' '.join(text.split()) for text in task.shown(values, names, TOP)]
            return record | {'headline': ', '.join(texts), 'top': []}
        headline = names[task.best(values)]
        if task.multi_label:
            headline = ', '.join(names[i] for i in np.flatnonzero(values > 0.5)) or 'no label'
        best = np.argsort(-values, kind='stable')[:TOP]
        top = [_share(names[i], float(values[i])) for i in best]
        return record | {'headline': headline, 'top': top}

    def _pictures(self, image: np.ndarray, outputs: Outputs) -> list[dict[str, str]]:
        """What the network sees of the image, and its saliency map."""
        seen = np.asarray(views.centre(jnp.asarray(image[None]), self._images.size_px))[0]
        pictures = [_picture(thumbnails.thumbnail(seen, SIDE_PX), 'what the network sees')]
        if outputs.heat is not None:
            heated = thumbnails.heated(seen, outputs.heat, SIDE_PX)
            pictures.append(_picture(heated, self._program.method))
        return pictures


def check(network: Network) -> None:
    """Raises: InputError: the network reads no photographs."""
    if isinstance(network.preprocessing, TextPreprocessing):
        raise InputError('tljax serve predicts images, and this run reads texts')
    channels = len(network.preprocessing.mean)
    if channels not in (1, 3):
        raise InputError(
            f'tljax serve predicts images of 1 or 3 channels, and this run reads {channels}'
        )


def _share(name: str, probability: float) -> dict[str, Any]:
    return {'name': name, 'probability': probability, 'text': share_text(probability)}


def _picture(picture: Any, text: str) -> dict[str, str]:
    return {'source': thumbnails.data_uri(picture), 'text': text}


def _calibration_text(network: Network, calibration: Mapping[str, Any] | None) -> str:
    """How far the probabilities can be trusted."""
    if network.task.numbers:
        return 'The run predicts numbers, so there are no probabilities.'
    if not network.task.calibrated:
        return 'Probabilities are not calibrated, because the classes are ordered.'
    text = final_evaluation.calibration_text(calibration) if network.temperature else None
    if text is None:
        return 'Probabilities are not calibrated: the run had no validation images to fit them to.'
    return f'Probabilities are calibrated. {text.partition(";")[0].rstrip(".")}.'


def _saliency_text(program: Program) -> str:
    if program.method == 'Grad-CAM':
        return (
            f'Grad-CAM (Selvaraju et al. 2017) of the stage {program.stage} shows the '
            'contribution of each position to the predicted class. Bright is high.'
        )
    if program.method:
        return (
            'Attention rollout (Abnar & Zuidema 2020) shows the contribution of each patch to the '
            'class token. Bright is high.'
        )
    return 'There is no saliency map: the network has no feature map, or predicts no plain classes.'
