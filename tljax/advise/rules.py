"""Rules on the evidence: which candidates are not tried, and which are tried first."""

import dataclasses
import math
from collections.abc import Sequence

from tljax.advise.candidates import HIGH, Candidate
from tljax.advise.choice import Prior
from tljax.advise.evidence import Evidence
from tljax.advise.held_out import HeldOutPredictions, difference
from tljax.advise.tasks import Task

# Labels per class.
FEW = 10  # below: training is expected to gain least over the probe
MODERATE = 50  # above: no penalties, no adapters (Li et al. 2018; Hu et al. 2022)
MANY = 500  # from here on: random weights are tried in any case (He et al. 2019)
CLEAR_ERRORS = 2.0  # standard errors by which one candidate is clearly better than another


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped:
    """A candidate that is not tried, and why."""

    name: str
    why: str


def clearly_better(
    one: HeldOutPredictions, other: HeldOutPredictions, errors: float = CLEAR_ERRORS
) -> bool:
    """Whether `one` is better by more than `errors` standard errors."""
    measured = difference(one, other)
    return measured.mean > errors * measured.error


def networks(evidence: Sequence[Evidence]) -> tuple[list[Evidence], list[Dropped]]:
    """Keeps the networks whose frozen features are not clearly worse than those of another.

    Source: Renggli et al. 2022, "Which model to transfer?": large differences between networks
    show in linear probes, small ones only in training.
    """
    first = max(evidence, key=lambda one: one.best.predictions.accuracy)
    kept, dropped = [], []
    for one in evidence:
        if one is first or not clearly_better(first.best.predictions, one.best.predictions):
            kept.append(one)
            continue
        why = (
            f'the probe of its best stage has an accuracy of {100 * one.best.accuracy:.0f} %, that '
            f'of {first.source} {100 * first.best.accuracy:.0f} %'
        )
        dropped.append(Dropped(name=f'weights {one.source}', why=why))
    return kept, dropped


def reason_against(candidate: Candidate, evidence: Evidence, task: Task) -> str | None:
    """Why a candidate is not worth a trial; None if it is."""
    if candidate.family == 'scratch':
        return _against_scratch(evidence, task)
    if candidate.family in ('l2sp', 'adapters') and task.per_class > MODERATE:
        return f'it is meant for few labels, and there are {task.per_class:.0f} per class'
    if candidate.family == 'cut':
        return _against_cut(candidate, evidence)
    return None


def _against_scratch(evidence: Evidence, task: Task) -> str | None:
    """Random weights need many images to match pretrained ones (He et al. 2019)."""
    if evidence.random is None or task.per_class >= MANY:
        return None
    if not clearly_better(evidence.best.predictions, evidence.random):
        return None
    return (
        'the pretrained features are better than random ones (accuracy of a probe: '
        f'{100 * evidence.best.accuracy:.0f} and {100 * evidence.random.accuracy:.0f} %), and '
        f'{task.per_class:.0f} labels per class are few'
    )


def _against_cut(candidate: Candidate, evidence: Evidence) -> str | None:
    """Lower stages are general, upper ones specific to the upstream task (Yosinski et al. 2014).

    A frozen stage whose output is clearly worse than a lower stage's has lost information. Training
    two or more stages below the best one costs about as much as full fine-tuning.
    """
    names = [probe.stage for probe in evidence.probes]
    top_frozen = names.index(candidate.first) - 1
    frozen, best = evidence.probes[top_frozen], names.index(evidence.best.stage)
    if top_frozen > best and clearly_better(evidence.best.predictions, frozen.predictions, 1.0):
        return (
            f'it freezes {frozen.stage}, whose probe has {100 * frozen.accuracy:.0f} %; that of '
            f'{evidence.best.stage} has {100 * evidence.best.accuracy:.0f} %'
        )
    if top_frozen < min(best, len(names) - 2) - 1:
        return (
            f'it costs about as much as full fine-tuning, although {evidence.best.stage} has the '
            'best features'
        )
    return None


# The expected share of the probe's errors that training removes, with few, some and many labels.
# Set by hand after the eight tasks that docs/results.md calls seen, and shrunk towards 0. Values
# fitted to the tasks of other sets lost more accuracy.
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
MIN_ERRORS = 1.0  # of the probe, in images: without errors the spread would be 0


def kind(candidate: Candidate) -> str:
    """The key of a candidate in `GAINS`."""
    if candidate.family in ('cut', 'full'):
        return f'{candidate.family} {"high" if candidate.scale == HIGH else "low"}'
    return candidate.family


def priors(candidates: Sequence[Candidate], task: Task) -> dict[str, Prior]:
    """The expected gain of each candidate over the linear probe of its network."""
    probes: dict[str | None, Candidate] = {}
    for one in candidates:
        if one.predictions is not None:
            probes.setdefault(one.experiment.backbone.weights, one)
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


def ordered(candidates: Sequence[Candidate], task: Task) -> list[Candidate]:
    """The candidates that need a trial, the largest expected gain first.

    Of equal gains, the larger spread comes first, then fewer trained stages.
    """
    expected = priors(candidates, task)

    def key(candidate: Candidate) -> tuple[float, ...]:
        prior = expected[candidate.name]
        spread = 0.0 if math.isinf(prior.spread) else prior.spread
        return -prior.mean, -spread, candidate.trained_stages

    return sorted((c for c in candidates if c.predictions is None), key=key)
