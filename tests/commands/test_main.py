"""`python -m tljax.main` and what it prints, and the quickstart as a user sees it."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tljax import main

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """\
from tests import small_runs
from tljax import FreezeBelow, LinearProbe


def get_config():
    return small_runs.experiment(
        epochs=1.0, strategy=FreezeBelow(stage='high'), baselines=(LinearProbe(),)
    )
"""


def run(*words) -> str:
    """What a command line in this process prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main.main(['tljax.main', *map(str, words)]) == 0
    return printed.getvalue()


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> str:
    """The flag that names a config of a small experiment with a baseline."""
    path = tmp_path_factory.mktemp('main') / 'small.py'
    path.write_text(CONFIG)
    return f'--config={path}'


@pytest.fixture(scope='module')
def finished(config, tmp_path_factory) -> tuple[str, pathlib.Path]:
    """What training the small experiment prints, and its workdir."""
    workdir = tmp_path_factory.mktemp('finished')
    return run(config, f'--workdir={workdir}'), workdir


WORDS = ('stage', 'frozen', 'images/s', 'waiting for data', 'linear probe', '95 %')


@pytest.mark.parametrize('word', WORDS)
def test_training_prints_its_stages_its_progress_and_the_comparison(word, finished):
    assert word in finished[0]


def test_a_finished_run_says_so_and_stays_as_it_is(config, finished):
    _, workdir = finished
    before = (workdir / 'metrics.jsonl').read_bytes()
    assert 'is finished' in run(config, f'--workdir={workdir}')
    assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_dry_run_prints_costs_and_writes_nothing(config, tmp_path):
    printed = run(config, '--dry_run', f'--workdir={tmp_path / "dry"}')
    for words in ('floating-point operations', 'optimizer state', 'are frozen', '21 test'):
        assert words in printed
    assert not (tmp_path / 'dry').exists()


# --- the first command of the README, as a user runs it ---


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory) -> tuple[subprocess.CompletedProcess, pathlib.Path]:
    workdir = tmp_path_factory.mktemp('quickstart')
    words = ['-m', 'tljax.main', '--config=configs/quickstart.py', f'--workdir={workdir}']
    environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done, workdir


@pytest.mark.slow
def test_quickstart_transfers_better_than_it_learns_from_scratch(quickstart):
    _, workdir = quickstart
    transfer = json.loads((workdir / 'result.json').read_text())['test']
    scratch = json.loads((workdir / 'baselines/from_scratch/result.json').read_text())['test']
    assert transfer['count'] == scratch['count'] == 797
    assert transfer['accuracy'] > 0.93
    assert transfer['accuracy_interval'][0] > scratch['accuracy']


@pytest.mark.slow
def test_quickstart_prints_its_stages_its_progress_and_the_comparison(quickstart):
    done, _ = quickstart
    assert not [word for word in (*WORDS, 'stage2') if word not in done.stdout]
    assert 'Traceback' not in done.stderr


@pytest.mark.slow
def test_quickstart_ends_with_the_path_of_a_page_of_all_its_runs(quickstart):
    done, workdir = quickstart
    assert done.stdout.strip().splitlines()[-1] == f'Report: {workdir}/report.html'
    page = (workdir / 'report.html').read_text()
    assert 'from scratch' in page
    assert 'could not be made' not in page
