"""Four CPU devices, so that every test runs sharded; rank promotion and warnings are errors."""

import itertools
import os
import pathlib

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4'
).strip()

import tljax  # noqa: F401  (sets the rest of XLA's flags before JAX is imported)

import jax  # isort: skip
import pytest  # isort: skip

from tljax.data import decode  # isort: skip

jax.config.update('jax_numpy_rank_promotion', 'raise')

SHARED = pathlib.Path(__file__).parents[2] / 'shared'


@pytest.fixture(autouse=True)
def no_image_resized_yet(monkeypatch):
    """The compiled resizing starts at the thousandth image of a process, not of the whole suite."""
    monkeypatch.setattr(decode, '_resized', itertools.count())


def _shared(name: str) -> pathlib.Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there: reference outputs and real images are not shipped')
    return folder


@pytest.fixture(scope='session')
def golden() -> pathlib.Path:
    """The folder of reference outputs of other libraries."""
    return _shared('golden')


@pytest.fixture(scope='session')
def real_data() -> pathlib.Path:
    """The folder of real weights and photographs."""
    return _shared('data')
