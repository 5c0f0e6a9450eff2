"""Programs are shared by equal keys, in a context, and by nothing else."""

import numpy as np
import pytest

from tests.small_runs import Tiny
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
