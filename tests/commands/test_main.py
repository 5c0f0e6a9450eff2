"""The command line as a user types it, and the quickstart as a user sees it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess:
    """`python -m tljax.main ...` from the root of the repository."""
    command = [sys.executable, '-m', 'tljax.main', *arguments]
    environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory) -> tuple[subprocess.CompletedProcess, pathlib.Path]:
    workdir = tmp_path_factory.mktemp('quickstart')
    done = run('--config=configs/quickstart.py', f'--workdir={workdir}')
    assert done.returncode == 0, done.stderr
    return done, workdir


def test_quickstart_transfers_better_than_it_learns_from_scratch(quickstart):
    _, workdir = quickstart
    transfer = json.loads((workdir / 'result.json').read_text())['test']
    scratch = json.loads((workdir / 'baselines/from_scratch/result.json').read_text())['test']
    assert transfer['count'] == scratch['count'] == 797
    assert transfer['accuracy'] > 0.93
    assert transfer['accuracy_interval'][0] > scratch['accuracy']


def test_quickstart_prints_its_stages_its_progress_and_the_comparison(quickstart):
    done, _ = quickstart
    for words in ('stage2', 'frozen', 'images/s', 'waiting for data', 'linear probe', '95 %'):
        assert words in done.stdout
    assert 'Traceback' not in done.stderr


def test_quickstart_ends_with_the_path_of_a_page_of_all_its_runs(quickstart):
    done, workdir = quickstart
    assert done.stdout.strip().splitlines()[-1] == f'Report: {workdir}/report.html'
    page = (workdir / 'report.html').read_text()
    assert 'from scratch' in page
    assert 'could not be made' not in page


def test_a_finished_run_says_so_and_stays_as_it_is(quickstart):
    _, workdir = quickstart
    before = (workdir / 'metrics.jsonl').read_bytes()
    again = run('--config=configs/quickstart.py', f'--workdir={workdir}')
    assert again.returncode == 0, again.stderr
    assert 'is finished' in again.stdout
    assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_dry_run_prints_costs_and_writes_nothing(tmp_path):
    workdir = tmp_path / 'dry'
    done = run('--config=configs/quickstart.py', '--dry_run', f'--workdir={workdir}')
    assert done.returncode == 0, done.stderr
    for words in ('floating-point operations', 'optimizer state', 'are frozen', '797 test'):
        assert words in done.stdout
    assert not workdir.exists()
