"""Accuracies as scores, each example held out in its turn."""

import numpy as np

from tljax.features.transferability import checks, spectra
from tljax.types import Array, InputError

ROWS = 1024  # of distances at a time
# Ridge penalties, relative to the mean squared singular value of the features.
STRENGTHS = tuple(10.0**power for power in range(-6, 4))


def knn_accuracy(features: Array, labels: Array, *, neighbours: int = 5) -> float:
    """The share of examples that most of their nearest neighbours are of the class of.

    Larger is better. Distances are Euclidean, an example is no neighbour of itself, and of classes
    with as many neighbours the one with the nearest is taken. Rotating, shifting and scaling all
    features alike leaves it as it is.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        neighbours: at most N - 1.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite, a class without
            examples.

    Source: Cover and Hart 1967; as a score of transferability, Renggli et al. 2022, "Which Model to
    Transfer? Finding the Needle in the Growing Haystack".
    """
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    if not 0 < neighbours < len(x):
        raise InputError(f'neighbours is {neighbours}, wanted 1 to {len(x) - 1}')
    x = x - x.mean(0)  # smaller numbers, less cancellation
    norms = (x**2).sum(1)
    # A nearer neighbour outweighs all farther ones of a tie, but never one vote.
    votes = 1 + 0.5 ** np.arange(1.0, neighbours + 1)
    right = 0
    for start in range(0, len(x), ROWS):
        rows = np.arange(start, min(start + ROWS, len(x)))
        distances = norms - 2 * (x[rows] @ x.T)  # but for the row's own norm
        distances[rows - start, rows] = np.inf
        near = np.argpartition(distances, neighbours - 1, 1)[:, :neighbours]
        order = np.take_along_axis(distances, near, 1).argsort(1, kind='stable')
        found = classes.labels[np.take_along_axis(near, order, 1)]
        counts = np.zeros((len(rows), len(classes.counts)))
        np.add.at(counts, (np.arange(len(rows))[:, None], found), votes)
        right += int((counts.argmax(1) == classes.labels[rows]).sum())
    return right / len(x)


def linear_probe_accuracy(
    features: Array, labels: Array, *, strengths: tuple[float, ...] = STRENGTHS
) -> float:
    """The share of examples that a linear probe trained on all others gets right.

    Larger is better. The probe is a ridge regression on the indicators of the classes, with an
    intercept; its penalty is the one with the least squared error on the examples held out, so that
    the accuracy is a little optimistic. Rotating, shifting and scaling all features alike leaves it
    as it is.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        strengths: penalties to choose among, relative to the mean squared singular value.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite, a class without
            examples.

    Source: Allen 1974 for the closed form of leaving one out.
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
    """What ridge regressions with an intercept predict for rows they were not fitted to.

    Args:
        x: [N, F].
        y: [N, K].
        weights: [N] of the rows' squared errors, of sum 1.
        strengths: of the penalty, relative to the mean squared singular value of the weighted rows;
            the one with the least weighted error is taken.

    Returns:
        [N, K].
    """
    root = np.sqrt(weights)[:, None]
    mean = weights @ y
    found = spectra.factors(root * (x - weights @ x))
    u, inner = found.left(), found.project(root * (y - mean))
    scale = found.squares.mean() if len(found.squares) else 1.0
    best, least = y, np.inf
    for strength in strengths:
        kept = found.squares / (found.squares + strength * scale)
        fitted = mean + u @ (kept[:, None] * inner) / root
        leverage = weights + (u**2) @ kept
        errors = (y - fitted) / (1 - leverage)[:, None]
        loss = float(weights @ (errors**2).sum(1))
        if loss < least:
            best, least = y - errors, loss
    return best
