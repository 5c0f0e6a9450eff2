"""How well a score separates two sets of images, such as familiar and unfamiliar ones."""

from typing import NamedTuple

import numpy as np
import scipy  # `scipy.stats` is loaded when it is first used: it takes 0.8 s

from tljax.metrics.multi_label import average_precision
from tljax.types import Array, InputError

ACCEPTED = 0.95  # the share of familiar images that a threshold accepts


class Detection(NamedTuple):
    """How well a score separates familiar from unfamiliar images.

    Attributes:
        auroc: the probability that a familiar image scores higher than an unfamiliar one.
        auroc_low: the lower end of its 95 % interval.
        auroc_high: the upper end.
        aupr_familiar: average precision with familiar images as positives.
        aupr_unfamiliar: average precision with unfamiliar images as positives.
        fpr95: the share of unfamiliar images that is accepted when 95 % of the familiar ones are.
    """

    auroc: float
    auroc_low: float
    auroc_high: float
    aupr_familiar: float
    aupr_unfamiliar: float
    fpr95: float


def detection(familiar: Array, unfamiliar: Array) -> Detection:
    """Measures a score that is higher for familiar images.

    The interval of the AUROC is DeLong's on the logit scale, which stays in [0, 1]. For an AUROC of
    1 it is [1 / (1 + z² / n), 1] with the smaller n, as Wilson's; for 0 it is mirrored.

    Source: Hendrycks & Gimpel 2017 for the measures; Liang et al. 2018 for the rate at 95 %;
    DeLong et al. 1988 for the interval.

    Args:
        familiar: [N], the scores of images like those of training.
        unfamiliar: [M], the scores of other images.

    Raises:
        InputError: a set is empty, or a score is NaN.
    """
    inside, outside = (_checked(scores) for scores in (familiar, unfamiliar))
    scores = np.concatenate([inside, outside])
    labels = np.arange(len(scores)) < len(inside)
    shares_in, shares_out = _placements(inside, outside)
    area = float(shares_in.mean())
    low, high = _interval(area, shares_in, shares_out)
    return Detection(
        auroc=area,
        auroc_low=low,
        auroc_high=high,
        aupr_familiar=average_precision(scores, labels) or 0.0,
        aupr_unfamiliar=average_precision(-scores, ~labels) or 0.0,
        fpr95=float((outside >= threshold(inside)).mean()),
    )


def threshold(familiar: Array, accepted: float = ACCEPTED) -> float:
    """The largest threshold that accepts at least this share of familiar images, [N] scores."""
    scores = -np.sort(-_checked(familiar))
    return float(scores[int(np.ceil(accepted * len(scores) - 1e-9)) - 1])


def _checked(scores: Array) -> np.ndarray:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not values.size or np.isnan(values).any():
        raise InputError('scores are empty or have NaN, wanted one number for each image')
    return values


def _placements(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each score, the share of the other set that is ordered correctly; ties count half.

    The mean of either array is the AUROC.
    """
    ranks = scipy.stats.rankdata(np.concatenate([inside, outside]))
    ranks_in, ranks_out = scipy.stats.rankdata(inside), scipy.stats.rankdata(outside)
    shares_in = (ranks[: len(inside)] - ranks_in) / len(outside)
    shares_out = 1 - (ranks[len(inside) :] - ranks_out) / len(inside)
    return shares_in, shares_out


def _interval(area: float, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    z = 1.959964
    if area in (0.0, 1.0):
        end = 1 / (1 + z * z / min(len(first), len(second)))
        return (end, 1.0) if area else (0.0, 1 - end)
    variance = sum(part.var(ddof=1) / len(part) for part in (first, second) if len(part) > 1)
    middle, half = np.log(area / (1 - area)), z * np.sqrt(variance) / (area * (1 - area))
    low, high = 1 / (1 + np.exp(half - middle)), 1 / (1 + np.exp(-half - middle))
    return float(low), float(high)
