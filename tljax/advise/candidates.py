"""What could be done with a network: experiments that differ in what trains, and from where.

A family is a function from an experiment and the evidence to candidates; `FAMILIES` are all of
them, so that another way of transfer is one more function. Rates are multiples of the
experiment's: `HIGH` is what a new head wants, and `LOW` a fifth, which full fine-tuning of a large
network wants (docs/results.md: at the head's rate a ResNet-18 is ruined from its third stage down).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tljax.advise.choice import Answers
from tljax.advise.evidence import Look
from tljax.config.experiment import Experiment
from tljax.models.adapters import LoRA
from tljax.models.stages import HEAD
from tljax.strategies import strategies
from tljax.strategies.penalties import L2SP
from tljax.strategies.solvers import LBFGS
from tljax.strategies.strategies import (
    LPFT,
    AdaptersOnly,
    FineTune,
    FreezeBelow,
    FromScratch,
    SolvedProbe,
)
from tljax.training import jobs
from tljax.types import Norm

HIGH, LOW = 1.0, 0.2
L2SP_STRENGTH = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """An experiment that may be advised.

    Attributes:
        name: unique among those of a task.
        family: by which rules speak of it.
        experiment: to be run; a trial has a fold for its data.
        first: the lowest stage that trains.
        scale: of the experiment's learning rate.
        answers: where the frozen features tell them already, so that nothing is trained.
        steps: of a trial of the whole length; None for what the experiment's epochs give.
    """

    name: str
    family: str
    experiment: Experiment
    first: str
    scale: float = 1.0
    answers: Answers | None = None
    steps: int | None = None

    @property
    def trained_stages(self) -> int:
        """How many train: what is cheaper and safer trains fewer."""
        e = self.experiment
        stages = [*e.backbone.stages(), HEAD]
        return len(stages) - stages.index(self.first)


Family = Callable[[Look], Sequence[Candidate]]


def _put_aside(experiment: Experiment, **changes: Any) -> Experiment:
    """The experiment with another strategy; what was meant for its own is put aside."""
    fields = {'baselines': (), 'adapters': (), 'penalties': (), 'samples': None}
    return dataclasses.replace(experiment, **{**fields, **changes})


def probes(look: Look) -> list[Candidate]:
    """The head alone, solved, on the last stage, and on the best one where that is another."""
    found = []
    for depth in {d.stage: d for d in (look.last, look.best)}.values():
        strategy = SolvedProbe(solver=LBFGS(weight_decay=depth.decay))
        changes: dict[str, Any] = {'strategy': strategy, 'augmentations': (), 'epochs': 1.0}
        name = 'linear probe'
        if depth is not look.last:
            changes['cut_after'] = depth.stage
            name += f' of {depth.stage}'
        found.append(
            Candidate(
                name=name,
                family='probe',
                experiment=_put_aside(look.experiment, **changes),
                first=HEAD,
                answers=depth.answers,
            )
        )
    return found


def cuts(look: Look) -> list[Candidate]:
    """Every stage but the first, and all above it, train."""
    found = []
    for stage in reversed(look.job.model.names[1:-1]):
        for scale in (HIGH, LOW):
            strategy = FreezeBelow(stage=stage, learning_rate_scale=scale)
            found.append(_trained(look, f'freeze below {stage}', 'cut', strategy, stage, scale))
    return found


def fine_tuning(look: Look) -> list[Candidate]:
    """Everything trains."""
    return [
        _trained(
            look,
            'full fine-tuning',
            'full',
            FineTune(learning_rate_scale=scale),
            look.job.model.names[0],
            scale,
        )
        for scale in (HIGH, LOW)
    ]


def lp_ft(look: Look) -> list[Candidate]:
    """The head solved, then everything trains."""
    solver = LBFGS(weight_decay=look.last.decay)
    strategy = LPFT(learning_rate_scale=LOW, solver=solver)
    return [_trained(look, 'LP-FT', 'lpft', strategy, look.job.model.names[0], LOW)]


def l2_sp(look: Look) -> list[Candidate]:
    """Everything trains, drawn back to where it started."""
    e = look.experiment
    penalty = L2SP(strength=L2SP_STRENGTH, head_strength=L2SP_STRENGTH)
    changes: dict[str, Any] = {'penalties': (penalty,)}
    if hasattr(e.optimizer, 'weight_decay'):  # the penalty takes its place
        changes['optimizer'] = dataclasses.replace(e.optimizer, weight_decay=0.0)  # type: ignore[type-var]
    first = look.job.model.names[0]
    strategy = FineTune(learning_rate_scale=LOW)
    return [_trained(look, 'L2-SP', 'l2sp', strategy, first, LOW, **changes)]


def adapters(look: Look) -> list[Candidate]:
    """A low-rank change of every kernel trains, beside the head."""
    changes = {'adapters': (LoRA(rank=8, alpha=16.0),), 'norm': Norm.FROZEN}
    first = look.job.model.names[0]
    return [_trained(look, 'LoRA', 'adapters', AdaptersOnly(), first, HIGH, **changes)]


def from_scratch(look: Look) -> list[Candidate]:
    """Everything trains, from random weights."""
    first = look.job.model.names[0]
    return [_trained(look, 'from scratch', 'scratch', FromScratch(), first, HIGH)]


def with_source(look: Look) -> list[Candidate]:
    """Everything trains, with samples of the experiment's source beside the data, if it has one."""
    e = look.experiment
    if e.samples is None:
        return []
    strategy = FromScratch() if look.source is None else FineTune(learning_rate_scale=LOW)
    scale = HIGH if look.source is None else LOW
    first = look.job.model.names[0]
    name = f'{strategies.name_of(strategy)} beside the source'
    return [_trained(look, name, 'source', strategy, first, scale, samples=e.samples)]


def as_configured(look: Look) -> list[Candidate]:
    """The experiment as it is."""
    e = dataclasses.replace(look.experiment, baselines=())
    seen = dataclasses.replace(e, data=look.job.experiment.data, per_class=None)
    job = jobs.setup(dataclasses.replace(seen, subset=type(e.subset)()))
    cuts = [phase.cut.first for phase in job.phases]
    name = f'as configured ({strategies.name_of(e.strategy)})'
    return [
        Candidate(
            name=name,
            family='configured',
            experiment=e,
            first=min(cuts, key=job.model.names.index),
            steps=job.steps,
        )
    ]


FAMILIES: tuple[Family, ...] = (
    probes,
    lp_ft,
    cuts,
    fine_tuning,
    l2_sp,
    adapters,
    from_scratch,
    with_source,
    as_configured,
)
WITHOUT_WEIGHTS: tuple[Family, ...] = (from_scratch, with_source, as_configured)


def propose(look: Look, families: Sequence[Family] = FAMILIES) -> list[Candidate]:
    """All candidates of a network, without any that is another one again."""
    found: list[Candidate] = []
    if look.source is None:
        families = [family for family in families if family in WITHOUT_WEIGHTS]
    for family in families:
        for candidate in family(look):
            if all(candidate.experiment != other.experiment for other in found):
                found.append(candidate)
    return found


def _trained(
    look: Look, name: str, family: str, strategy: Any, first: str, scale: float, **changes: Any
) -> Candidate:
    experiment = _put_aside(look.experiment, strategy=strategy, **changes)
    rate = experiment.optimizer.learning_rate * scale
    return Candidate(
        name=f'{name}, rate {rate:.2g}',
        family=family,
        experiment=experiment,
        first=first,
        scale=scale,
    )
