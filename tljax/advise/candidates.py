"""Candidate strategies: experiments that differ in what is trained and from which weights.

A family is a function from the evidence to candidates. `FAMILIES` lists all of them, so that a new
kind of transfer is one more function. Learning rates are multiples of the experiment's: `HIGH`
suits a new head, `LOW` suits full fine-tuning of a large network. (docs/results.md: at the head's
rate a ResNet-18 fails if it is trained from its third stage or lower.)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tljax.advise.evidence import Evidence
from tljax.advise.held_out import HeldOutPredictions
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
from tljax.types import Norm, Strategy

HIGH, LOW = 1.0, 0.2
L2SP_STRENGTH = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """An experiment that may be advised.

    Attributes:
        name: unique among the candidates of a task.
        family: a key for the rules, e.g. `cut`.
        experiment: the candidate on all labelled images; a trial replaces its data by a fold.
        first: the lowest trained stage.
        scale: the multiple of the experiment's learning rate.
        predictions: of a probe, which needs no trial; None for all others.
        steps: of a full-length trial; None if the experiment's epochs define them.
    """

    name: str
    family: str
    experiment: Experiment
    first: str
    scale: float = 1.0
    predictions: HeldOutPredictions | None = None
    steps: int | None = None

    @property
    def trained_stages(self) -> int:
        """How many stages are trained."""
        stages = [*self.experiment.backbone.stages(), HEAD]
        return len(stages) - stages.index(self.first)


Family = Callable[[Evidence], Sequence[Candidate]]


def probes(evidence: Evidence) -> list[Candidate]:
    """A solved linear probe of the last stage, and of the best one if that is another."""
    result = []
    for probe in {p.stage: p for p in (evidence.last, evidence.best)}.values():
        strategy = SolvedProbe(solver=LBFGS(weight_decay=probe.decay))
        changes: dict[str, Any] = {'augmentations': (), 'epochs': 1.0}
        name = 'linear probe'
        if probe is not evidence.last:
            changes['cut_after'] = probe.stage
            name += f' of {probe.stage}'
        result.append(
            Candidate(
                name=name,
                family='probe',
                experiment=_with_strategy(evidence.experiment, strategy, **changes),
                first=HEAD,
                predictions=probe.predictions,
            )
        )
    return result


def cuts(evidence: Evidence) -> list[Candidate]:
    """Freezing below each stage but the first, at both rates."""
    return [
        _trained(
            evidence,
            f'freeze below {stage}',
            'cut',
            FreezeBelow(stage=stage, learning_rate_scale=scale),
            scale=scale,
            first=stage,
        )
        for stage in reversed(evidence.job.model.names[1:-1])
        for scale in (HIGH, LOW)
    ]


def fine_tuning(evidence: Evidence) -> list[Candidate]:
    """Full fine-tuning at both rates."""
    return [
        _trained(
            evidence, 'full fine-tuning', 'full', FineTune(learning_rate_scale=scale), scale=scale
        )
        for scale in (HIGH, LOW)
    ]


def lp_ft(evidence: Evidence) -> list[Candidate]:
    """A solved head, then full fine-tuning."""
    solver = LBFGS(weight_decay=evidence.last.decay)
    strategy = LPFT(learning_rate_scale=LOW, solver=solver)
    return [_trained(evidence, 'LP-FT', 'lpft', strategy, scale=LOW)]


def l2_sp(evidence: Evidence) -> list[Candidate]:
    """Full fine-tuning with an L2-SP penalty in place of weight decay."""
    optimizer = evidence.experiment.optimizer
    penalty = L2SP(strength=L2SP_STRENGTH, head_strength=L2SP_STRENGTH)
    changes: dict[str, Any] = {'penalties': (penalty,)}
    if hasattr(optimizer, 'weight_decay'):
        changes['optimizer'] = dataclasses.replace(optimizer, weight_decay=0.0)  # type: ignore[type-var]
    strategy = FineTune(learning_rate_scale=LOW)
    return [_trained(evidence, 'L2-SP', 'l2sp', strategy, scale=LOW, **changes)]


def adapters(evidence: Evidence) -> list[Candidate]:
    """LoRA adapters of every kernel, and the head."""
    changes = {'adapters': (LoRA(rank=8, alpha=16.0),), 'norm': Norm.FROZEN}
    return [_trained(evidence, 'LoRA', 'adapters', AdaptersOnly(), scale=HIGH, **changes)]


def from_scratch(evidence: Evidence) -> list[Candidate]:
    """Training of all stages from random weights."""
    return [_trained(evidence, 'from scratch', 'scratch', FromScratch(), scale=HIGH)]


def with_samples(evidence: Evidence) -> list[Candidate]:
    """Training of all stages with the experiment's source-domain samples, if it has any."""
    samples = evidence.experiment.samples
    if samples is None:
        return []
    scale, strategy = LOW, FineTune(learning_rate_scale=LOW)
    if evidence.source is None:
        scale, strategy = HIGH, FromScratch()
    name = f'{strategies.name_of(strategy)} with samples'
    return [_trained(evidence, name, 'source', strategy, scale=scale, samples=samples)]


def as_configured(evidence: Evidence) -> list[Candidate]:
    """The experiment as it is."""
    e = dataclasses.replace(evidence.experiment, baselines=())
    fold = dataclasses.replace(e, data=evidence.job.experiment.data, per_class=None)
    job = jobs.setup(dataclasses.replace(fold, subset=type(e.subset)()))
    first = [phase.cut.first for phase in job.phases]
    return [
        Candidate(
            name=f'as configured ({strategies.name_of(e.strategy)})',
            family='configured',
            experiment=e,
            first=min(first, key=job.model.names.index),
            steps=job.steps,
        )
    ]


WITHOUT_WEIGHTS: tuple[Family, ...] = (from_scratch, with_samples, as_configured)
FAMILIES: tuple[Family, ...] = (
    probes,
    lp_ft,
    cuts,
    fine_tuning,
    l2_sp,
    adapters,
    *WITHOUT_WEIGHTS,
)


def propose(evidence: Evidence, families: Sequence[Family] = FAMILIES) -> list[Candidate]:
    """All candidates of a network, without duplicates."""
    result: list[Candidate] = []
    if evidence.source is None:
        families = [family for family in families if family in WITHOUT_WEIGHTS]
    for family in families:
        for candidate in family(evidence):
            if all(candidate.experiment != other.experiment for other in result):
                result.append(candidate)
    return result


def _trained(
    evidence: Evidence,
    name: str,
    family: str,
    strategy: Strategy,
    *,
    scale: float,
    first: str | None = None,
    **changes: Any,
) -> Candidate:
    """A candidate that is trained from stage `first` on, by default from the lowest stage."""
    experiment = _with_strategy(evidence.experiment, strategy, **changes)
    rate = experiment.optimizer.learning_rate * scale
    return Candidate(
        name=f'{name}, rate {rate:.2g}',
        family=family,
        experiment=experiment,
        first=first or evidence.job.model.names[0],
        scale=scale,
    )


def _with_strategy(experiment: Experiment, strategy: Strategy, **changes: Any) -> Experiment:
    """The experiment with another strategy, without the options that belong to its own."""
    fields = {'baselines': (), 'adapters': (), 'penalties': (), 'samples': None}
    return dataclasses.replace(experiment, **{**fields, 'strategy': strategy, **changes})
