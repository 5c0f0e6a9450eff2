"""Four CPU devices, so that every test runs sharded; rank promotion and warnings are errors."""

import gc
import itertools
import os
import pathlib

os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the suite's time is compilation of programs that run once or twice. Without optimisation
# and without the emitters that compile each fusion in an MLIR context of its own, XLA compiles them
# in a fifth of the time. A flag in the environment comes later, and overrides these.
os.environ['XLA_FLAGS'] = ' '.join(
    [
        '--xla_backend_optimization_level=0',
        '--xla_cpu_use_fusion_emitters=false',
        '--xla_cpu_parallel_codegen_split_count=1',
        os.environ.get('XLA_FLAGS', ''),
        '--xla_force_host_platform_device_count=4',
    ]
)

import tljax  # noqa: F401  (sets the rest of XLA's flags before JAX is imported)

import jax  # isort: skip
import pytest  # isort: skip

from tests import browser  # isort: skip
from tljax.data import decode  # isort: skip

jax.config.update('jax_numpy_rank_promotion', 'raise')

SHARED = pathlib.Path(__file__).parents[2] / 'shared'


def pytest_collection_finish():
    """Collects garbage without what was imported, which stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='module', autouse=True)
def no_program_outlives_its_file():
    """What JAX has compiled for a file of tests is dropped after it: it took 7 GB in the end."""
    yield
    jax.clear_caches()
    gc.collect()


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


@pytest.fixture(scope='session')
def chromium():
    """A headless Chromium, which is started once."""
    if browser.PROGRAM is None:
        pytest.skip(browser.WHY_SKIPPED)
    with browser.started() as started:
        yield started
