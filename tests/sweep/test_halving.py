"""Successive halving: which trial goes on, within the budget."""

import dataclasses
import random

import pytest

from tljax.sweep import halving
from tljax.sweep.halving import Trial

RUNGS = (10, 30, 90)


def trial(number, *values, **changes):
    """A trial that waits at the rung of its last value."""
    goal = RUNGS[len(values) - 1]
    return Trial(**{'number': number, 'rungs': RUNGS, 'goal': goal, 'values': values, **changes})


def finished(budget, score):
    """The trials of a search with one worker, where `score` gives a trial's value at a rung."""
    trials = []
    while True:
        chosen = halving.promotion(trials, budget)
        if chosen is None and halving.may_begin(trials, budget, RUNGS):
            trials.append(trial(len(trials), score(len(trials), 0)))
            continue
        chosen = chosen or halving.leftover(trials, budget)
        if chosen is None:
            return trials
        values = (*chosen.values, score(chosen.number, len(chosen.values)))
        trials[chosen.number] = dataclasses.replace(
            chosen, values=values, goal=RUNGS[len(values) - 1]
        )


def test_the_best_third_of_a_rung_goes_on():
    trials = [trial(0, 0.3), trial(1, 0.5), trial(2, 0.4)]
    assert halving.promotion(trials, 1000) == trials[1]
    trials[1] = trial(1, 0.5, 0.6)
    assert halving.promotion(trials, 1000) is None


def test_a_trial_of_a_higher_rung_goes_on_first():
    low = [trial(number, number / 10) for number in range(6)]
    high = [trial(number, 0.9, number / 10) for number in range(6, 9)]
    assert halving.promotion([*low, *high], 1000) == high[-1]


def test_trials_that_failed_or_were_pruned_do_not_go_on():
    trials = [trial(0, 0.3), trial(1, 0.5, ended=True), trial(2, 0.4)]
    assert halving.promotion(trials, 1000) is None
    assert halving.leftover(trials, 1000) == trials[2]


def test_running_trials_count_with_the_steps_until_their_goal():
    running = Trial(number=0, rungs=RUNGS, goal=30, values=(0.5,))
    assert running.is_running
    assert halving.steps_used([running, trial(1, 0.4)]) == 40


@pytest.mark.parametrize('budget', [90, 91, 130, 400, 1003])
def test_the_budget_is_kept_and_one_trial_has_all_its_steps(budget):
    for seed in range(20):
        rng = random.Random(seed)
        trials = finished(budget, lambda *_, rng=rng: rng.random())
        assert halving.steps_used(trials) <= budget
        assert any(one.is_complete for one in trials)
        assert halving.steps_used(trials) > budget - RUNGS[-1]


def test_the_best_configuration_of_many_is_found_with_a_third_of_their_steps():
    quality = list(range(27))
    random.Random(0).shuffle(quality)
    trials = finished(9 * 90, lambda number, rung: quality[number % 27] + rung / 10)
    best = max((one for one in trials if one.is_complete), key=lambda one: one.values[-1])
    assert quality[best.number % 27] == 26
