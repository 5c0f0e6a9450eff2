"""Programs are shared by equal keys, in a context, and by nothing else."""

import jax
import numpy as np
import pytest

from tests.small_runs import Tiny, assert_identical
from tljax.models import shared_programs, stages


@pytest.fixture
def make():
    """A function that makes a new object each time."""
    return object


def test_an_equal_key_gives_the_same_program_and_another_key_another_one(make):
    with shared_programs.sharing():
        first = shared_programs.get(('step', stages.build(Tiny(), 3)), make)
        assert shared_programs.get(('step', stages.build(Tiny(), 3)), make) is first
        assert shared_programs.get(('step', stages.build(Tiny(), 4)), make) is not first
        assert shared_programs.get(('evaluation', stages.build(Tiny(), 3)), make) is not first


def test_nothing_is_shared_outside_of_the_context(make):
    assert shared_programs.get(('step', 1), make) is not shared_programs.get(('step', 1), make)
    with shared_programs.sharing():
        inside = shared_programs.get(('step', 1), make)
    with shared_programs.sharing():
        assert shared_programs.get(('step', 1), make) is not inside


def test_what_lasts_is_shared_by_the_whole_process_and_by_equal_keys_only(make):
    first = shared_programs.lasting(('test', stages.build(Tiny(), 3)), make)
    with shared_programs.sharing():
        assert shared_programs.lasting(('test', stages.build(Tiny(), 3)), make) is first
    assert shared_programs.lasting(('test', stages.build(Tiny(), 4)), make) is not first


def test_equal_models_are_traced_once_for_their_values_and_others_again(monkeypatch):
    traced, init = [], stages._init
    monkeypatch.setattr(stages, '_init', lambda *of: traced.append(1) or init(*of))
    odd, even = (stages.build(Tiny(), k) for k in (771, 772))
    first, again = (
        stages.init(model, jax.random.key(0)) for model in (odd, stages.build(Tiny(), 771))
    )
    assert_identical(again, first)
    assert len(traced) == 1
    params, _ = stages.init(even, jax.random.key(0))
    assert params['head']['linear']['bias'].shape == (772,)
    assert stages.init(even, jax.random.key(0), skip=['head'])[0].keys() == {'low', 'high'}
    assert len(traced) == 3


def test_keys_with_arrays_are_never_equal(make):
    key = ('step', np.zeros(2), 1)
    with shared_programs.sharing():
        first = shared_programs.get(key, make)
        assert shared_programs.get(('step', np.zeros(2), 1), make) is not first


def test_the_programs_that_were_not_used_for_the_longest_time_are_dropped(make):
    with shared_programs.sharing():
        first, second = (shared_programs.get((name,), make) for name in ('a', 'b'))
        for number in range(shared_programs.KEPT - 2):
            shared_programs.get((number,), make)
        assert shared_programs.get(('a',), make) is first
        shared_programs.get(('new',), make)
        assert shared_programs.get(('a',), make) is first
        assert shared_programs.get(('b',), make) is not second
