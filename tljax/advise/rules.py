"""Rules that select candidates from the evidence and put them in the order of their trials."""

import dataclasses
import math
from collections.abc import Sequence

from tljax.advise.candidates import HIGH, Candidate
from tljax.advise.choice import Prior
from tljax.advise.evidence import Evidence
from tljax.advise.held_out import HeldOutPredictions, difference
from tljax.advise.tasks import TargetImages

# Labels per class.
FEW = 10  # with fewer, training is expected to gain least over the probe
MODERATE = 50  # with more, penalties and adapters are not tried (Li et al. 2018; Hu et al. 2022)
MANY = 500  # with this number or more, random weights are always tried (He et al. 2019)
CLEAR_ERRORS = 2.0  # a clear difference between candidates, in standard errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped:
    """A candidate without a trial.

    Attributes:
        name: the name of the candidate.
        why: the reason.
    """

    name: str
    why: str


def clearly_better(
    one: HeldOutPredictions, other: HeldOutPredictions, errors: float = CLEAR_ERRORS
) -> bool:
    """Whether `one` is better by more than `errors` standard errors."""
    measured = difference(one, other)
    return measured.mean > errors * measured.error


def networks(evidence: Sequence[Evidence]) -> tuple[list[Evidence], list[Dropped]]:
    """Separates the networks whose frozen features are clearly worse than the best ones.

    Returns:
        The networks that are kept, and the dropped ones with the reason.

    Source: Renggli et al. 2022, "Which model to transfer?": linear probes show large differences
    between networks; small differences show only in training.
    """
    leader = max(evidence, key=lambda network: network.best.predictions.accuracy)
    kept, dropped = [], []
    for network in evidence:
        if network is leader or not clearly_better(
            leader.best.predictions, network.best.predictions
        ):
            kept.append(network)
            continue
        why = (
            f'the best probe has an accuracy of {100 * network.best.accuracy:.0f} %, compared '
            f'with {100 * leader.best.accuracy:.0f} % for {leader.source}'
        )
        dropped.append(Dropped(name=f'weights {network.source}', why=why))
    return kept, dropped


def reason_against(candidate: Candidate, evidence: Evidence, task: TargetImages) -> str | None:
    """The reason why a candidate is not tried; None if it is tried."""
    if candidate.family == 'scratch':
        return _against_scratch(evidence, task)
    if candidate.family in ('l2sp', 'adapters') and task.per_class > MODERATE:
        return f'it is for few labels, and there are {task.per_class:.0f} per class'
    if candidate.family == 'cut':
        return _against_cut(candidate, evidence)
    return None


def _against_scratch(evidence: Evidence, task: TargetImages) -> str | None:
    """Random weights need many images to match pretrained ones (He et al. 2019)."""
    if evidence.random is None or task.per_class >= MANY:
        return None
    if not clearly_better(evidence.best.predictions, evidence.random):
        return None
    return (
        'the pretrained features are better than random ones (probe accuracy '
        f'{100 * evidence.best.accuracy:.0f} % and {100 * evidence.random.accuracy:.0f} %), and '
        f'{task.per_class:.0f} labels per class are few'
    )


def _against_cut(candidate: Candidate, evidence: Evidence) -> str | None:
    """Lower stages are general, upper ones specific to the upstream task (Yosinski et al. 2014).

    A frozen stage has lost information if its output is clearly worse than that of a lower stage.
    Training two or more stages below the best one costs about as much as full fine-tuning.
    """
    names = [probe.stage for probe in evidence.probes]
    top_frozen = names.index(candidate.first) - 1
    frozen, best = evidence.probes[top_frozen], names.index(evidence.best.stage)
    if top_frozen > best and clearly_better(evidence.best.predictions, frozen.predictions, 1.0):
        return (
            f'it freezes {frozen.stage}, which has a probe accuracy of '
            f'{100 * frozen.accuracy:.0f} %, compared with {100 * evidence.best.accuracy:.0f} % '
            f'for {evidence.best.stage}'
        )
    if top_frozen < min(best, len(names) - 2) - 1:
        return (
            f'it costs about as much as full fine-tuning, although {evidence.best.stage} has the '
            'best features'
        )
    return None


# The share of the probe's errors that training is expected to remove, with few, some and many
# labels. The values were chosen by hand from the results on the eight "seen" tasks of
# docs/results.md, and moved towards 0. Values fitted to other tasks gave a lower accuracy.
GAINS: dict[str, tuple[float, float, float]] = {
    'cut high': (0.10, 0.20, 0.15),
    'cut low': (0.05, 0.10, 0.10),
    'full high': (0.10, 0.20, 0.20),
    'full low': (0.05, 0.10, 0.05),
    'lpft': (0.05, 0.10, 0.10),
    'l2sp': (0.05, 0.10, 0.05),
    'adapters': (0.05, 0.10, 0.10),
    'scratch': (-1.0, -0.7, -0.3),
    'source': (0.0, 0.1, 0.1),
    'configured': (0.0, 0.1, 0.1),
}
RISKY = ('full high', 'cut high', 'scratch', 'source', 'configured')
SPREAD, SPREAD_RISKY = 0.15, 0.3  # standard deviation of the share over tasks
MIN_ERRORS = 1.0  # smallest number of the probe's wrong images; with 0 the spread would be 0


def kind(candidate: Candidate) -> str:
    """The key of a candidate in `GAINS`."""
    if candidate.family in ('cut', 'full'):
        return f'{candidate.family} {"high" if candidate.scale == HIGH else "low"}'
    return candidate.family


def priors(candidates: Sequence[Candidate], task: TargetImages) -> dict[str, Prior]:
    """The expected gain of each candidate over the linear probe of its network."""
    probes: dict[str | None, Candidate] = {}
    for candidate in candidates:
        if candidate.predictions is not None:
            probes.setdefault(candidate.experiment.backbone.weights, candidate)
    labels = 0 if task.per_class < FEW else 1 if task.per_class < MODERATE else 2
    result = {}
    for candidate in candidates:
        probe = probes.get(candidate.experiment.backbone.weights)
        if candidate.predictions is not None or probe is None or probe.predictions is None:
            result[candidate.name] = Prior(probe=candidate.name)
            continue
        errors = max(1 - probe.predictions.accuracy, MIN_ERRORS / len(probe.predictions))
        spread = SPREAD_RISKY if kind(candidate) in RISKY else SPREAD
        result[candidate.name] = Prior(
            probe=probe.name,
            mean=errors * GAINS[kind(candidate)][labels],
            spread=errors * spread,
        )
    return result


def ordered(candidates: Sequence[Candidate], task: TargetImages) -> list[Candidate]:
    """The candidates that need a trial, in the order of falling expected gain.

    At equal gain, the larger spread comes first; then the smaller number of trained stages.
    """
    expected = priors(candidates, task)

    def key(candidate: Candidate) -> tuple[float, ...]:
        prior = expected[candidate.name]
        spread = 0.0 if math.isinf(prior.spread) else prior.spread
        return -prior.mean, -spread, candidate.trained_stages

    return sorted((c for c in candidates if c.predictions is None), key=key)
