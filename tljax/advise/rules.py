"""What is not tried, and what is tried first: rules on the evidence, each with its source."""

import dataclasses
import math
from collections.abc import Sequence

from tljax.advise.candidates import HIGH, Candidate
from tljax.advise.choice import Answers, Prior, difference
from tljax.advise.evidence import Look
from tljax.advise.tasks import Task

FEW = 10  # labels a class below which training is expected to gain least over the probe
MODERATE = 50  # up to which penalties and adapters are tried (Li et al. 2018; Hu et al. 2022)
MANY = 500  # from which random weights are tried whatever the features say (He et al. 2019)
CLEAR = 2.0  # standard errors that make one answer better than another


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped:
    """A candidate that is not tried, and why."""

    name: str
    why: str


def better(one: Answers, other: Answers, errors: float = CLEAR) -> bool:
    """Whether `one` is so many standard errors better."""
    apart = difference(one, other)
    return apart.mean > errors * apart.error


def networks(looks: Sequence[Look]) -> tuple[list[Look], list[Dropped]]:
    """The networks worth training: no other's frozen features are clearly better.

    Source: Renggli et al. 2022, "Which model to transfer?": linear probes find the network where
    they differ much; where they do not, training tells.
    """
    first = max(looks, key=lambda look: look.best.answers.accuracy)
    kept, dropped = [], []
    for look in looks:
        if look is not first and better(first.best.answers, look.best.answers):
            why = (
                f'its best stage gives {100 * look.best.accuracy:.0f} %, that of '
                f'{first.source} {100 * first.best.accuracy:.0f} %'
            )
            dropped.append(Dropped(name=f'weights {look.source}', why=why))
        else:
            kept.append(look)
    return kept, dropped


def reason_against(candidate: Candidate, look: Look, task: Task) -> str | None:
    """Why a candidate is not worth a trial; None if it is."""
    if candidate.family == 'scratch':
        return _against_scratch(look, task)
    if candidate.family in ('l2sp', 'adapters') and task.per_class > MODERATE:
        return f'made for few labels: there are {task.per_class:.0f} a class'
    if candidate.family == 'cut':
        return _against_cut(candidate, look)
    return None


def _against_scratch(look: Look, task: Task) -> str | None:
    """He et al. 2019: from random weights as good only with many images, whatever is trained."""
    if look.random is None or task.per_class >= MANY:
        return None
    if not better(look.best.answers, look.random):
        return None
    return (
        f'frozen, the weights know more than random ones ({100 * look.best.accuracy:.0f} against '
        f'{100 * look.random.accuracy:.0f} %), and {task.per_class:.0f} labels a class are few'
    )


def _against_cut(candidate: Candidate, look: Look) -> str | None:
    """Yosinski et al. 2014: upper stages are the source's own; lower ones are general.

    What freezes a stage whose output is clearly worse than a lower one's has lost what it needs;
    what trains two stages or more below the best one's output is full fine-tuning at its price.
    """
    stages = [depth.stage for depth in look.depths]
    frozen = look.depths[stages.index(candidate.first) - 1]
    place, best = stages.index(frozen.stage), stages.index(look.best.stage)
    if place > best and better(look.best.answers, frozen.answers, 1.0):
        return (
            f'it freezes {frozen.stage}, whose output gives {100 * frozen.accuracy:.0f} %; '
            f'{look.best.stage} gives {100 * look.best.accuracy:.0f} %'
        )
    if place < min(best, len(stages) - 2) - 1:
        return f'it trains nearly everything: {look.best.stage} is the best to freeze up to'
    return None


# The share of the frozen probe's errors that a way of training is expected to take away, with few
# labels, some and many; and how much that differs from task to task. Set by hand, after looking at
# the eight tasks that docs/results.md calls seen, and drawn towards 0; what was fitted to the tasks
# of other sets lost more.
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
SPREAD, SPREAD_HIGH = 0.15, 0.3  # the latter of what may fail: high rates, random weights
LEAST_ERRORS = 1.0  # of the probe, in images: with none there is nothing to gain, and no doubt


def kind(candidate: Candidate) -> str:
    """A key of `GAINS`."""
    if candidate.family in ('cut', 'full'):
        return f'{candidate.family} {"high" if candidate.scale == HIGH else "low"}'
    return candidate.family


def priors(candidates: Sequence[Candidate], task: Task) -> dict[str, Prior]:
    """What each candidate is expected to gain over the linear probe of its network."""
    found = {}
    for candidate in candidates:
        source = candidate.experiment.backbone.weights
        probes = [
            one
            for one in candidates
            if one.answers is not None and one.experiment.backbone.weights == source
        ]
        if candidate.answers is not None or not probes:
            found[candidate.name] = Prior(anchor=candidate.name)
            continue
        answers = probes[0].answers
        assert answers is not None
        missed = max(1 - answers.accuracy, LEAST_ERRORS / len(answers))
        place = 0 if task.per_class < FEW else 1 if task.per_class < MODERATE else 2
        risky = kind(candidate) in ('full high', 'cut high', 'scratch', 'source', 'configured')
        found[candidate.name] = Prior(
            anchor=probes[0].name,
            mean=missed * GAINS[kind(candidate)][place],
            spread=missed * (SPREAD_HIGH if risky else SPREAD),
        )
    return found


def ordered(candidates: Sequence[Candidate], task: Task) -> list[Candidate]:
    """What is tried first, when there is no time for all: what is expected to gain most.

    Of equals, what may gain more, then what trains less.
    """
    place = priors(candidates, task)

    def key(candidate: Candidate) -> tuple[float, ...]:
        prior = place[candidate.name]
        spread = 0.0 if math.isinf(prior.spread) else prior.spread
        return -prior.mean, -spread, candidate.trained_stages

    return sorted((c for c in candidates if c.answers is None), key=key)
