"""Scores from the separation of classes: TransRate and GBC."""

import numpy as np
import scipy.linalg

from tljax.features.transferability import checks, spectra
from tljax.types import Array, InputError


def transrate(features: Array, labels: Array, *, distortion: float = 1e-4) -> float:
    """TransRate: larger is better.

    The coding rate of the features at a distortion, in nats, minus the rate if each class is coded
    separately. It estimates the mutual information of features and labels. The score is invariant
    to rotation and shift, and depends on scale relative to the distortion.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        distortion: of the code, in squared units of the features.

    Raises:
        InputError: a shape, type or range does not fit, a value is not finite, or a class has no
            examples.

    Source: Huang et al. 2022, "Frustratingly Easy Transferability Estimation". The weight of a
    class is its share of the examples, as in coding rates (Yu et al. 2020). The program in the
    paper takes the mean of the classes, which is the same if they are balanced. The features of a
    class are not centred again.
    """
    if not 0 < distortion < np.inf:
        raise InputError(f'distortion is {distortion}, wanted more than 0')
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    x = x - x.mean(0)
    ordered = x[np.argsort(classes.labels, kind='stable')]
    parts = np.split(ordered, np.cumsum(classes.counts)[:-1])
    rates = np.array([_coding_rate(part, distortion) for part in parts])
    return _coding_rate(x, distortion) - float(rates @ classes.counts) / len(x)


def _coding_rate(x: np.ndarray, distortion: float) -> float:
    """`log det(I + x.T x / (n distortion)) / 2`, by the smaller of the two Gram matrices."""
    scaled = spectra.gram(x if x.shape[0] > x.shape[1] else x.T) / (len(x) * distortion)
    scaled[np.diag_indices_from(scaled)] += 1
    root = scipy.linalg.cholesky(scaled, check_finite=False, overwrite_a=True)
    return float(np.log(np.diag(root)).sum())


def gbc(
    features: Array,
    labels: Array,
    *,
    components: int = 64,
    spherical: bool = False,
    least_variance: float = 1e-4,
) -> float:
    """Gaussian Bhattacharyya coefficient: larger is better, from -K (K - 1) to 0.

    Minus the overlap of the classes as Gaussians, summed over ordered pairs. The score is invariant
    to rotation and shift, and depends on scale only by `least_variance`.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        components: number of principal components that are kept.
        spherical: use one variance per class instead of one per component.
        least_variance: lower limit of a variance, as in the authors' program.

    Raises:
        InputError: a shape, type or range does not fit, a value is not finite, or a class has no
            examples.

    Source: Pandy et al. 2022, "Transferability Estimation using Bhattacharyya Class Separability".
    """
    if components < 1 or not 0 < least_variance < np.inf:
        raise InputError(
            f'components is {components} and least_variance {least_variance}, wanted 1 or more '
            'and more than 0'
        )
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    x = spectra.principal(x - x.mean(0), components)
    means = classes.means(x)
    variances = classes.means((x - means[classes.labels]) ** 2).clip(least_variance)
    if spherical:
        variances = np.broadcast_to(variances.mean(1, keepdims=True), means.shape)
    logs = np.log(variances).sum(1)
    overlap = -float(len(means))  # each class with itself
    for mean, variance, log in zip(means, variances, logs, strict=True):
        middle = (variances + variance) / 2
        distance = ((means - mean) ** 2 / middle).sum(1) / 8
        shape = (np.log(middle).sum(1) - (logs + log) / 2) / 2
        overlap += np.exp(-distance - shape).sum()
    return -float(overlap)
