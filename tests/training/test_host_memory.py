"""A step that does not fit into the memory of the machine is refused before training."""

import jax
import jax.numpy as jnp
import pytest

from tests.small_runs import short
from tljax.training import host_memory
from tljax.training.compiled_step import OutOfMemoryError
from tljax.training.run import train


def test_a_step_that_does_not_fit_ends_the_run_before_training_and_says_what_to_lower(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(host_memory, 'free_bytes', lambda: 1000.0)
    with pytest.raises(OutOfMemoryError, match=r'needs .* are free. Set config.accumulate'):
        train(short(), tmp_path / 'run')
    assert not list((tmp_path / 'run/checkpoints/steps').glob('[0-9]*'))


def test_a_program_needs_its_temporary_memory_and_its_outputs(monkeypatch):
    program = jax.jit(lambda x: (x @ x) @ x).lower(jnp.zeros((64, 64))).compile()
    monkeypatch.setattr(host_memory, 'free_bytes', lambda: 64.0 * 64 * 4 - 1)
    assert host_memory.problem(program)
    monkeypatch.setattr(host_memory, 'free_bytes', lambda: 1e6)
    assert host_memory.problem(program) is None


@pytest.mark.parametrize(
    ('limit', 'used', 'files', 'free'), [('max', 5, 1, None), ('100', '70', '20', 50.0)]
)
def test_the_limit_of_a_container_counts(limit, used, files, free, tmp_path, monkeypatch):
    contents = {'memory.max': limit, 'memory.current': used, 'memory.stat': f'anon 9\nfile {files}'}
    for name, content in contents.items():
        (tmp_path / name).write_text(str(content))
    monkeypatch.setattr(host_memory, 'CGROUP', tmp_path)
    assert host_memory.free_bytes() == free if free else host_memory.free_bytes() > 1e6


def test_the_available_memory_of_the_machine_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(host_memory, 'MEMINFO', tmp_path / 'meminfo')
    (tmp_path / 'meminfo').write_text('MemTotal: 900 kB\nMemAvailable: 3 kB\nSwapFree: 1 kB\n')
    assert host_memory.free_bytes() == 4096
