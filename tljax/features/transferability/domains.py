"""Distances between the features of a source and a target domain: smaller is nearer."""

import dataclasses

import numpy as np
import scipy.linalg

from tljax.features.transferability import checks, spectra
from tljax.features.transferability.accuracy import STRENGTHS, leave_one_out
from tljax.types import Array, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """The mean [F] and covariance [F, F] of features, for a source without stored images."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: Array) -> Moments:
    """The mean and covariance (divided by N - 1) of features [N, F].

    Raises:
        InputError: the shape or type does not fit, or a value is not finite.
    """
    return _moments('features', features)


def _moments(name: str, features: Array) -> Moments:
    x = checks.matrix(name, features)
    mean = x.mean(0)
    return Moments(mean=mean, covariance=spectra.gram(x - mean) / (len(x) - 1))


def frechet_distance(source: Moments | Array, target: Moments | Array) -> float:
    """Squared Frechet distance of two Gaussians with the features' moments: smaller is nearer.

    The distance is symmetric. It is 0 for equal moments, and grows with the square of the scale.

    Args:
        source: features [N, F], or their moments.
        target: features [M, F] of the same network, or their moments.

    Raises:
        InputError: a shape or type does not fit, or a value is not finite.

    Source: Dowson and Landau 1982; for features of networks, Heusel et al. 2017.
    """
    one, other = (
        _checked(name, value) if isinstance(value, Moments) else _moments(name, value)
        for name, value in (('source', source), ('target', target))
    )
    checks.same_width(len(one.mean), len(other.mean))
    # The trace of the root of the product is the sum of the singular values of the product of
    # roots. This form takes no roots of rounding errors.
    product = _root(one.covariance) @ _root(other.covariance)
    common = np.linalg.svd(product, compute_uv=False).sum()
    between_means = ((one.mean - other.mean) ** 2).sum()
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return max(float(between_means + traces - 2 * common), 0.0)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _checked(name: str, value: Moments) -> Moments:
    mean, covariance = (np.asarray(a, np.float64) for a in (value.mean, value.covariance))
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

    It is `2 (1 - 2 error)`, where `error` is the leave-one-out error of a linear classifier between
    the two domains, which have equal weight. The distance is symmetric, and invariant to rotation,
    shift and uniform scale of the features.

    Args:
        source: features [N, F].
        target: features [M, F] of the same network.

    Raises:
        InputError: a shape or type does not fit, or a value is not finite.

    Source: Ben-David et al. 2006, "Analysis of Representations for Domain Adaptation", section 4;
    the classifier here is a ridge regression.
    """
    one, other = checks.matrix('source', source), checks.matrix('target', target)
    checks.same_width(one.shape[1], other.shape[1])
    side = np.repeat([1.0, -1.0], [len(one), len(other)])
    weights = np.repeat([0.5 / len(one), 0.5 / len(other)], [len(one), len(other)])
    predicted = leave_one_out(np.concatenate([one, other]), side[:, None], weights, STRENGTHS)
    error = float(weights @ (predicted[:, 0] * side <= 0))
    return max(2 * (1 - 2 * error), 0.0)
