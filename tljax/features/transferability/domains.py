"""Distances between the features of a source and of a target: smaller is nearer."""

import dataclasses

import numpy as np
import scipy.linalg

from tljax.features.transferability import checks, spectra
from tljax.features.transferability.accuracy import STRENGTHS, leave_one_out
from tljax.types import Array, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """What is kept of a source whose images are not: the mean [F] and covariance [F, F]."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: Array) -> Moments:
    """The mean and covariance (divided by N - 1) of features [N, F].

    Raises:
        InputError: another shape or type, values that are not finite.
    """
    return _moments('features', features)


def _moments(name: str, features: Array) -> Moments:
    x = checks.matrix(name, features)
    mean = x.mean(0)
    return Moments(mean=mean, covariance=spectra.gram(x - mean) / (len(x) - 1))


def frechet_distance(source: Moments | Array, target: Moments | Array) -> float:
    """Squared Frechet distance of two Gaussians with the features' moments: smaller is nearer.

    The two can be exchanged. It is 0 for equal moments, and grows with the square of the scale.

    Args:
        source: features [N, F], or their moments.
        target: features [M, F] of the same network, or their moments.

    Raises:
        InputError: other shapes or types, values that are not finite.

    Source: Dowson and Landau 1982; for features of networks, Heusel et al. 2017.
    """
    one, other = (
        _checked(name, value) if isinstance(value, Moments) else _moments(name, value)
        for name, value in (('source', source), ('target', target))
    )
    checks.same_width(len(one.mean), len(other.mean))
    # The sum of singular values of the product of roots is the trace of the root of the product,
    # without taking roots of rounding errors.
    product = _root(one.covariance) @ _root(other.covariance)
    common = np.linalg.svd(product, compute_uv=False).sum()
    apart = ((one.mean - other.mean) ** 2).sum()
    spread = np.trace(one.covariance) + np.trace(other.covariance)
    return max(float(apart + spread - 2 * common), 0.0)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _checked(name: str, given: Moments) -> Moments:
    mean, covariance = (np.asarray(a, np.float64) for a in (given.mean, given.covariance))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise InputError(
            f'{name} has a mean {list(mean.shape)} and a covariance {list(covariance.shape)}, '
            'wanted [F] and [F, F]'
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(f'{name} has moments that are not finite')
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * np.abs(covariance).max()):
        raise InputError(f'{name} has a covariance that is not symmetric')
    return Moments(mean=mean, covariance=covariance)


def proxy_a_distance(source: Array, target: Array) -> float:
    """Proxy A-distance: smaller is nearer, from 0 to 2.

    `2 (1 - 2 error)` of a linear classifier that tells the two domains apart, each example held out
    in its turn, both domains counting alike. The two can be exchanged. It does not change when the
    features are rotated, shifted or scaled alike.

    Args:
        source: features [N, F].
        target: features [M, F] of the same network.

    Raises:
        InputError: other shapes or types, values that are not finite.

    Source: Ben-David et al. 2006, "Analysis of Representations for Domain Adaptation", section 4;
    the classifier here is a ridge regression.
    """
    one, other = checks.matrix('source', source), checks.matrix('target', target)
    checks.same_width(one.shape[1], other.shape[1])
    side = np.repeat([1.0, -1.0], [len(one), len(other)])
    weights = np.repeat([0.5 / len(one), 0.5 / len(other)], [len(one), len(other)])
    told = leave_one_out(np.concatenate([one, other]), side[:, None], weights, STRENGTHS)[:, 0]
    error = float(weights @ (told * side <= 0))
    return max(2 * (1 - 2 * error), 0.0)
