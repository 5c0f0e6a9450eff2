"""Scores from the variance between and within classes: H-score, its shrunk form, and SFDA."""

import numpy as np
import scipy.linalg

from tljax.features.shrinkage import ledoit_wolf
from tljax.features.transferability import checks, spectra
from tljax.features.transferability.checks import ClassLabels
from tljax.types import Array

CONSTANT = 1e-12  # a channel varies if its spread is more than this times its size
SHRINKAGE_RATE, LEAST_SHRINKAGE = 5.0, 1e-10  # the values of SFDA's authors


def h_score(features: Array, labels: Array) -> float:
    """H-score: larger is better, from 0 to min(K - 1, F).

    The variance between classes relative to the total, `tr(cov(f)^-1 cov(E[f | y]))`. The score is
    invariant to any invertible affine map of the features. With F >= N independent features it is
    always K - 1: use `shrunk_h_score` instead.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Raises:
        InputError: a shape or type does not fit, a value is not finite, or a class has no examples.

    Source: Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task Transfer
    Learning"; the inverse is the pseudo-inverse.
    """
    x, classes = _centred(features, labels)
    spread = np.sqrt((x**2).mean(0))
    varied = spread > CONSTANT * np.abs(np.asarray(features, np.float64)).max(0)
    factors = spectra.factors(x[:, varied] / spread[varied])
    return float((factors.project(classes.indicators()) ** 2 / classes.counts).sum())


def shrunk_h_score(features: Array, labels: Array) -> float:
    """H-score with Ledoit and Wolf's shrunk covariance: larger is better, 0 to K - 1.

    Made for few examples with many features, whose sample covariance is singular or nearly so.
    The score is invariant to rotation, shift and uniform scale of the features.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Raises:
        InputError: a shape or type does not fit, a value is not finite, or a class has no examples.

    Source: Ibrahim et al. 2022, "Newer is not always better", `(1 - a) tr(cov_a(f)^-1
    cov(E[f | y]))`; here all covariances are divided by N.
    """
    x, classes = _centred(features, labels)
    factors = spectra.factors(x)
    variances = factors.squares / len(x)
    if not variances.sum():
        return 0.0
    error, distance = ledoit_wolf(x, variances.sum(), (variances**2).sum())
    shrinkage = min(error / distance, 1) if distance > 0 else 1.0
    between = factors.project(classes.indicators()) ** 2 / classes.counts
    kept = (1 - shrinkage) * variances
    mean = variances.sum() / x.shape[1]
    return float(((kept / (kept + shrinkage * mean))[:, None] * between).sum())


def sfda(features: Array, labels: Array) -> float:
    """Self-challenging Fisher discriminant analysis: larger is better, at most 0.

    A discriminant analysis is fitted twice. Its regularisation is stronger if the features vary
    less within classes. The second fit uses features that were moved towards the mean of the other
    classes, the more the lower the first fit's probability of the true class is. The score is the
    log probability of the true class in the second fit. It is invariant to rotation and shift, and
    depends on scale, because the regularisation does.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Returns:
        The mean log probability of the true class, in nats.

    Raises:
        InputError: a shape or type does not fit, a value is not finite, or a class has no examples.

    Source: Shao et al. 2022, "Not All Models Are Equal: Predicting Model Transferability in a
    Self-challenging Fisher Space". The authors' program takes the mean of the probability, not of
    its logarithm, for numerical stability, and approximates the largest eigenvalue.
    """
    x, classes = _centred(features, labels)
    width = x.shape[1]
    if width > len(x):  # N rows have the same geometry in N coordinates
        _, triangle = np.linalg.qr(x.T)
        x = triangle.T
    within = _within(x, classes)
    largest = scipy.linalg.eigvalsh(within, subset_by_index=[len(within) - 1] * 2)[0]
    shrinkage = max(np.exp(-SHRINKAGE_RATE * largest), LEAST_SHRINKAGE)
    posterior = np.exp(_log_posterior(x, classes, shrinkage, width))
    confidences = np.exp(posterior) / np.exp(posterior).sum(1, keepdims=True)
    confidence = confidences[np.arange(len(x)), classes.labels][:, None]
    means = classes.means(x)
    others = (means.sum(0) - means) / (len(means) - 1)
    mixed = confidence * x + (1 - confidence) * others[classes.labels]
    log_posterior = _log_posterior(mixed, classes, shrinkage, width)
    return float(log_posterior[np.arange(len(x)), classes.labels].mean())


def _log_posterior(x: np.ndarray, classes: ClassLabels, shrinkage: float, width: int) -> np.ndarray:
    """Log probabilities [N, K] of a linear discriminant analysis of `width` original features."""
    within = _within(x, classes)
    # If no class varies, a small part of the total variance keeps the matrix invertible.
    mean = max(np.trace(within) / width, CONSTANT * (x**2).mean()) or 1.0
    shrunk = (1 - shrinkage) * within + shrinkage * mean * np.eye(len(within))
    means = classes.means(x)
    weights = scipy.linalg.solve(shrunk, means.T, assume_a='pos')
    bias = np.log(classes.counts / len(x)) - 0.5 * (means * weights.T).sum(1)
    logits = x @ weights + bias
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _within(x: np.ndarray, classes: ClassLabels) -> np.ndarray:
    """The covariance [F, F] within classes."""
    return spectra.gram(x - classes.means(x)[classes.labels]) / len(x)


def _centred(features: Array, labels: Array) -> tuple[np.ndarray, ClassLabels]:
    x = checks.matrix('features', features)
    return x - x.mean(0), checks.classes('labels', labels, len(x))
