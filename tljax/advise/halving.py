"""Successive halving within a time budget: many short trials, few full-length ones, then folds.

Source: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization". Each rung starts its trials anew and takes every n-th step of the complete schedule,
because the first steps of a long schedule predict its end badly. Restarting costs a third of a
rung. Short schedules are not shortened: fewer candidates are tried instead, at full length.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tljax.advise import rules
from tljax.advise.candidates import Candidate
from tljax.advise.held_out import HeldOutPredictions, joined, ranked
from tljax.advise.trial_costs import TrialCost
from tljax.advise.trials import OutOfTimeError, Trial
from tljax.records import console
from tljax.types import InputError

FACTOR = 3  # a rung has this many times the steps of the one before, and fewer candidates
LAST_STRIDES = (1, 2, 4, 8)  # of the last rung
MIN_CANDIDATES = 2  # the last rung is shortened rather than have fewer
DIRECT = 0.6  # of the budget: if all full-length trials take less, there is one rung
# Shorter trials mislead. With weights far from the task, the best candidate after 100 steps was
# worse than the frozen features after 50 (benchmarks/regret.py, clothes).
MIN_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Rung:
    """A number of candidates, and the stride of their trials: 1 is full length."""

    count: int
    stride: int


def plan(costs: Sequence[TrialCost], budget: float) -> list[Rung]:
    """The rungs that fit into a budget; none if not even one short trial does.

    Args:
        costs: of the candidates, the most promising first.
        budget: in seconds.
    """
    count = len(costs)
    if not count:
        return []
    if _total_seconds(costs, [Rung(count, 1)]) <= DIRECT * budget:
        return [Rung(count, 1)]
    least = min(MIN_CANDIDATES, count)
    last_rungs = [(stride, n) for stride in LAST_STRIDES for n in range(count, least - 1, -1)]
    last_rungs += [(stride, n) for stride in LAST_STRIDES for n in range(least - 1, 0, -1)]
    steps = min(cost.steps for cost in costs)
    for stride, n in last_rungs:
        if stride > 1 and steps / stride < MIN_STEPS:
            continue
        options = [[Rung(n, stride)]]
        if n > 2 and steps / (stride * FACTOR) >= MIN_STEPS:
            options.append([Rung(n, stride * FACTOR), Rung(math.ceil(n / FACTOR), stride)])
        for rungs in options:
            if _total_seconds(costs, rungs) <= budget:
                return rungs
    return []


def _total_seconds(costs: Sequence[TrialCost], rungs: Sequence[Rung]) -> float:
    """Of a plan in the worst case, in which the slowest candidates advance."""
    chosen = costs[: rungs[0].count]
    total = sum(cost.compile_seconds for cost in chosen)
    for rung in rungs:
        total += sum(sorted(cost.trial_seconds(rung.stride) for cost in chosen)[-rung.count :])
    return total


@dataclasses.dataclass(kw_only=True)
class Entry:
    """A candidate in the search.

    Attributes:
        candidate: the candidate.
        trials: by stride, then by fold.
        failed: the error with which it failed, if it did.
        dropped: why it was dropped, if it was.
    """

    candidate: Candidate
    trials: dict[int, dict[int, Trial]] = dataclasses.field(default_factory=dict)
    failed: str | None = None
    dropped: str | None = None

    @property
    def solved(self) -> bool:
        """Whether it is a probe of frozen features, which needs no trial."""
        return self.candidate.predictions is not None

    @property
    def stride(self) -> int | None:
        """Of its longest trials."""
        return min((stride for stride, trials in self.trials.items() if trials), default=None)

    def predictions(self, stride: int | None = None) -> HeldOutPredictions | None:
        """On all its folds at a stride, by default that of its longest trials; None without any."""
        if self.solved:
            return self.candidate.predictions
        trials = self.trials.get(stride or self.stride or 0, {})
        return joined([trial.predictions for trial in trials.values()]) if trials else None


class TrialRunner(Protocol):
    """What runs trials: `trials.Runner`, or a substitute in tests and benchmarks."""

    def run(self, candidate: Candidate, *, fold: int, stride: int, deadline: float) -> Trial:
        """See `trials.Runner.run`."""
        ...


@dataclasses.dataclass(kw_only=True)
class HalvingSearch:
    """The state of a search.

    Attributes:
        runner: of trials.
        folds: how many folds can be used.
        entries: the candidates, the most promising first.
        cost: the predicted cost of a candidate's trials.
        deadline: by the clock.
        clock: in the unit of `cost`, seconds by default.
        rungs: the plan.
        compile_factor: measured over predicted duration of compilation.
        step_factor: measured over predicted duration of a step.
    """

    runner: TrialRunner
    folds: int
    entries: list[Entry]
    cost: Callable[[Candidate], TrialCost]
    deadline: float
    clock: Callable[[], float] = time.monotonic
    rungs: list[Rung] = dataclasses.field(default_factory=list)
    compile_factor: float = 1.0
    step_factor: float = 1.0

    def run(self) -> list[Entry]:
        """Runs the rungs, then further folds of the finalists while there is time.

        Returns:
            The entries to choose from: the finalists and the probes.
        """
        remaining = [entry for entry in self.entries if not entry.solved]
        self.rungs = plan([self.predicted(e) for e in remaining], self._seconds_left())
        planned = self.rungs[0].count if self.rungs else 0
        for entry in remaining[planned:]:
            entry.dropped = 'there was no time to try it'
        remaining, done = remaining[:planned], []
        for rung in self.rungs:
            remaining = self._advance(remaining, rung.count)
            length = 'full length' if rung.stride == 1 else f'1/{rung.stride} of the steps'
            console.console.print(f'Trials of {len(remaining)} candidate(s), {length}:')
            remaining = [entry for entry in remaining if self._try(entry, rung.stride, 0)]
            done = remaining or done
        stride = min((entry.stride for entry in done if entry.stride), default=1)
        finalists = [entry for entry in done if entry.stride == stride]
        finalists = self._further_folds(self._contenders(finalists, stride), stride)
        return finalists + [entry for entry in self.entries if entry.solved]

    def predicted(self, entry: Entry) -> TrialCost:
        """A candidate's cost, corrected by the trials so far; it is compiled only once."""
        cost = self.cost(entry.candidate)
        return dataclasses.replace(
            cost,
            compile_seconds=0.0 if entry.trials else self.compile_factor * cost.compile_seconds,
            step_seconds=self.step_factor * cost.step_seconds,
        )

    def _seconds_left(self) -> float:
        return self.deadline - self.clock()

    def _fits(self, entries: Sequence[Entry], stride: int) -> bool:
        """Whether there is time for one trial of each."""
        costs = [self.predicted(entry) for entry in entries]
        seconds = sum(cost.compile_seconds + cost.trial_seconds(stride) for cost in costs)
        return seconds <= self._seconds_left()

    def _try(self, entry: Entry, stride: int, fold: int) -> bool:
        """Runs a trial if there is time for it; returns whether it has a result."""
        name, expected = entry.candidate.name, self.predicted(entry)
        try:
            if not self._fits([entry], stride):
                raise OutOfTimeError
            trial = self.runner.run(
                entry.candidate, fold=fold, stride=stride, deadline=self.deadline
            )
        except OutOfTimeError:
            entry.dropped = entry.dropped or 'there was no time left'
            return False
        except InputError as error:
            entry.failed = str(error)
            console.console.print(f'  {name}: failed: {error}')
            return False
        self._correct(expected, trial)
        entry.trials.setdefault(stride, {})[fold] = trial
        console.console.print(
            f'  {name}: {100 * trial.predictions.accuracy:.1f} % on fold {fold + 1}, '
            f'{trial.seconds:.0f} s'
        )
        return True

    def _correct(self, expected: TrialCost, trial: Trial) -> None:
        """Corrects predictions by the square root of a trial's error."""
        if expected.compile_seconds and trial.compile_seconds:
            self.compile_factor *= _damped(trial.compile_seconds / expected.compile_seconds)
        if trial.step_seconds:
            self.step_factor *= _damped(trial.step_seconds / expected.step_seconds)

    def _advance(self, entries: list[Entry], count: int) -> list[Entry]:
        """The best entries of the previous rung."""
        if len(entries) <= count:
            return entries
        names = ranked(_predictions(entries))[:count]
        return _keep(entries, names, 'others were better in the short trials')

    def _contenders(self, entries: list[Entry], stride: int) -> list[Entry]:
        """The entries that are not clearly worse than the best."""
        if len(entries) < 2:
            return entries
        by_name = _predictions(entries, stride)
        leader = by_name[ranked(by_name)[0]]
        names = [name for name, one in by_name.items() if not rules.clearly_better(leader, one)]
        return _keep(entries, names, 'another was clearly better')

    def _further_folds(self, entries: list[Entry], stride: int) -> list[Entry]:
        """Tries all entries on one fold after another, until one is clearly better."""
        for fold in range(1, self.folds):
            if not entries or self._decided(entries, stride):
                break
            entries = self._affordable(entries, stride)
            if not self._fits(entries, stride):
                break
            if not all(self._try(entry, stride, fold) for entry in entries):
                for entry in entries:  # all are compared on the same folds
                    entry.trials[stride].pop(fold, None)
                break
            entries = self._contenders(entries, stride)
        return entries

    def _affordable(self, entries: list[Entry], stride: int) -> list[Entry]:
        """The best entries for whose next fold there is time; all, if there is none for two."""
        names = ranked(_predictions(entries, stride))
        for count in range(len(names), 1, -1):
            if self._fits([e for e in entries if e.candidate.name in names[:count]], stride):
                why = 'others were better, and there was no time for more folds'
                return _keep(entries, names[:count], why)
        return entries

    def _decided(self, entries: list[Entry], stride: int) -> bool:
        """Whether one entry is clearly better than all others and the probes."""
        by_name = _predictions(entries, stride)
        by_name |= _predictions([entry for entry in self.entries if entry.solved])
        leader, *others = ranked(by_name)
        return all(rules.clearly_better(by_name[leader], by_name[name]) for name in others)


def _keep(entries: Sequence[Entry], names: Sequence[str], why: str) -> list[Entry]:
    """The entries with these names; `why` is recorded for the others."""
    kept = []
    for entry in entries:
        if entry.candidate.name in names:
            kept.append(entry)
        else:
            entry.dropped = why
    return kept


def _damped(ratio: float) -> float:
    return min(4.0, max(0.25, math.sqrt(ratio)))


def _predictions(
    entries: Sequence[Entry], stride: int | None = None
) -> dict[str, HeldOutPredictions]:
    by_name = {entry.candidate.name: entry.predictions(stride) for entry in entries}
    return {name: one for name, one in by_name.items() if one is not None}
