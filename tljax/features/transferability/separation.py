"""Scores by how far classes lie apart: TransRate and GBC."""

import numpy as np
import scipy.linalg

from tljax.features.transferability import checks, spectra
from tljax.types import Array, InputError


def transrate(features: Array, labels: Array, *, distortion: float = 1e-4) -> float:
    """TransRate: larger is better.

    The bits that the features take at a given distortion (in nats), less those that they take when
    each class is coded for itself: an estimate of the mutual information of features and labels. It
    does not change with rotation or shift; it does with scale, relative to the distortion.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        distortion: of the code, in squared units of the features.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite, a class without
            examples.

    Source: Huang et al. 2022, "Frustratingly Easy Transferability Estimation". A class counts by
    its share of the examples, as in coding rates (Yu et al. 2020); the program printed in the paper
    takes the mean of the classes, the same where they are balanced. The features of a class are not
    centred again.
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
    """`log det(I + x.T x / (n distortion)) / 2`, from the smaller of the two Gram matrices."""
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

    Minus the overlap of the classes, each a Gaussian, summed over ordered pairs. It does not change
    with rotation or shift; with scale only as far as `least_variance` reaches.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        components: principal components that are kept before.
        spherical: one variance a class, instead of one for each component.
        least_variance: smaller ones of a class are raised to this, as in the authors' program.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite, a class without
            examples.

    Source: Pandy et al. 2022, "Transferability Estimation using Bhattacharyya Class Separability".
    """
    if components < 1 or not 0 < least_variance < np.inf:
        raise InputError(
            f'components is {components} and least_variance {least_variance}, wanted 1 or more, '
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
        apart = ((means - mean) ** 2 / middle).sum(1) / 8
        shape = (np.log(middle).sum(1) - (logs + log) / 2) / 2
        overlap += np.exp(-apart - shape).sum()
    return -float(overlap)
