"""Four CPU devices, so that every test runs sharded; rank promotion and warnings are errors."""

import gc
import itertools
import os
import pathlib
import resource
import sys

os.environ['JAX_PLATFORMS'] = 'cpu'
# Without its bytecode, each process that a test starts compiles the package's source for a second.
os.environ['PYTHONDONTWRITEBYTECODE'] = ''
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

# Lowering writes the Python frames of each operation into the program, which nothing here reads.
os.environ['JAX_TRACEBACK_IN_LOCATIONS_LIMIT'] = '0'

import tljax  # noqa: F401  (sets the rest of XLA's flags before JAX is imported)

import jax  # isort: skip
import pytest  # isort: skip

from tests import browser  # isort: skip
from tljax.data import decode  # isort: skip

jax.config.update('jax_numpy_rank_promotion', 'raise')

STATM = pathlib.Path('/proc/self/statm')  # on Linux only
LARGE_BYTES = 1_700_000_000
SHARED = pathlib.Path(__file__).parents[2] / 'shared'


def pytest_collection_finish():
    """Collects garbage without what was imported, which stays."""
    sys.dont_write_bytecode = True  # of configs that tests write into folders
    gc.collect()
    gc.freeze()
    # Tracing makes many objects that live on, at which frequent collections would look again.
    gc.set_threshold(50_000, 20, 20)


def _resident_bytes() -> int:
    """The memory of this process now."""
    pages = STATM.read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.fixture(scope='module', autouse=True)
def programs_are_dropped_in_a_large_process():
    """What JAX has compiled is dropped after a file of tests if it may have taken much memory.

    It took 7 GB in the end. A small process keeps it: the forty small operations around a training
    run take 1.4 s to load again in each file.
    """
    yield
    if not STATM.exists() or _resident_bytes() > LARGE_BYTES:
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
