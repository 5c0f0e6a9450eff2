"""Deciding between candidates by what they answered on held-out images: paired, with its doubt."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.metrics.totals import wilson_interval
from tljax.types import InputError

TEMPERATURES = np.geomspace(1 / 20, 20.0, 49)
LEAST_ERROR = 0.5  # of an image: what is added to the error of differences that all agree
DRAWS = 200  # of the images with replacement, for the error of a difference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What a network said of held-out images.

    Attributes:
        ids: [M] of the images.
        labels: [M] int.
        logits: [M, K].
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def correct(self) -> np.ndarray:
        """[M] bool; ties count against, so that what is not a number is never right."""
        own = self.logits[np.arange(len(self)), self.labels]
        return (~(self.logits < own[:, None])).sum(-1) == 1

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson_interval(int(self.correct.sum()), len(self))

    @functools.cached_property
    def losses(self) -> np.ndarray:
        """[T, M] in nats at every temperature."""
        return np.stack([self.losses_at(temperature) for temperature in TEMPERATURES])

    def losses_at(self, temperature: float) -> np.ndarray:
        """[M] in nats; logits that are not numbers count as none at all."""
        scaled = np.where(np.isfinite(self.logits), self.logits, 0.0) / temperature
        scaled = (scaled - scaled.max(-1, keepdims=True)).astype(np.float64)
        own = scaled[np.arange(len(self)), self.labels]
        return np.log(np.exp(scaled).sum(-1)) - own


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several folds."""
    if not parts:
        raise InputError('there are no answers to join')
    return Answers(
        ids=np.concatenate([part.ids for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
    )


def log_losses(answers: Answers) -> np.ndarray:
    """[M] losses in nats, at the temperature that makes their mean smallest.

    So a network is not called worse for being too sure of itself.
    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """
    return answers.losses[answers.losses.mean(-1).argmin()]


def merits(answers: Answers) -> np.ndarray:
    """[M] the mean of being right and of the probability given to what is right, tempered.

    The first is what is wanted; the second tells apart what few images cannot count. Both are
    shares of images.
    """
    return (answers.correct + np.exp(-log_losses(answers))) / 2


def _drawn(answers: Answers, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean merit [D] of each draw: of `rows`, by weights [D, R], at a temperature of its own.

    A temperature that is fitted to few images is in doubt itself.
    """
    losses = answers.losses[:, rows]
    best = (weights @ losses.T).argmin(-1)
    right = weights @ answers.correct[rows]
    told = np.einsum('dr,dr->d', weights, np.exp(-losses[best]))
    return (right + told) / 2 / weights.sum(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one candidate is than another on the images that both were asked.

    Attributes:
        mean: of the merits.
        error: its standard error, by the bootstrap; at least what half an image makes.
        count: of images.
    """

    mean: float
    error: float
    count: int


def difference(one: Answers, other: Answers) -> Difference:
    """`one` less `other`, image by image.

    Raises:
        InputError: they have no image in common.
    """
    common, first, second = np.intersect1d(one.ids, other.ids, return_indices=True)
    if not len(common):
        raise InputError('two candidates were asked of different images')
    count = len(common)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)
    draws = _drawn(one, first, weights) - _drawn(other, second, weights)
    mean = merits(one)[first].mean() - merits(other)[second].mean()
    return Difference(
        mean=float(mean),
        error=math.hypot(float(draws.std()), LEAST_ERROR / count),
        count=count,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior:
    """What a candidate is expected to gain over its anchor before it is tried.

    Attributes:
        anchor: the candidate that it is held against: what is read out of the same network, frozen.
        mean: of the gain in merit.
        spread: its standard deviation over tasks.
    """

    anchor: str
    mean: float = 0.0
    spread: float = math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gain:
    """What a candidate is worth beyond the reference, in merit.

    Attributes:
        mean: by its trials and its prior together.
        error: the standard deviation of that.
        seen: by its trials alone; None for the reference.
    """

    mean: float
    error: float
    seen: Difference | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen candidate, and what it was held against.

    Attributes:
        name: of the chosen.
        reference: whose gain is 0.
        gains: by name.
        within: names of those whose gain is less by no more than its doubt, the chosen first.
    """

    name: str
    reference: str
    gains: dict[str, Gain]
    within: tuple[str, ...]


def choose(found: Mapping[str, Answers], priors: Mapping[str, Prior]) -> Choice:
    """The candidate of the largest expected gain.

    Trials on few images are mostly noise: the difference that they show is drawn towards what such
    a candidate gave elsewhere, the more so the larger its error is beside the spread of that.
    Source: Efron & Morris 1975, "Data analysis using Stein's estimator and its generalizations".

    Args:
        found: by candidate, on images that they have in common.
        priors: of the same candidates, anchors among them.

    Raises:
        InputError: there is none, one without a prior, or an anchor that is none of them.
    """
    anchors = {priors[name].anchor for name in found if name in priors}
    if not found or set(found) - set(priors) or anchors - set(found):
        raise InputError(f'candidates are {list(found)}, with priors {dict(priors)}')
    reference = ranked({name: found[name] for name in anchors})[0]
    gains = {name: _gain(name, found, priors[name], reference) for name in found}
    best = max(gains, key=lambda name: gains[name].mean)
    order = sorted(found, key=lambda name: -gains[name].mean)
    top = gains[best]
    near = [
        name
        for name in order
        if name != best and top.mean - gains[name].mean <= max(top.error, gains[name].error)
    ]
    return Choice(name=best, reference=reference, gains=gains, within=(best, *near))


def _gain(name: str, found: Mapping[str, Answers], prior: Prior, reference: str) -> Gain:
    """Over the reference: that over its anchor, and the anchor's own."""
    mean = error = 0.0
    if prior.anchor != reference:
        apart = difference(found[prior.anchor], found[reference])
        mean, error = apart.mean, apart.error
    if name != prior.anchor:
        own = difference(found[name], found[prior.anchor])
        told, believed = 1 / own.error**2, 1 / prior.spread**2
        mean += (told * own.mean + believed * prior.mean) / (told + believed)
        error = math.hypot(error, (told + believed) ** -0.5)
    seen = None if name == reference else difference(found[name], found[reference])
    return Gain(mean=mean, error=error, seen=seen)


def ranked(found: Mapping[str, Answers]) -> list[str]:
    """Names from the best to the worst merit, on the images that all were asked."""
    common = set.intersection(*(set(answers.ids.tolist()) for answers in found.values()))
    if not common:
        raise InputError('the candidates were asked of different images')
    means = {
        name: merits(answers)[np.isin(answers.ids, list(common))].mean()
        for name, answers in found.items()
    }
    return sorted(found, key=lambda name: -means[name])


def images_to_tell(apart: Difference, errors: float = 2.0) -> int | None:
    """How many held-out images would tell two candidates apart, if they differ as it seems.

    None where they seem not to differ.
    """
    if abs(apart.mean) < 1e-9:
        return None
    return math.ceil(apart.count * (errors * apart.error / apart.mean) ** 2)
