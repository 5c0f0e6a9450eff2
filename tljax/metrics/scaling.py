"""Calibration of logits by temperature scaling and vector scaling."""

from typing import NamedTuple

import numpy as np
import scipy

from tljax.metrics import calibration
from tljax.types import Array, InputError

LARGEST_TEMPERATURE = 20.0  # the smallest temperature is the inverse


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature that minimises the negative log-likelihood, by L-BFGS in float64.

    Source: Guo et al. 2017, section 4.2. The likelihood is convex in the inverse temperature. With
    several labels per image, one temperature divides the logits of all sigmoids.

    Args:
        logits: [N, K], of images that the network was not trained on.
        labels: [N], or [N, K].

    Returns:
        The temperature; 1 if a logit is not finite, or if the likelihood has no maximum between
        1/20 and 20, for example because all images are classified correctly.
    """
    z, labels = calibration.checked_logits(logits, labels)
    if not np.isfinite(z).all():
        return 1.0

    def objective(log_inverse: np.ndarray) -> tuple[float, np.ndarray]:
        inverse = np.exp(log_inverse[0])
        value, slopes = calibration.likelihood_and_gradient(z * inverse, labels)
        return value, np.array([(slopes * z).sum() * inverse])

    limit = np.log(LARGEST_TEMPERATURE)
    # A convex function has its minimum within an interval if its slope changes sign there.
    if not objective(np.array([-limit]))[1] < 0 < objective(np.array([limit]))[1]:
        return 1.0
    options = {'ftol': 1e-15, 'gtol': 1e-10}
    result = scipy.optimize.minimize(
        objective, [0.0], jac=True, method='L-BFGS-B', bounds=[(-limit, limit)], options=options
    )
    return float(np.exp(-result.x[0]))


class VectorScaling(NamedTuple):
    """A scale and a bias for the logit of each class, [K] each."""

    scale: np.ndarray
    bias: np.ndarray

    def apply(self, logits: Array) -> np.ndarray:
        """Logits [N, K] to calibrated logits [N, K]; the predicted class can change."""
        return np.asarray(logits, np.float64) * self.scale + self.bias


def fit_vector_scaling(logits: Array, labels: Array) -> VectorScaling:
    """The scales and biases that minimise the negative log-likelihood, by L-BFGS in float64.

    Source: vector scaling of Guo et al. 2017, section 4.2. It has 2 K values, so it needs many
    images of each class. Scales are between 1/20 and 20, and biases between -20 and 20.

    Args:
        logits: [N, K], of images that the network was not trained on.
        labels: [N], or [N, K].

    Raises:
        InputError: other shapes, or a logit is not finite.
    """
    z, labels = calibration.checked_logits(logits, labels)
    if not np.isfinite(z).all():
        raise InputError('logits are not finite')
    classes, limit = z.shape[1], LARGEST_TEMPERATURE

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.split(values, 2)
        value, slopes = calibration.likelihood_and_gradient(z * scale + bias, labels)
        return value, np.concatenate([(slopes * z).sum(0), slopes.sum(0)])

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    bounds = [(1 / limit, limit)] * classes + [(-limit, limit)] * classes
    options = {'maxiter': 1000, 'maxfun': 10000, 'ftol': 1e-14, 'gtol': 1e-8}
    result = scipy.optimize.minimize(
        objective, start, jac=True, method='L-BFGS-B', bounds=bounds, options=options
    )
    return VectorScaling(*np.split(result.x, 2))
