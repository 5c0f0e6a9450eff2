"""Predictions on held-out images, and paired comparisons between candidates."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.metrics.totals import wilson_interval
from tljax.types import InputError

TEMPERATURES = np.geomspace(1 / 20, 20.0, 49)
MIN_ERROR_IMAGES = 0.5  # added to the error of a difference, which is 0 if all images agree
BOOTSTRAP_DRAWS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutPredictions:
    """Logits of a network on images that it was not trained on.

    Attributes:
        ids: [M] of the images.
        labels: [M] int.
        logits: [M, K].
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def correct(self) -> np.ndarray:
        """[M] bool; ties count as wrong, so NaN logits are never right."""
        label_logits = self.logits[np.arange(len(self)), self.labels]
        return (~(self.logits < label_logits[:, None])).sum(-1) == 1

    @property
    def accuracy(self) -> float:
        """The share of correct predictions."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson_interval(int(self.correct.sum()), len(self))

    @functools.cached_property
    def losses(self) -> np.ndarray:
        """[T, M] cross-entropy in nats at every temperature."""
        return np.stack([self.losses_at(temperature) for temperature in TEMPERATURES])

    def losses_at(self, temperature: float) -> np.ndarray:
        """[M] cross-entropy in nats; logits that are not finite count as 0."""
        scaled = np.where(np.isfinite(self.logits), self.logits, 0.0) / temperature
        scaled = (scaled - scaled.max(-1, keepdims=True)).astype(np.float64)
        label_logits = scaled[np.arange(len(self)), self.labels]
        return np.log(np.exp(scaled).sum(-1)) - label_logits


def joined(parts: Sequence[HeldOutPredictions]) -> HeldOutPredictions:
    """The predictions of several folds as one."""
    if not parts:
        raise InputError('there are no predictions to join')
    return HeldOutPredictions(
        ids=np.concatenate([part.ids for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
    )


def calibrated_losses(predictions: HeldOutPredictions) -> np.ndarray:
    """[M] losses in nats at the temperature with the smallest mean.

    Calibration removes the penalty on networks that are overconfident.
    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """
    return predictions.losses[predictions.losses.mean(-1).argmin()]


def scores(predictions: HeldOutPredictions) -> np.ndarray:
    """[M] the mean of correctness (0 or 1) and the calibrated probability of the label.

    Correctness is the goal. The probability separates candidates on few images, where accuracy is
    too coarse. Both are in [0, 1].
    """
    return (predictions.correct + np.exp(-calibrated_losses(predictions))) / 2


def _bootstrap_scores(
    predictions: HeldOutPredictions, rows: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The mean score [D] of `rows` under weights [D, R], each draw with its own temperature.

    The temperature is refitted because few images leave it uncertain.
    """
    losses = predictions.losses[:, rows]
    best = (weights @ losses.T).argmin(-1)
    correct = weights @ predictions.correct[rows]
    probabilities = np.einsum('dr,dr->d', weights, np.exp(-losses[best]))
    return (correct + probabilities) / 2 / weights.sum(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean difference in score of two candidates on the images that both predicted.

    Attributes:
        mean: of the differences.
        error: its bootstrapped standard error, at least that of half an image.
        count: of images.
    """

    mean: float
    error: float
    count: int


def difference(one: HeldOutPredictions, other: HeldOutPredictions) -> Difference:
    """The score of `one` minus that of `other`, image by image.

    Raises:
        InputError: they have no image in common.
    """
    common, first, second = np.intersect1d(one.ids, other.ids, return_indices=True)
    if not len(common):
        raise InputError('two candidates were evaluated on different images')
    count = len(common)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(count, np.full(count, 1 / count), BOOTSTRAP_DRAWS).astype(np.float64)
    draws = _bootstrap_scores(one, first, weights) - _bootstrap_scores(other, second, weights)
    mean = scores(one)[first].mean() - scores(other)[second].mean()
    return Difference(
        mean=float(mean),
        error=math.hypot(float(draws.std()), MIN_ERROR_IMAGES / count),
        count=count,
    )


def ranked(predictions: Mapping[str, HeldOutPredictions]) -> list[str]:
    """Names from the highest to the lowest mean score on the images that all predicted."""
    common = set.intersection(*(set(one.ids.tolist()) for one in predictions.values()))
    if not common:
        raise InputError('the candidates were evaluated on different images')
    means = {
        name: scores(one)[np.isin(one.ids, list(common))].mean()
        for name, one in predictions.items()
    }
    return sorted(predictions, key=lambda name: -means[name])


def images_needed(measured: Difference, errors: float = 2.0) -> int | None:
    """The number of held-out images that would make a difference significant.

    Args:
        measured: the difference so far, taken to be the true one.
        errors: standard errors that count as significant.

    Returns:
        The number; None if the difference is 0.
    """
    if abs(measured.mean) < 1e-9:
        return None
    return math.ceil(measured.count * (errors * measured.error / measured.mean) ** 2)
