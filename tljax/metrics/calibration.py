"""Calibration: whether predicted probabilities equal the frequencies of correct predictions.

All functions compute in NumPy float64. Labels are [N] int; with several labels per image they are
[N, K], 1 for each label of the image. Then each decision (an image and a class) counts as one
example: its confidence is the larger of p and 1 - p, and it is correct if p > 0.5 agrees with the
label.

Equal-width bins are `(k/B, (k+1)/B]`, as in Guo et al. 2017, and 0 is in the first bin. Bins of
torchmetrics and netcal include the other edge, which matters only for values on an edge.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from tljax.types import Array, InputError

BINS = 15  # Guo et al. 2017
FEW_IMAGES = 50  # a temperature that is fitted to fewer images is unsure


def probabilities(logits: Array, *, multi_label: bool = False, temperature: float = 1) -> Array:
    """Converts logits [N, K] to probabilities [N, K] float64 at a temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    return scipy.special.expit(scaled) if multi_label else scipy.special.softmax(scaled, -1)


def confidences(predicted: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each decision, and whether it is correct.

    Args:
        predicted: probabilities [N, K].
        labels: [N], or [N, K].

    Returns:
        [N] float64 and [N] bool; with several labels [N K]. If probabilities are equal, the first
        class is the predicted one.

    Raises:
        InputError: other shapes, no image, or values outside of [0, 1].
    """
    p, labels = _checked(predicted, labels)
    if labels.ndim == 2:
        return np.maximum(p, 1 - p).ravel(), ((p > 0.5) == (labels > 0)).ravel()
    return p.max(-1), p.argmax(-1) == labels


def expected_calibration_error(
    predicted: Array, labels: Array, bins: int = BINS, *, equal_mass: bool = False
) -> float:
    """The mean distance between confidence and accuracy over bins, weighted by numbers of images.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3.

    Args:
        predicted: probabilities [N, K].
        labels: [N], or [N, K].
        bins: B.
        equal_mass: whether bins have equal numbers of images instead of equal widths. Images of
            equal confidence can be in two bins.
    """
    confidence, right = confidences(predicted, labels)
    place = _equal_mass(confidence, bins) if equal_mass else _equal_width(confidence, bins)
    gaps, counts = _gaps(confidence, right, place, bins)
    return float((gaps * counts).sum() / len(confidence))


def class_wise_calibration_error(predicted: Array, labels: Array, bins: int = BINS) -> float:
    """The calibration error of the probability of each class, averaged over classes.

    Source: the static calibration error of Nixon et al. 2019 (equal-width bins over all images).
    """
    p, present = _per_class(predicted, labels)
    return float(np.mean([_class_error(*one, bins) for one in zip(p.T, present.T, strict=True)]))


def _class_error(p: np.ndarray, present: np.ndarray, bins: int) -> float:
    gaps, counts = _gaps(p, present, _equal_width(p, bins), bins)
    return float((gaps * counts).sum() / len(p))


def adaptive_calibration_error(predicted: Array, labels: Array, bins: int = BINS) -> float:
    """The mean gap over classes and over bins of equal numbers of images.

    Source: Nixon et al. 2019, equation 3. Every bin has the same weight. If there are fewer images
    than bins, empty bins are ignored.
    """
    p, present = _per_class(predicted, labels)
    means = []
    for values, labelled in zip(p.T, present.T, strict=True):
        gaps, counts = _gaps(values, labelled, _equal_mass(values, bins), bins)
        means.append(gaps[counts > 0].mean())
    return float(np.mean(means))


def brier_score(predicted: Array, labels: Array) -> float:
    """The squared distance between probabilities and labels, averaged over images.

    Source: Brier 1950: the sum over classes, in [0, 2]. With several labels the mean over classes,
    in [0, 1].
    """
    p, present = _per_class(predicted, labels)
    squares = np.square(p - present)
    return float(squares.mean() if np.ndim(labels) == 2 else squares.sum(-1).mean())


def negative_log_likelihood(logits: Array, labels: Array, temperature: float = 1.0) -> float:
    """The mean cross-entropy of the labels in nats; with several labels the mean over classes.

    Args:
        logits: [N, K].
        labels: [N], or [N, K].
        temperature: divides the logits.
    """
    z, labels = checked_logits(logits, labels)
    return likelihood_and_gradient(z / temperature, labels)[0]


def summary(logits: Array, labels: Array, temperature: float = 1.0) -> dict[str, float]:
    """All measures of calibration by name, at a temperature."""
    labels = np.asarray(labels)
    p = probabilities(logits, multi_label=labels.ndim == 2, temperature=temperature)
    return {
        'ece': expected_calibration_error(p, labels),
        'ece_equal_mass': expected_calibration_error(p, labels, equal_mass=True),
        'ece_class_wise': class_wise_calibration_error(p, labels),
        'ece_adaptive': adaptive_calibration_error(p, labels),
        'brier': brier_score(p, labels),
        'negative_log_likelihood': negative_log_likelihood(logits, labels, temperature),
    }


class Reliability(NamedTuple):
    """A reliability diagram: [B] values of equal-width bins; NaN for the means of an empty bin.

    Attributes:
        left: the lower edge of each bin.
        right: the upper edge of each bin.
        images: the number of images in the bin; with several labels, of decisions.
        confidence: the mean confidence.
        accuracy: the share of correct decisions.
        low: the lower end of the 95 % interval of the accuracy.
        high: the upper end.
    """

    left: np.ndarray
    right: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def reliability(
    predicted: Array, labels: Array, bins: int = BINS, *, resamples: int = 1000, seed: int = 0
) -> Reliability:
    """The reliability diagram with bootstrap intervals.

    Resampling images changes only the counts of correct and wrong decisions in each bin, so the
    counts are drawn from their multinomial distribution.

    Args:
        predicted: probabilities [N, K].
        labels: [N], or [N, K].
        bins: B.
        resamples: the number of resamples of the bootstrap.
        seed: of the bootstrap.
    """
    confidence, right = confidences(predicted, labels)
    place = _equal_width(confidence, bins)
    count = np.bincount(place, minlength=bins)
    hits = np.bincount(place, right, minlength=bins)
    shares = np.concatenate([hits, count - hits]) / len(place)
    drawn = np.random.default_rng(seed).multinomial(len(place), shares, resamples)
    drawn_hits, drawn_counts = drawn[:, :bins], drawn[:, :bins] + drawn[:, bins:]
    accuracies = _ratio(drawn_hits, drawn_counts)
    accuracies[:, count == 0] = 0  # NumPy warns about the quantile of NaN alone
    low, high = np.nanquantile(accuracies, (0.025, 0.975), axis=0)
    empty = count == 0
    edges = np.arange(bins + 1) / bins
    return Reliability(
        left=edges[:-1],
        right=edges[1:],
        images=count,
        confidence=_ratio(np.bincount(place, confidence, minlength=bins), count),
        accuracy=_ratio(hits, count),
        low=np.where(empty, np.nan, low),
        high=np.where(empty, np.nan, high),
    )


def likelihood_and_gradient(z: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean negative log-likelihood of float64 logits, and its gradient [N, K]."""
    # Written so that no slope is 1 - p, which rounds to 0 for a sure prediction.
    if labels.ndim == 2:
        signs = np.where(labels > 0, -1.0, 1.0)
        losses = np.logaddexp(0, signs * z)
        return float(losses.mean()), signs * scipy.special.expit(signs * z) / z.size
    rows = np.arange(len(z))
    log_p = scipy.special.log_softmax(z, -1)
    slopes = np.exp(log_p)
    slopes[rows, labels] = 0
    slopes[rows, labels] = -slopes.sum(-1)
    return float(-log_p[rows, labels].mean()), slopes / len(z)


def _checked(predicted: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, K] as float64, and labels; see `checked_logits`."""
    p, labels = checked_logits(predicted, labels, 'probabilities')
    if not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1 + 1e-6):
        raise InputError('probabilities are not all in [0, 1]')
    return p, labels


def checked_logits(
    logits: Array, labels: Array, name: str = 'logits'
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, K] as float64, and labels [N] int or [N, K] float64; see `confidences`.

    Raises:
        InputError: other shapes, no image, or labels outside of the classes.
    """
    z, labels = np.asarray(logits, np.float64), np.asarray(labels)
    fits = z.ndim == 2 and z.size and labels.shape in (z.shape[:1], z.shape)
    if not fits:
        raise InputError(
            f'{name} are {list(z.shape)} and labels {list(labels.shape)}, wanted [N, K] of one or '
            'more images, and [N] or [N, K]'
        )
    if labels.ndim == 2:
        return z, (labels > 0).astype(np.float64)
    if labels.dtype.kind not in 'iu' or labels.min() < 0 or labels.max() >= z.shape[1]:
        raise InputError(f'labels are {labels.dtype}, wanted integers from 0 to {z.shape[1] - 1}')
    return z, labels


def _per_class(predicted: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, K], and labels [N, K], 1 for each class of an image."""
    p, labels = _checked(predicted, labels)
    return p, labels if labels.ndim == 2 else np.eye(p.shape[1])[labels]


def _equal_width(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin [N] of values in [0, 1]: the first bin whose upper edge is at least the value."""
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, values, side='left')


def _equal_mass(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin [N] of sorted values; bins have equal sizes, or the first bins one value more."""
    place = np.empty(len(values), int)
    groups = np.array_split(np.argsort(values, kind='stable'), bins)
    for number, members in enumerate(groups):
        place[members] = number
    return place


def _gaps(
    values: np.ndarray, right: np.ndarray, place: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """|mean of right - mean of values| and the number of values in each bin; 0 for empty bins."""
    counts = np.bincount(place, minlength=bins)
    difference = np.bincount(place, right - values, minlength=bins)
    return np.abs(difference) / np.maximum(counts, 1), counts


def _ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.where(total > 0, part / np.maximum(total, 1), np.nan)
