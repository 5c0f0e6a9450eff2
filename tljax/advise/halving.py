"""Successive halving in a budget of seconds: many short trials, then few long ones, then folds.

Source: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization". A rung starts its trials anew and goes through the whole schedule, in strides: the
beginning of a long schedule says less about its end, and what is lost is a third of a rung. Of
short schedules no part is tried: rather fewer candidates are, at full length.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tljax.advise import rules
from tljax.advise.candidates import Candidate
from tljax.advise.choice import Answers, joined, ranked
from tljax.advise.trials import OutOfTime, Trial
from tljax.records import console
from tljax.types import InputError

FACTOR = 3  # by which a rung is longer, and its candidates fewer
TOPS = (1, 2, 4, 8)  # strides that the last rung may have
ENOUGH = 2  # candidates without which the last rung is rather shortened
DIRECT = 0.6  # of the budget: where all trials at full length take less, they are run so
# Of a trial that is cut short. Where weights are far from the task, the best of 100 steps were
# behind frozen features after 50, which need none (benchmarks/regret.py, clothes).
LEAST_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Rung:
    """So many candidates, each in strides through its schedule: 1 is the experiment's length."""

    count: int
    stride: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """What trials of a candidate take.

    Attributes:
        compilation: seconds, once.
        each: seconds of a trial, whatever its length.
        step: seconds.
        steps: of the whole length.
    """

    compilation: float
    each: float
    step: float
    steps: float

    def trial(self, stride: int) -> float:
        """Seconds of one that is compiled."""
        return self.each + self.step * self.steps / stride


def plan(costs: Sequence[Cost], budget: float) -> list[Rung]:
    """The rungs that fit into a budget of seconds; none if not even one short trial does.

    Args:
        costs: of the candidates, the most promising first.
        budget: in seconds.
    """
    count = len(costs)
    if not count:
        return []
    if _seconds(costs, [Rung(count, 1)]) <= DIRECT * budget:
        return [Rung(count, 1)]
    least = min(ENOUGH, count)
    wanted = [(top, n) for top in TOPS for n in range(count, least - 1, -1)]
    wanted += [(top, n) for top in TOPS for n in range(least - 1, 0, -1)]
    steps = min(cost.steps for cost in costs)
    for top, n in wanted:
        if top > 1 and steps / top < LEAST_STEPS:
            continue
        short = [Rung(n, top * FACTOR), Rung(math.ceil(n / FACTOR), top)]
        halving = n > 2 and steps / (top * FACTOR) >= LEAST_STEPS
        for rungs in [[Rung(n, top)], short] if halving else [[Rung(n, top)]]:
            if _seconds(costs, rungs) <= budget:
                return rungs
    return []


def _seconds(costs: Sequence[Cost], rungs: Sequence[Rung]) -> float:
    """Of a plan, if of the candidates the dearest go on."""
    chosen = costs[: rungs[0].count]
    found = sum(cost.compilation for cost in chosen)
    for rung in rungs:
        found += sum(sorted(cost.trial(rung.stride) for cost in chosen)[-rung.count :])
    return found


@dataclasses.dataclass(kw_only=True)
class Entry:
    """A candidate in the search.

    Attributes:
        candidate: what it is.
        trials: by the stride, then by fold.
        failed: why it could not be run, if it could not.
        dropped: why it went no further, if it did not.
    """

    candidate: Candidate
    trials: dict[int, dict[int, Trial]] = dataclasses.field(default_factory=dict)
    failed: str | None = None
    dropped: str | None = None

    @property
    def solved(self) -> bool:
        """Whether the frozen features tell its answers, so that nothing has to be trained."""
        return self.candidate.answers is not None

    @property
    def stride(self) -> int | None:
        """Of its longest trials."""
        return min((stride for stride, found in self.trials.items() if found), default=None)

    def answers(self, stride: int | None = None) -> Answers | None:
        """Of all its folds at a stride, the longest trials if None; None where it has none."""
        if self.solved:
            return self.candidate.answers
        found = self.trials.get(stride or self.stride or 0, {})
        return joined([trial.answers for trial in found.values()]) if found else None


class Runs(Protocol):
    """What runs trials: `trials.Runner`."""

    def run(self, candidate: Candidate, *, fold: int, stride: int, deadline: float) -> Trial:
        """See `trials.Runner.run`."""
        ...


