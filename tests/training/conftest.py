"""Fixtures of the tests of training."""

import pytest

from tests import small_runs
from tljax.training.run import train

KEPT: dict = {}  # what the files of tests share


@pytest.fixture(scope='module')
def shared_programs():
    """See `small_runs.shared_programs`; for all tests of the files that use it."""
    with small_runs.shared_programs(KEPT):
        yield


@pytest.fixture(scope='session')
def reference(tmp_path_factory):
    """The folder and the result of an uninterrupted run of `experiment()`; tests only read it."""
    workdir = tmp_path_factory.mktemp('reference')
    with small_runs.shared_programs(KEPT):
        return workdir, train(small_runs.experiment(), workdir)
