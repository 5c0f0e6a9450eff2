"""`tljax sweep` as a user calls it."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

from tljax.commands import sweep, train

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = 'tests/sweep/tiny_sweep.py'


def run(*argv, **options):
    """Runs a program in the root of the project."""
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_random_moments_ends_bit_identical():
    done = run(
        '-m', 'benchmarks.sweep_kills', f'--config={CONFIG}', '--kills=2', '--longest=12'
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '6 cells, 2 kills; 0 cells differ' in done.stdout


@pytest.mark.slow
def test_several_workers_run_each_cell_once(tmp_path):
    argv = ['-m', 'tljax', 'sweep', f'--config={CONFIG}', f'--workdir={tmp_path}', '--workers=2']
    done = run(*argv)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('[')]
    assert len(lines) == len({line.partition('] ')[2] for line in lines}) == 6


def test_the_printed_command_of_a_cell_runs_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    argv = [f'--config={CONFIG}', f'--workdir={tmp_path}', '--print_commands']
    assert sweep.main(argv) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 6
    first = lines[0]
    assert first['argv'][:3] == ['python', '-m', 'tljax.main']
    assert train.main(first['argv'][3:]) == 0
    assert (tmp_path / 'cells' / first['cell'] / 'result.json').exists()
    capsys.readouterr()
    assert sweep.main(argv) == 0
    remaining = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line['cell'] for line in remaining] == [line['cell'] for line in lines[1:]]


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        ([], '--config=FILE or --report=DIR is missing'),
        (['--config=quickstart'], 'it has no function sweep()'),
        ([f'--config={CONFIG}', '--sweep=other'], 'has one sweep, without a name'),
        ([f'--config={CONFIG}', '--workers=0'], 'wanted 1 or more'),
        ([f'--config={CONFIG}', '--launcher=pbs'], 'invalid choice'),
    ],
)
def test_a_wrong_command_line_is_answered_in_a_line(argv, words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert sweep.main(argv) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_one_of_several_sweeps_is_named(tmp_path, capsys):
    config = tmp_path / 'several.py'
    config.write_text(
        'import tljax\n'
        'from configs.quickstart import get_config\n'
        'def sweep():\n'
        "    return {'long': tljax.Axis('epochs', [60]), 'bad name': tljax.Seeds(2)}\n"
    )
    for name, words in (('', 'wanted one of the sweeps'), ('bad name', 'letters, digits')):
        flags = [f'--sweep={name}'] if name else []
        assert sweep.main([f'--config={config}', *flags, '--dry_run']) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    argv = [sys.executable, '-m', 'tljax', 'sweep', f'--config={CONFIG}', f'--workdir={tmp_path}']
    parent = subprocess.Popen([*argv, '--workers=2'], cwd=ROOT, stdout=subprocess.DEVNULL)
    leases = tmp_path / 'leases'
    deadline = time.monotonic() + 60
    while not (leases.is_dir() and any(leases.glob('*.json'))) and time.monotonic() < deadline:
        time.sleep(0.1)
    owners = [json.loads(path.read_text()) for path in leases.glob('*.json')]
    parent.kill()
    parent.wait()
    assert owners
    for owner in owners:
        while pathlib.Path(f'/proc/{owner["pid"]}').exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not pathlib.Path(f'/proc/{owner["pid"]}').exists()
