"""`tljax doctor`: what it says about an installation, and what it keeps to itself."""

import json
import subprocess
import sys

import pytest

from tljax import environment
from tljax.commands import doctor
from tljax.training.diagnosis import diagnosis, incompatibilities, machine, packages, speed
from tljax.training.diagnosis.incompatibilities import Installation

FLAG = environment.CPU_CONVOLUTIONS
FINE = {'python': '3.11.7', 'jaxlib': '0.10.2', 'orbax-checkpoint': '0.12.8'}


def problems(**changes):
    """The known incompatibilities of an installation that differs from one without any."""
    usual = {'versions': FINE, 'platform': 'cpu', 'xla_flags': FLAG}
    return incompatibilities.problems(Installation(**{**usual, **changes}))


def test_an_installation_without_a_fault_has_no_known_incompatibility():
    assert problems() == []


@pytest.mark.parametrize(
    ('changes', 'consequence'),
    [
        ({'xla_flags': '--xla_cpu_experimental_ynn_fusion_type=dot'}, '7 to 10 times as long'),
        ({'versions': FINE | {'jax-cuda12-plugin': '0.9.0'}}, 'another version than jaxlib'),
        ({'has_nvidia_driver': True}, 'computes on the CPU'),
        (
            {'versions': FINE | {'jax2onnx': '0.17.1', 'orbax-checkpoint': '0.11.36'}},
            'pip install --no-deps jax2onnx',
        ),
    ],
)
def test_a_known_incompatibility_is_recognised_by_itself(changes, consequence):
    (line,) = problems(**changes)
    assert consequence in line


@pytest.mark.parametrize(
    'changes',
    [
        {'xla_flags': '', 'versions': FINE | {'jaxlib': '0.13.0'}},  # not measured there
        {'xla_flags': '', 'platform': 'gpu'},
        {'has_nvidia_driver': True, 'requested': 'cpu'},
        {'versions': FINE | {'jax2onnx': '0.17.1'}},
        {'versions': FINE | {'jax-cuda12-plugin': '0.10.2'}},
    ],
)
def test_a_rule_does_not_apply_to_other_versions_and_devices(changes):
    assert problems(**changes) == []


def test_an_unfulfilled_requirement_is_named_at_any_depth(monkeypatch):
    needs = {'tljax': ['flax>=1'], 'flax': ['Msg_Pack<2', 'torch; extra == "all"', 'absent']}
    monkeypatch.setattr(packages.metadata, 'requires', lambda name: needs.get(name))
    versions = {'flax': '1.2', 'Msg_Pack': '2.1'}
    monkeypatch.setattr(packages, 'installed', versions.get)
    assert packages.conflicts() == [
        'flax needs Msg_Pack <2, and 2.1 is installed',
        'flax needs absent, which is not installed',
    ]


def test_the_packages_of_this_installation_fit_together():
    assert packages.conflicts() == []


def test_home_and_user_are_not_in_the_report(monkeypatch):
    monkeypatch.setenv('HOME', '/people/annika')
    monkeypatch.setenv('LOGNAME', 'annika')  # which getpass reads first
    monkeypatch.setenv('JAX_DUMP_IR_TO', '/people/annika/dump')
    monkeypatch.setenv('TLJAX_CACHE', '/scratch/annika/cache')
    monkeypatch.setenv('JAX_SECRET', 'abcdefg')
    record = diagnosis.diagnose(0).record
    assert record['settings']['JAX_DUMP_IR_TO'] == '~/dump'
    assert record['caches']['decoded images']['folder'] == '/scratch/USER/cache/canvases'
    assert 'annika' not in json.dumps(record)
    assert 'abcdefg' not in json.dumps(record)


def test_another_folder_that_begins_like_home_is_not_shortened(monkeypatch):
    monkeypatch.setenv('HOME', '/people/annika')
    assert machine.anonymous('/people/annika2:/people/annika/x') == '/people/annika2:~/x'


def test_a_cache_has_its_size_and_number_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path))
    (tmp_path / 'weights' / 'deep').mkdir(parents=True)
    (tmp_path / 'weights' / 'deep' / 'a.bin').write_bytes(bytes(1000))
    (tmp_path / 'weights' / 'b.bin').write_bytes(bytes(24))
    cache = machine.caches()['downloaded weights']
    assert (cache['bytes'], cache['files'], cache['complete']) == (1024, 2, True)


def test_a_jax_that_cannot_be_imported_is_reported_with_the_rest(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'jax', None)
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert 'JAX cannot compute: ' in printed
    assert 'orbax-checkpoint' in printed
    assert 'not measured' in printed


def test_without_jax_the_modules_of_the_report_can_be_imported():
    code = (
        "import sys; sys.modules['jax'] = None; "
        'from tljax.training.diagnosis import diagnosis, incompatibilities, machine, packages'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.slow
def test_the_command_measures_the_speed_and_prints_json(capsys):
    code = doctor.main(['--json'])
    record = json.loads(capsys.readouterr().out)
    assert code == bool(record['problems'])
    assert record['speed']['matrix_product']['gflop_per_second'] > 1
    assert record['speed']['training_step']['images_per_second'] > 1
    assert record['versions']['jax']
    assert record['devices']


def test_the_speed_is_that_of_the_median_repetition(monkeypatch):
    ticks = iter([0.0, 1.0, 3.0, 4.0, 9.0, 10.0, 13.0, 99.0])  # calls of 2, 5 and 3 seconds
    monkeypatch.setattr(speed.time, 'perf_counter', lambda: next(ticks))
    assert speed._median_seconds(lambda value: value, 0.0) == 3.0
