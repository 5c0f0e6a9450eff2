"""Scores that are accuracies with every example held out in turn."""

import numpy as np

from tljax.features.nearest import nearest
from tljax.features.transferability import checks, spectra
from tljax.types import Array, InputError

BLOCK = 1024  # examples whose distances are in memory at a time
# Ridge penalties, relative to the mean squared singular value of the features.
STRENGTHS = tuple(10.0**power for power in range(-6, 4))


def knn_accuracy(features: Array, labels: Array, *, neighbours: int = 5) -> float:
    """Leave-one-out accuracy of k-nearest-neighbour classification: larger is better.

    Distances are Euclidean. Of classes with equally many neighbours, the one with the nearest
    neighbour is predicted. The score is invariant to rotation, shift and uniform scale of the
    features.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        neighbours: k, at most N - 1.

    Raises:
        InputError: a shape, type or range does not fit, a value is not finite, or a class has no
            examples.

    Source: Cover and Hart 1967; as a score of transferability, Renggli et al. 2022, "Which Model to
    Transfer? Finding the Needle in the Growing Haystack".
    """
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    if not 0 < neighbours < len(x):
        raise InputError(f'neighbours is {neighbours}, wanted 1 to {len(x) - 1}')
    x = x - x.mean(0)  # differences of smaller numbers lose fewer digits
    # In a tie a nearer neighbour outweighs all farther ones. All extra weights are below one vote.
    votes = 1 + 0.5 ** np.arange(1.0, neighbours + 1)
    predicted = []
    for places, distances in nearest(x, x, neighbours, block=BLOCK, leave_one_out=True):
        order = distances.argsort(1, kind='stable')
        labels_in_order = classes.labels[np.take_along_axis(places, order, 1)]
        counts = np.zeros((len(places), len(classes.counts)))
        np.add.at(counts, (np.arange(len(places))[:, None], labels_in_order), votes)
        predicted.append(counts.argmax(1))
    return int((np.concatenate(predicted) == classes.labels).sum()) / len(x)


def linear_probe_accuracy(
    features: Array, labels: Array, *, strengths: tuple[float, ...] = STRENGTHS
) -> float:
    """Leave-one-out accuracy of a linear probe: larger is better.

    The probe is a ridge regression with an intercept on the indicators of the classes. Its penalty
    minimises the squared error on the held-out examples, so the accuracy is slightly optimistic.
    The score is invariant to rotation, shift and uniform scale of the features.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        strengths: candidates for the penalty, relative to the mean squared singular value.

    Raises:
        InputError: a shape, type or range does not fit, a value is not finite, or a class has no
            examples.

    Source: Allen 1974 for the closed form of leave-one-out.
    """
    if not strengths or not all(0 < strength < np.inf for strength in strengths):
        raise InputError(f'strengths is {strengths}, wanted values more than 0')
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    weights = np.full(len(x), 1 / len(x))
    held_out = leave_one_out(x, classes.indicators(), weights, strengths)
    return float((held_out.argmax(1) == classes.labels).mean())


def leave_one_out(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, strengths: tuple[float, ...]
) -> np.ndarray:
    """Leave-one-out predictions of a ridge regression with an intercept.

    Args:
        x: [N, F].
        y: [N, K].
        weights: [N] of the rows' squared errors, with sum 1.
        strengths: candidates for the penalty, relative to the mean squared singular value of the
            weighted rows. The one with the smallest weighted error is used.

    Returns:
        [N, K].
    """
    root = np.sqrt(weights)[:, None]
    mean = weights @ y
    factors = spectra.factors(root * (x - weights @ x))
    u, inner = factors.left(), factors.project(root * (y - mean))
    scale = factors.squares.mean() if len(factors.squares) else 1.0
    best, least = y, np.inf
    for strength in strengths:
        kept = factors.squares / (factors.squares + strength * scale)
        fitted = mean + u @ (kept[:, None] * inner) / root
        leverage = weights + (u**2) @ kept
        errors = (y - fitted) / (1 - leverage)[:, None]
        loss = float(weights @ (errors**2).sum(1))
        if loss < least:
            best, least = y - errors, loss
    return best
