"""Finding an advice: evidence, candidates, trials and the choice, in this order."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence

from tljax.advise import (
    candidates,
    config_source,
    evidence,
    networks,
    rules,
    screening,
    tasks,
    trial_costs,
)
from tljax.advise.candidates import Candidate
from tljax.advise.choice import Choice, choose
from tljax.advise.evidence import Evidence
from tljax.advise.halving import Entry, HalvingSearch
from tljax.advise.held_out import HeldOutPredictions
from tljax.advise.rules import Dropped
from tljax.advise.screening import Screened
from tljax.advise.tasks import TargetImages
from tljax.advise.trial_costs import NetworkCost
from tljax.advise.trials import Runner
from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.records import console
from tljax.types import InputError, images_of

RESERVE_SECONDS = 4.0  # of the budget, for the report after the last trial


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """The advised experiment, and everything that led to it.

    Attributes:
        candidate: the advised one.
        experiment: to be trained.
        choice: how it was chosen.
        predictions: of the candidates that were chosen from.
        task: the labelled images.
        screened: the networks and their probes on subsamples, if there were many.
        evidence: of every network that the screening kept.
        network_costs: of the networks that were tried, by the source of their weights.
        dropped: candidates that were not tried, and why.
        search: all other candidates with their trials.
        seconds: in total.
    """

    candidate: Candidate
    experiment: Experiment
    choice: Choice
    predictions: dict[str, HeldOutPredictions]
    task: TargetImages
    screened: list[Screened]
    evidence: list[Evidence]
    network_costs: dict[str | None, NetworkCost]
    dropped: list[Dropped]
    search: HalvingSearch
    seconds: float


def find(
    experiment: Experiment,
    *,
    budget_seconds: float,
    more_weights: Sequence[str] = (),
    folder: pathlib.Path | None = None,
) -> Advice:
    """Finds the best strategy for an experiment's data.

    Args:
        experiment: defines the data and the training recipe; its strategy is one candidate.
        budget_seconds: of everything; an unfinished trial is abandoned.
        more_weights: sources of further candidate weights.
        folder: where trials are stored and reused by a later search; None for no storage.

    Raises:
        InputError: the experiment cannot run, or there is no basis for an advice.
    """
    started = time.monotonic()
    validation.validate(experiment)
    config_source.check(experiment)
    images_of(experiment.backbone.preprocessing())
    task = tasks.read(experiment)
    console.console.print(
        f'{len(task.labels)} labelled images of {task.num_classes} classes, '
        + ('with their own validation split.' if task.own_validation else f'{task.count} folds.')
    )
    left, screened = screening.screen(task, networks.of(experiment, more_weights))
    collected = [_evidence(task, network) for network in left]
    kept, weights_dropped = rules.networks(collected)
    weights_dropped = [
        *(Dropped(name=f'weights {one.source}', why=one.why) for one in screened if one.why),
        *weights_dropped,
    ]
    costs = {one.source: trial_costs.measure(one.job, one.last.linear) for one in kept}
    considered, dropped = consider(kept, task, candidates.FAMILIES)
    search = HalvingSearch(
        runner=Runner(task, folder),
        folds=task.folds_used,
        entries=[Entry(candidate=candidate) for candidate in considered],
        cost=lambda c: trial_costs.predict(c, costs[c.experiment.backbone.weights], task),
        deadline=started + budget_seconds - RESERVE_SECONDS,
    )
    predictions, choice = search_and_choose(search, task)
    chosen = next(one for one in considered if one.name == choice.name)
    return Advice(
        candidate=chosen,
        experiment=_final(chosen, task),
        choice=choice,
        predictions=predictions,
        task=task,
        screened=screened,
        evidence=collected,
        network_costs=costs,
        dropped=weights_dropped + dropped,
        search=search,
        seconds=time.monotonic() - started,
    )


def _evidence(task: TargetImages, network: networks.CandidateNetwork) -> Evidence:
    result = evidence.collect(task, network.experiment, network.pretrained)
    accuracies = ', '.join(f'{p.stage} {100 * p.accuracy:.0f} %' for p in result.probes)
    console.console.print(
        f'Linear probes of {network.label}, held-out accuracy: {accuracies} '
        f'({result.seconds:.0f} s).'
    )
    return result


def consider(
    collected: Sequence[Evidence], task: TargetImages, families: Sequence[candidates.Family]
) -> tuple[list[Candidate], list[Dropped]]:
    """The candidates of networks in the order of trials, and those that rules exclude.

    Args:
        collected: the evidence of each network.
        task: the labelled images.
        families: of candidates.

    Raises:
        InputError: no candidate is left.
    """
    good: list[Candidate] = []
    bad: list[Dropped] = []
    for one in collected:
        for candidate in candidates.propose(one, families):
            if len(collected) > 1:
                name = f'{candidate.name}, {networks.short(one.source)}'
                candidate = dataclasses.replace(candidate, name=name)
            if why := rules.reason_against(candidate, one, task):
                bad.append(Dropped(name=candidate.name, why=why))
            else:
                good.append(candidate)
    if not good:
        raise InputError('no candidate is left: the rules exclude all of them')
    probes = [candidate for candidate in good if candidate.predictions is not None]
    return probes + rules.ordered(good, task), bad


def search_and_choose(
    search: HalvingSearch, task: TargetImages
) -> tuple[dict[str, HeldOutPredictions], Choice]:
    """Runs a search and chooses; returns the predictions of the finalists, and the choice.

    Raises:
        InputError: no trial was finished, and there is no probe.
    """
    finalists = search.run()
    predictions = {
        entry.candidate.name: result
        for entry in finalists
        if (result := entry.predictions()) is not None
    }
    if not predictions:
        raise InputError(
            'there was no time for a single trial, and without weights there are no frozen '
            'features to evaluate: set a larger --budget_minutes'
        )
    return predictions, choose(predictions, rules.priors([e.candidate for e in finalists], task))


def _final(candidate: Candidate, task: TargetImages) -> Experiment:
    """The advised experiment: on all labelled images, if validation images were drawn from them.

    Trials were evaluated at their last step, so no validation split is needed to select one.
    """
    if task.own_validation:
        return candidate.experiment
    return dataclasses.replace(candidate.experiment, validation_fraction=0.0)
