"""One trained run for all tests of commands that read a run."""

import pathlib

import pytest

from tests import served
from tljax.models.views import FlipViews


@pytest.fixture(scope='session')
def served_run(tmp_path_factory) -> pathlib.Path:
    """A run with predictions and features of two views of each test image; its data is in `data`.

    Tests only read it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
        return served.make(
            tmp_path_factory.mktemp('served'), test_views=FlipViews(), keep_features=True
        )
