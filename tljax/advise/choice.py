"""Selecting the candidate with the largest expected gain, from its trials and a prior."""

import dataclasses
import math
from collections.abc import Mapping

from tljax.advise.held_out import Difference, HeldOutPredictions, difference, ranked
from tljax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior:
    """The expected gain of a candidate over the linear probe of its network, before any trial.

    Attributes:
        probe: the name of that probe; a candidate without a probe names itself.
        mean: of the gain in score.
        spread: its standard deviation over tasks.
    """

    probe: str
    mean: float = 0.0
    spread: float = math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gain:
    """The gain in score of a candidate over the reference.

    Attributes:
        mean: expected from the trials and the prior.
        error: its standard deviation.
        measured: in the trials alone; None for the reference.
    """

    mean: float
    error: float
    measured: Difference | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen candidate and the gains of all.

    Attributes:
        name: of the chosen candidate.
        reference: the name of the best probe, whose gain is 0.
        gains: by name.
        contenders: names of the candidates whose gain is lower by at most one standard deviation,
            the chosen one first.
    """

    name: str
    reference: str
    gains: dict[str, Gain]
    contenders: tuple[str, ...]


def choose(predictions: Mapping[str, HeldOutPredictions], priors: Mapping[str, Prior]) -> Choice:
    """Chooses the candidate with the largest expected gain.

    Differences on few images are mostly noise. Each is shrunk towards its prior, more so if its
    error is large compared with the prior's spread.
    Source: Efron & Morris 1975, "Data analysis using Stein's estimator and its generalizations".

    Args:
        predictions: by candidate, with images in common.
        priors: by candidate; their probes are candidates too.

    Raises:
        InputError: there is no candidate, or one has no prior, or a probe is not a candidate.
    """
    probes = {priors[name].probe for name in predictions if name in priors}
    if not predictions or set(predictions) - set(priors) or probes - set(predictions):
        raise InputError(f'candidates are {list(predictions)}, with priors {dict(priors)}')
    reference = ranked({name: predictions[name] for name in probes})[0]
    gains = {name: _gain(name, predictions, priors[name], reference) for name in predictions}
    best, *others = sorted(predictions, key=lambda name: -gains[name].mean)
    top = gains[best]
    close = [
        name for name in others if top.mean - gains[name].mean <= max(top.error, gains[name].error)
    ]
    return Choice(name=best, reference=reference, gains=gains, contenders=(best, *close))


def _gain(
    name: str, predictions: Mapping[str, HeldOutPredictions], prior: Prior, reference: str
) -> Gain:
    """The shrunk gain over the network's probe, plus the gain of that probe over the reference."""
    mean = error = 0.0
    if prior.probe != reference:
        of_probe = difference(predictions[prior.probe], predictions[reference])
        mean, error = of_probe.mean, of_probe.error
    if name != prior.probe:
        trained = difference(predictions[name], predictions[prior.probe])
        precision, prior_precision = 1 / trained.error**2, 1 / prior.spread**2
        total = precision + prior_precision
        mean += (precision * trained.mean + prior_precision * prior.mean) / total
        error = math.hypot(error, total**-0.5)
    measured = None
    if name != reference:
        measured = difference(predictions[name], predictions[reference])
    return Gain(mean=mean, error=error, measured=measured)
