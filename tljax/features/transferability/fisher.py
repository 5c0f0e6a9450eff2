"""Scores by variance between and within classes: H-score, its shrunk form, and SFDA."""

import numpy as np
import scipy.linalg

from tljax.features.transferability import checks, spectra
from tljax.features.transferability.checks import Classes
from tljax.types import Array

CONSTANT = 1e-12  # spread of a channel, relative to its size, that is rounding
SHRINKAGE_RATE, LEAST_SHRINKAGE = 5.0, 1e-10  # as the authors of SFDA set them


def h_score(features: Array, labels: Array) -> float:
    """H-score: larger is better, from 0 to min(K - 1, F).

    The variance between classes relative to the whole, `tr(cov(f)^-1 cov(E[f | y]))`. Any
    invertible affine change of the features leaves it as it is. With F >= N independent features it
    is K - 1 whatever they are: use `shrunk_h_score` there.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Raises:
        InputError: other shapes or types, values that are not finite, a class without examples.

    Source: Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task Transfer
    Learning"; the inverse is the pseudo-inverse.
    """
    x, classes = _centred(features, labels)
    spread = np.sqrt((x**2).mean(0))
    varied = spread > CONSTANT * np.abs(np.asarray(features, np.float64)).max(0)
    found = spectra.factors(x[:, varied] / spread[varied])
    return float((found.project(classes.indicators()) ** 2 / classes.counts).sum())


def shrunk_h_score(features: Array, labels: Array) -> float:
    """H-score with the shrunk covariance of Ledoit and Wolf: larger is better, 0 to K - 1.

    For few examples of many features, where the sample covariance is singular or nearly so.
    Rotating, shifting and scaling all features alike leaves it as it is.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Raises:
        InputError: other shapes or types, values that are not finite, a class without examples.

    Source: Ibrahim et al. 2022, "Newer is not always better", `(1 - a) tr(cov_a(f)^-1
    cov(E[f | y]))`; all covariances have 1 / N here.
    """
    x, classes = _centred(features, labels)
    count = len(x)
    found = spectra.factors(x)
    variances = found.squares / count
    shrinkage, mean = _ledoit_wolf(x, variances)
    if not mean:
        return 0.0
    between = found.project(classes.indicators()) ** 2 / classes.counts
    kept = (1 - shrinkage) * variances
    return float(((kept / (kept + shrinkage * mean))[:, None] * between).sum())


def _ledoit_wolf(x: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """The share of the identity in the shrunk covariance, and its mean variance.

    Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices", lemma 3.1 to 3.4.
    """
    count, width = x.shape
    mean = variances.sum() / width
    off = (variances**2).sum() - width * mean**2
    error = ((x**2).sum(1) ** 2).sum() / count**2 - (variances**2).sum() / count
    return (float(min(error / off, 1)) if off > 0 else 1.0), float(mean)


def sfda(features: Array, labels: Array) -> float:
    """Self-challenging Fisher discriminant analysis: larger is better, at most 0.

    A discriminant analysis, regularised the more the less the features vary within classes, is
    fitted twice: on the features, and on features that were moved towards the other classes' mean,
    the more the less sure they were. The score is how sure the second is of the true classes. It
    does not change with rotation or shift; it does with scale, on which the regularisation depends.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.

    Returns:
        The mean log probability of the true class, in nats.

    Raises:
        InputError: other shapes or types, values that are not finite, a class without examples.

    Source: Shao et al. 2022, "Not All Models Are Equal: Predicting Model Transferability in a
    Self-challenging Fisher Space". The authors' program takes the mean of the probability instead
    of its logarithm, for want of stability, and a rough largest eigenvalue.
    """
    x, classes = _centred(features, labels)
    width = x.shape[1]
    if width > len(x):  # the same in the coordinates of the rows' span
        _, triangle = np.linalg.qr(x.T)
        x = triangle.T
    within = _within(x, classes)
    largest = scipy.linalg.eigvalsh(within, subset_by_index=[len(within) - 1] * 2)[0]
    shrinkage = max(np.exp(-SHRINKAGE_RATE * largest), LEAST_SHRINKAGE)
    posterior = np.exp(_log_posterior(x, classes, shrinkage, width))
    sure = np.exp(posterior) / np.exp(posterior).sum(1, keepdims=True)
    own = sure[np.arange(len(x)), classes.labels][:, None]
    means = classes.means(x)
    others = (means.sum(0) - means) / (len(means) - 1)
    mixed = own * x + (1 - own) * others[classes.labels]
    log_posterior = _log_posterior(mixed, classes, shrinkage, width)
    return float(log_posterior[np.arange(len(x)), classes.labels].mean())


def _log_posterior(x: np.ndarray, classes: Classes, shrinkage: float, width: int) -> np.ndarray:
    """[N, K] of a linear discriminant analysis; `width` is F where x has fewer columns."""
    within = _within(x, classes)
    # Where no class varies, a trace of the whole variance keeps the classes apart.
    mean = max(np.trace(within) / width, CONSTANT * (x**2).mean()) or 1.0
    shrunk = (1 - shrinkage) * within + shrinkage * mean * np.eye(len(within))
    means = classes.means(x)
    weights = scipy.linalg.solve(shrunk, means.T, assume_a='pos')
    bias = np.log(classes.counts / len(x)) - 0.5 * (means * weights.T).sum(1)
    logits = x @ weights + bias
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _within(x: np.ndarray, classes: Classes) -> np.ndarray:
    """The covariance [F, F] around the classes' means."""
    return spectra.gram(x - classes.means(x)[classes.labels]) / len(x)


def _centred(features: Array, labels: Array) -> tuple[np.ndarray, Classes]:
    x = checks.matrix('features', features)
    return x - x.mean(0), checks.classes('labels', labels, len(x))
