"""Fixtures of the tests of training."""

import pytest

from tests import small_runs


@pytest.fixture(scope='module')
def shared_programs():
    """See `small_runs.shared_programs`; for all tests of a file."""
    with small_runs.shared_programs():
        yield
