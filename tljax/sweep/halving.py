"""Successive halving of runs that pause: which trial of a search trains next, and until when.

A trial pauses at rungs, which are steps of its run. The best third of the trials at a rung goes on
to the next one. Each decision depends only on the trials so far.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2. There
a run that stopped at a rung begins again; here it goes on from its checkpoint.
"""

import dataclasses
from collections.abc import Sequence

REDUCTION = 3  # one of so many trials goes on from a rung
SHARES = (1 / 9, 1 / 3, 1.0)  # of the steps of a run, at which its rungs are


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial of a search.

    Attributes:
        number: its place among the trials, from 0.
        rungs: the steps at which it may pause, and its last step.
        goal: the rung until which it trains, or has trained.
        values: its validation value at each rung that it has reached; larger is better.
        ended: whether it failed or was pruned, so that it never goes on.
    """

    number: int
    rungs: tuple[int, ...]
    goal: int
    values: tuple[float, ...] = ()
    ended: bool = False

    @property
    def step(self) -> int:
        """The last rung that it has reached; 0 if none."""
        return self.rungs[len(self.values) - 1] if self.values else 0

    @property
    def is_running(self) -> bool:
        """Whether it has not reached its goal."""
        return not self.ended and self.step < self.goal

    @property
    def is_complete(self) -> bool:
        """Whether it has reached its last step."""
        return self.step == self.rungs[-1]

    @property
    def is_paused(self) -> bool:
        """Whether it waits at a rung."""
        return not (self.ended or self.is_running or self.is_complete)


def steps_used(trials: Sequence[Trial]) -> int:
    """The steps of all trials, including those that running trials have still to do."""
    return sum(trial.goal for trial in trials)


def promotion(trials: Sequence[Trial], budget: int) -> Trial | None:
    """The paused trial that goes on, because it is among the best of its rung; None without one.

    Args:
        trials: of the search.
        budget: the steps of all trials.
    """
    spare = budget - steps_used(trials)
    for rung in reversed(range(len(SHARES))):
        reached = [trial for trial in trials if len(trial.values) > rung]
        reached.sort(key=lambda trial: (-trial.values[rung], trial.number))
        for trial in reached[: len(reached) // REDUCTION]:
            waits = trial.is_paused and len(trial.values) == rung + 1
            if waits and _fits(trials, spare, trial.step, next_goal(trial), trial.rungs[-1]):
                return trial
    return None


def may_begin(trials: Sequence[Trial], budget: int, rungs: Sequence[int]) -> bool:
    """Whether the budget allows for a new trial until its first rung.

    Args:
        trials: of the search.
        budget: the steps of all trials.
        rungs: of the new trial.
    """
    return _fits(trials, budget - steps_used(trials), 0, rungs[0], rungs[-1])


def _fits(trials: Sequence[Trial], spare: int, step: int, goal: int, last: int) -> bool:
    """Whether the budget allows for some steps, and then for a first trial with all its steps."""
    furthest = max([goal, *(trial.goal for trial in trials if not trial.ended)])
    complete = any(trial.goal == trial.rungs[-1] for trial in trials if not trial.ended)
    reserve = 0 if complete or goal == last else max(last - furthest, 0)
    return goal - step + reserve <= spare


def leftover(trials: Sequence[Trial], budget: int) -> Trial | None:
    """The best paused trial of the highest rung that the rest of the budget takes further.

    It is used when no new trial may begin.
    """
    spare = budget - steps_used(trials)
    fits = [trial for trial in trials if trial.is_paused and next_goal(trial) - trial.step <= spare]
    return max(fits, key=lambda trial: (len(trial.values), trial.values[-1]), default=None)


def next_goal(trial: Trial) -> int:
    """The rung after the one at which a trial waits."""
    return trial.rungs[len(trial.values)]
