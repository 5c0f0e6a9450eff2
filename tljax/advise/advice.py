"""Advice: the evidence, the search and the choice, one after the other."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence

from tljax.advise import candidates, config_source, evidence, networks, price, rules, tasks
from tljax.advise.candidates import Candidate
from tljax.advise.choice import Answers, Choice, choose
from tljax.advise.evidence import Look
from tljax.advise.halving import Cost, Entry, Search
from tljax.advise.price import Price
from tljax.advise.rules import Dropped
from tljax.advise.tasks import Task
from tljax.advise.trials import Runner
from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.records import console
from tljax.types import CachePrefix, InputError

RESERVE_SECONDS = 4.0  # of the budget, for what comes after the last trial
TRIAL_SECONDS = 1.0  # of a trial, besides its steps and its evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """What is advised, and all that it rests on.

    Attributes:
        candidate: the advised one.
        experiment: to be run.
        choice: how it was chosen.
        answers: of all candidates that the choice was among.
        task: the labelled images.
        looks: at every network.
        prices: of those that were trained, by the source of their weights.
        dropped: what was not considered, and why.
        search: every candidate that was, with its trials.
        seconds: in all.
    """

    candidate: Candidate
    experiment: Experiment
    choice: Choice
    answers: dict[str, Answers]
    task: Task
    looks: list[Look]
    prices: dict[str | None, Price]
    dropped: list[Dropped]
    search: Search
    seconds: float


def find(
    experiment: Experiment,
    *,
    budget_seconds: float,
    more_weights: Sequence[str] = (),
    folder: pathlib.Path | None = None,
) -> Advice:
    """Looks, proposes, searches and chooses.

    Args:
        experiment: whose data and whose way of training it is; its strategy is one candidate.
        budget_seconds: of the whole; what is under way when they end is given up.
        more_weights: sources of further candidate weights.
        folder: where trials are kept, so that the same search again begins with them.

    Raises:
        InputError: the experiment cannot run, or no advice can be given.
    """
    started = time.monotonic()
    validation.validate(experiment)
    config_source.check(experiment)
    task = tasks.read(experiment)
    console.console.print(
        f'{len(task.labels)} labelled images of {task.num_classes} classes, '
        + ('validated on their own split.' if task.own_validation else f'{task.count} folds.')
    )
    looks = [_look(task, network) for network in networks.of(experiment, more_weights)]
    deadline = started + budget_seconds - RESERVE_SECONDS
    found = decide(task, looks, deadline=deadline, folder=folder, proposed=candidates.FAMILIES)
    return dataclasses.replace(found, seconds=time.monotonic() - started)


def decide(
    task: Task,
    looks: Sequence[Look],
    *,
    proposed: Sequence[candidates.Family],
    deadline: float,
    folder: pathlib.Path | None = None,
) -> Advice:
    """The advice that follows from looks at networks.

    Args:
        task: the labelled images.
        looks: at every candidate network.
        proposed: families of candidates.
        deadline: of the search, by `time.monotonic`.
        folder: see `find`.

    Raises:
        InputError: no candidate is left.
    """
    kept, dropped = rules.networks(looks)
    prices = {look.source: price.measure(look.job, look.last.linear) for look in kept}
    considered, more = consider(kept, task, proposed)
    search = Search(
        runner=Runner(task, folder),
        folds=task.asked,
        entries=[Entry(candidate=candidate) for candidate in considered],
        cost=lambda candidate: cost(candidate, prices, task),
        deadline=deadline,
    )
    answers, choice = conclude(search, task)
    chosen = next(c for c in considered if c.name == choice.name)
    return Advice(
        candidate=chosen,
        experiment=final(chosen, task),
        choice=choice,
        answers=answers,
        task=task,
        looks=list(looks),
        prices=prices,
        dropped=dropped + more,
        search=search,
        seconds=0.0,
    )


def consider(
    looks: Sequence[Look], task: Task, proposed: Sequence[candidates.Family]
) -> tuple[list[Candidate], list[Dropped]]:
    """The candidates of networks in the order in which they are tried, and those left out.

    Raises:
        InputError: none is left.
    """
    good: list[Candidate] = []
    bad: list[Dropped] = []
    for look in looks:
        for candidate in candidates.propose(look, proposed):
            if len(looks) > 1:
                name = f'{candidate.name}, {networks.short(look.source)}'
                candidate = dataclasses.replace(candidate, name=name)
            if why := rules.reason_against(candidate, look, task):
                bad.append(Dropped(name=candidate.name, why=why))
            else:
                good.append(candidate)
    if not good:
        raise InputError('no candidate is left: the rules speak against each of them')
    return [c for c in good if c.answers is not None] + rules.ordered(good, task), bad


def conclude(search: Search, task: Task) -> tuple[dict[str, Answers], Choice]:
    """Runs a search, and chooses among its finalists: their answers, and the choice."""
    finalists = search.run()
    answers = {e.candidate.name: found for e in finalists if (found := e.answers()) is not None}
    if not answers:
        raise InputError(
            'there was no time for a single trial, and there are no weights whose frozen features '
            'could be asked: give a larger --budget_minutes'
        )
    return answers, choose(answers, rules.priors([e.candidate for e in finalists], task))


def _look(task: Task, network: networks.CandidateNetwork) -> Look:
    found = evidence.look(task, network.experiment, network.pretrained)
    depths = ', '.join(f'{d.stage} {100 * d.accuracy:.0f}' for d in found.depths)
    console.console.print(
        f'{network.label}, frozen: a linear layer on {depths} % right ({found.seconds:.0f} s).'
    )
    return found


def cost(candidate: Candidate, prices: dict[str | None, Price], task: Task) -> Cost:
    """What a trial of a candidate will take."""
    e = candidate.experiment
    found = prices[e.backbone.weights]
    held_out = len(task.held_out(0))
    images = len(task.labels) - (task.place == 0).sum()
    steps = candidate.steps or e.epochs * images / e.batch_size
    ahead = not e.augmentations and e.cache_prefix is not CachePrefix.NEVER
    step = found.step(candidate.first, ahead=ahead)
    if e.samples is not None:
        step /= 1 - e.samples.fraction  # rows of the source beside the data's
    seen = held_out + (images if ahead else 0)
    forward = found.step_seconds / (1 + price.BACKWARD) * seen / e.batch_size
    return Cost(
        compilation=found.compilation(candidate.first),
        each=TRIAL_SECONDS + forward,
        step=step,
        steps=steps,
    )


def final(candidate: Candidate, task: Task) -> Experiment:
    """What is to be run: where validation came out of the training images, on all of them.

    The choice is made, and the trials were judged at their last step, so that nothing more is to
    be picked by validation.
    """
    e = candidate.experiment
    if task.own_validation:
        return e
    return dataclasses.replace(e, validation_fraction=0.0)