@dataclasses.dataclass(kw_only=True)
class Search:
    """A search under way: what is known, what it cost, and until when it may go on.

    Attributes:
        runner: of trials, a `trials.Runner`.
        folds: how many there are.
        entries: the most promising first.
        cost: what trials of a candidate are predicted to take.
        deadline: by the clock.
        clock: in the units of `cost`; seconds.
        rungs: as they were planned.
        compiling: how much longer than predicted compilation took.
        stepping: likewise, steps.
    """

    runner: Runs
    folds: int
    entries: list[Entry]
    cost: Callable[[Candidate], Cost]
    deadline: float
    clock: Callable[[], float] = time.monotonic
    rungs: list[Rung] = dataclasses.field(default_factory=list)
    compiling: float = 1.0
    stepping: float = 1.0

    def run(self) -> list[Entry]:
        """Halves, then asks the finalists further folds while there is time.

        Returns:
            Those that the choice is among: the finalists, and what needed no training.
        """
        alive = [entry for entry in self.entries if not entry.solved]
        self.rungs = plan([self.predicted(e) for e in alive], self._left())
        planned = self.rungs[0].count if self.rungs else 0
        for entry in alive[planned:]:
            entry.dropped = 'there was no time to try it'
        alive, done = alive[:planned], []
        for rung in self.rungs:
            alive = self._best(alive, rung.count)
            length = 'the whole' if rung.stride == 1 else f'1/{rung.stride} of the'
            console.console.print(f'{len(alive)} candidates, {length} training:')
            tried = [entry for entry in alive if self._try(entry, rung.stride, 0)]
            done = tried or done
            alive = tried
        stride = min((entry.stride for entry in done if entry.stride), default=1)
        finalists = [entry for entry in done if entry.stride == stride]
        finalists = self._race(self._within(finalists, stride), stride)
        return finalists + [entry for entry in self.entries if entry.solved]

    def predicted(self, entry: Entry) -> Cost:
        """A candidate's cost as it looks by now; what is compiled need not be compiled again."""
        found = self.cost(entry.candidate)
        compilation = 0.0 if entry.trials else self.compiling * found.compilation
        return dataclasses.replace(found, compilation=compilation, step=self.stepping * found.step)

    def _left(self) -> float:
        return self.deadline - self.clock()

    def _seconds(self, entries: Sequence[Entry], stride: int) -> float:
        costs = [self.predicted(entry) for entry in entries]
        return sum(cost.compilation + cost.trial(stride) for cost in costs)

    def _try(self, entry: Entry, stride: int, fold: int) -> bool:
        """A trial, if there is time for it; whether it has answers now."""
        name, expected = entry.candidate.name, self.predicted(entry)
        if self._seconds([entry], stride) > self._left():
            entry.dropped = entry.dropped or 'there was no time left'
            return False
        try:
            trial = self.runner.run(
                entry.candidate, fold=fold, stride=stride, deadline=self.deadline
            )
        except OutOfTime:
            entry.dropped = entry.dropped or 'there was no time left'
            return False
        except InputError as error:
            entry.failed = str(error)
            console.console.print(f'  {name}: cannot be run: {error}')
            return False
        self._learn(expected, trial)
        entry.trials.setdefault(stride, {})[fold] = trial
        console.console.print(
            f'  {name}: {100 * trial.answers.accuracy:.1f} % of fold {fold + 1}, '
            f'{trial.seconds:.0f} s'
        )
        return True

    def _learn(self, expected: Cost, trial: Trial) -> None:
        """Brings predictions half of the way to what a trial took."""
        if expected.compilation and trial.compile_seconds:
            self.compiling *= _half_way(trial.compile_seconds / expected.compilation)
        if trial.step_seconds:
            self.stepping *= _half_way(trial.step_seconds / expected.step)

    def _best(self, alive: list[Entry], count: int) -> list[Entry]:
        if len(alive) <= count:
            return alive
        names = ranked(_answers(alive))[:count]
        for entry in alive:
            if entry.candidate.name not in names:
                entry.dropped = 'others were better in the short trials'
        return [entry for entry in alive if entry.candidate.name in names]

    def _within(self, done: list[Entry], stride: int) -> list[Entry]:
        """Those that are not clearly worse than the best of them."""
        if len(done) < 2:
            return done
        found = _answers(done, stride)
        leader, kept = found[ranked(found)[0]], []
        for entry in done:
            if rules.better(leader, found[entry.candidate.name]):
                entry.dropped = 'another was clearly better'
            else:
                kept.append(entry)
        return kept

    def _race(self, alive: list[Entry], stride: int) -> list[Entry]:
        """Asks further folds, of all that are left alike, until one is clearly better."""
        for fold in range(1, self.folds):
            if not alive or self._settled(alive, stride):
                break
            alive = self._affordable(alive, stride)
            if self._seconds(alive, stride) > self._left():
                break
            if not all(self._try(entry, stride, fold) for entry in alive):
                for entry in alive:  # compared alike, or not at all
                    entry.trials[stride].pop(fold, None)
                break
            alive = self._within(alive, stride)
        return alive

    def _affordable(self, alive: list[Entry], stride: int) -> list[Entry]:
        """The better ones for whose next fold there is time; all of them if not for two."""
        names = ranked(_answers(alive, stride))
        for count in range(len(names), 1, -1):
            kept = [entry for entry in alive if entry.candidate.name in names[:count]]
            if self._seconds(kept, stride) <= self._left():
                for entry in alive:
                    if entry not in kept:
                        entry.dropped = 'others were better, and there was no time for more folds'
                return kept
        return alive

    def _settled(self, alive: list[Entry], stride: int) -> bool:
        """Whether one is clearly better than all others."""
        found = _answers(alive, stride) | _answers([e for e in self.entries if e.solved])
        leader, *others = ranked(found)
        return all(rules.better(found[leader], found[name]) for name in others)


def _half_way(ratio: float) -> float:
    return min(4.0, max(0.25, math.sqrt(ratio)))


def _answers(entries: Sequence[Entry], stride: int | None = None) -> dict[str, Answers]:
    found = {entry.candidate.name: entry.answers(stride) for entry in entries}
    return {name: answers for name, answers in found.items() if answers is not None}
