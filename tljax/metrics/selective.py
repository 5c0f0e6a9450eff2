"""Selective prediction: the error rate of a classifier that may abstain."""

import math
from typing import NamedTuple

import numpy as np
import scipy  # `scipy.stats` is loaded when it is first used: it takes 0.8 s

from tljax.types import Array, InputError


class RiskCoverage(NamedTuple):
    """A risk-coverage curve: [M] points, from the most confident images to all images.

    Attributes:
        threshold: images with at least this confidence are answered.
        coverage: the share of images that is answered.
        risk: the share of wrong answers.
        area: the area under the curve (AURC): the mean over the N images of the risk at the
            coverage that includes the image.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray
    area: float


def risk_coverage(confidence: Array, right: Array) -> RiskCoverage:
    """The risk at the coverage of every possible threshold.

    Images of equal confidence are answered together, so each distinct confidence is one point.

    Source: El-Yaniv & Wiener 2010; the area of Geifman et al. 2019, "Bias-Reduced Uncertainty
    Estimation", section 2.

    Args:
        confidence: [N].
        right: [N] bool, whether each prediction is correct.

    Raises:
        InputError: other shapes, no image, or NaN.
    """
    values, wrong = _ordered(confidence, right)
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    answered = ends + 1
    risk = np.cumsum(wrong)[ends] / answered
    area = float((risk * np.diff(answered, prepend=0)).sum() / len(values))
    return RiskCoverage(values[ends], answered / len(values), risk, area)


class RiskThreshold(NamedTuple):
    """A threshold on the confidence for a target risk.

    Attributes:
        threshold: images with at least this confidence are answered; infinity for no image.
        coverage: the share of images that is answered.
        risk: the share of wrong answers.
        bound: the upper bound of the risk.
    """

    threshold: float
    coverage: float
    risk: float
    bound: float


def threshold_for_risk(
    confidence: Array, right: Array, risk: float, delta: float = 0.05
) -> RiskThreshold:
    """The threshold with the largest coverage whose risk is bounded by a target risk.

    Source: "selection with guaranteed risk", algorithm 1 of Geifman & El-Yaniv 2017, "Selective
    Classification for Deep Neural Networks": a binary search over the sorted confidences, in
    ceil(log2 N) steps. Each step computes the exact binomial upper bound (Clopper & Pearson) of the
    risk at level delta / ceil(log2 N), so that with probability 1 - delta all bounds hold at once.
    The images must be neither training images nor images that a temperature was fitted to.

    Args:
        confidence: [N].
        right: [N] bool, whether each prediction is correct.
        risk: the target risk, the largest share of wrong answers.
        delta: the probability that the true risk is larger.

    Returns:
        The threshold; infinity if no step has a bound of at most `risk`.

    Raises:
        InputError: other shapes, or `risk` or `delta` not between 0 and 1.
    """
    values, wrong = _ordered(confidence, right)
    for name, value in (('risk', risk), ('delta', delta)):
        if not 0 < value < 1:
            raise InputError(f'{name} is {value}, wanted a value between 0 and 1')
    errors = np.cumsum(wrong)
    steps = max(1, math.ceil(math.log2(len(values))))
    best = RiskThreshold(math.inf, 0.0, 0.0, 0.0)
    least, most = 1, len(values)  # numbers of images that are answered
    for _ in range(steps):
        middle = (least + most + 1) // 2
        # Equal confidences are answered together.
        answered = int(np.searchsorted(-values, -values[middle - 1], side='right'))
        count = int(errors[answered - 1])
        bound = upper_bound(count, answered, delta / steps)
        if bound <= risk:
            if answered / len(values) > best.coverage:
                threshold = float(values[answered - 1])
                best = RiskThreshold(threshold, answered / len(values), count / answered, bound)
            least = min(max(middle, answered), most)
        else:
            most = max(middle - 1, least)
    return best


def upper_bound(errors: int, count: int, delta: float) -> float:
    """The exact upper bound of an error rate, at confidence level 1 - delta.

    Source: Clopper & Pearson 1934; the B* of Geifman & El-Yaniv 2017, lemma 3.1.
    """
    if errors >= count:
        return 1.0
    return float(scipy.stats.beta.ppf(1 - delta, errors + 1, count - errors))


def _ordered(confidence: Array, right: Array) -> tuple[np.ndarray, np.ndarray]:
    """The confidences in descending order, and whether each prediction is wrong."""
    values, right = np.asarray(confidence, np.float64), np.asarray(right)
    if values.ndim != 1 or values.shape != right.shape or not values.size:
        raise InputError(
            f'confidence is {list(values.shape)} and right {list(right.shape)}, wanted [N] of one '
            'or more images'
        )
    if np.isnan(values).any():
        raise InputError('confidence has NaN')
    order = np.argsort(-values, kind='stable')
    return values[order], ~right.astype(bool)[order]
