"""Launchers: the unit of work, its options, and jobs of SLURM through submitit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from submitit.helpers import DelayedSubmission

from tljax.records import lease
from tljax.sweep import extras
from tljax.sweep.folder import SweepFolder
from tljax.sweep.launchers import options, slurm, unit
from tljax.sweep.launchers.unit import CellProcess, Outcome, Unit
from tljax.sweep.space import SweepError

DONE = 'import pathlib; pathlib.Path("result.json").write_text("{}"); print("trained")'
PREEMPTED = """
import os, pathlib, signal, sys, time
if pathlib.Path('checkpoint').exists():
    pathlib.Path('result.json').write_text('{}')
    sys.exit()
def stop(*_):
    pathlib.Path('checkpoint').touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
pathlib.Path('parent').write_text(str(os.getppid()))
time.sleep(60)
"""


def one(tmp_path, code, cell='a'):
    """A unit whose command is a small program that runs in the folder of the cell."""
    folder = SweepFolder(tmp_path)
    folder.workdir(cell).mkdir(parents=True)
    return Unit(
        folder=tmp_path,
        cell=cell,
        title=f'cell={cell}',
        argv=('python', '-c', code),
        cwd=folder.workdir(cell),
    )


def wait_for(path):
    """Waits until a file has content."""
    deadline = time.monotonic() + 300
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def test_a_unit_runs_its_command_once_and_keeps_what_it_printed(tmp_path):
    cell = one(tmp_path, DONE)
    assert CellProcess().run(cell) == Outcome.SETTLED
    assert CellProcess().run(cell) == Outcome.SETTLED
    folder = SweepFolder(tmp_path)
    assert folder.is_done('a')
    assert (folder.workdir('a') / 'output.txt').read_text() == 'trained\n'
    assert folder.runner('a') is None


@pytest.mark.parametrize(
    ('code', 'kind', 'message'),
    [
        ('raise ValueError("no such thing")', 'ValueError', 'no such thing'),
        ('import sys; sys.exit("error: first\\nsecond")', 'exit code 1', 'first\nsecond'),
        ('import os; os.abort()', 'SIGABRT', 'it printed nothing'),
        ('print("nearly")', 'exit code 0', 'nearly'),
    ],
)
def test_a_unit_records_the_error_of_its_command(tmp_path, code, kind, message):
    cell = one(tmp_path, code)
    assert CellProcess().run(cell) == Outcome.SETTLED
    failure = SweepFolder(tmp_path).failure('a')
    assert failure is not None
    assert (failure.kind, failure.message, failure.attempts) == (kind, message, 1)


def test_a_unit_that_a_signal_stopped_is_neither_done_nor_failed(tmp_path):
    cell = one(tmp_path, 'import sys; sys.exit(75)')
    assert CellProcess().run(cell) == Outcome.STOPPED
    assert not SweepFolder(tmp_path).is_settled('a')


def test_a_unit_does_not_run_a_cell_that_another_process_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(unit, 'BUSY_SECONDS', 0.1)
    monkeypatch.setattr(unit, 'POLL_SECONDS', 0.05)
    cell = one(tmp_path, DONE)
    with lease.acquire(tmp_path / 'leases' / 'a.json'):
        assert CellProcess().run(cell) == Outcome.BUSY
    assert CellProcess().run(cell) == Outcome.SETTLED


@pytest.mark.slow
def test_the_command_of_a_unit_does_not_outlive_it(tmp_path):
    cell = one(tmp_path, PREEMPTED)
    code = f'from tljax.sweep.launchers.unit import *; CellProcess().run({cell!r})'
    code = f'from pathlib import PosixPath; {code}'
    process = subprocess.Popen([sys.executable, '-c', code])
    wait_for(cell.cwd / 'parent')
    process.kill()
    process.wait()
    deadline = time.monotonic() + 300
    while not (cell.cwd / 'checkpoint').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('partitio=gpu', 'slurm has no option partitio; it has cluster'),
        ('wait=maybe', 'wait=maybe, wanted true or false'),
        ('timeout_min=0', 'timeout_min=0, wanted a whole number from 1'),
        ('mem_gb=-1', 'mem_gb=-1, wanted a number'),
        ('gpu', "'gpu', wanted KEY=VALUE"),
        ('cluster=cloud', 'cluster=cloud, wanted slurm or local'),
    ],
)
def test_a_wrong_option_is_answered_in_a_line(tmp_path, text, words):
    with pytest.raises(SweepError, match=words) as caught:
        slurm.run([one(tmp_path, DONE)], text, lambda: None)
    assert '\n' not in str(caught.value)


def test_the_value_of_an_option_may_have_commas():
    known = {'exclude': str, 'setup': str, 'mem_gb': options.number}
    text = 'exclude=n[1-3],n7,setup=export A=1,mem_gb=1.5'
    expected = {'exclude': 'n[1-3],n7', 'setup': 'export A=1', 'mem_gb': 1.5}
    assert options.read(text, known, 'slurm') == expected


def test_a_missing_engine_is_answered_with_the_command_that_installs_it():
    with pytest.raises(SweepError, match=r"pip install 'tljax\[slurm\]'"):
        extras.load('no_such_engine', 'slurm')


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Programs of SLURM that record how they are called; `queue` has the jobs in the queue."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    programs = {
        'sbatch': f'cp "$1" {folder}/script; echo "Submitted batch job 7"',
        'squeue': f'cat {folder}/queue',
        'scontrol': f'echo "$@" >> {folder}/scontrol.txt',
        'srun': 'while [ "${1#--}" != "$1" ]; do [ "$1" = --unbuffered ] || shift; shift; done; '
        'exec "$@"',
    }
    for name, text in programs.items():
        (folder / name).write_text(f'#!/bin/sh\n{text}\n')
        (folder / name).chmod(0o755)
    (folder / 'queue').touch()
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
    monkeypatch.setattr(slurm, 'POLL_SECONDS', {'slurm': 0.05, 'local': 0.05})
    return folder


def task(folder, index):
    """Starts a task of the array as SLURM would."""
    identity = {'SLURM_JOB_ID': '7', 'SLURM_ARRAY_JOB_ID': '7', 'SLURM_ARRAY_TASK_ID': str(index)}
    sizes = {'SLURM_NTASKS': '1', 'SLURM_JOB_NUM_NODES': '1', 'SLURM_PROCID': '0'}
    environment = {**os.environ, **identity, **sizes, 'SLURM_NODEID': '0', 'SLURM_LOCALID': '0'}
    return subprocess.Popen(['bash', folder / 'script'], env=environment)


def test_a_sweep_is_one_job_array_with_the_options_and_requeue(tmp_path, cluster):
    units = [one(tmp_path, DONE, cell) for cell in 'abc']
    text = 'wait=false,partition=gpu,gpus_per_node=1,mem_gb=8,array_parallelism=2,timeout_min=30'
    slurm.run(units, f'{text},setup=module load cuda', lambda: None)
    lines = (cluster / 'script').read_text().splitlines()
    flags = {line.removeprefix('#SBATCH --') for line in lines if line.startswith('#SBATCH')}
    assert {'array=0-2%2', 'requeue', 'partition=gpu', 'gpus-per-node=1', 'mem=8GB'} <= flags
    assert {'time=30', 'signal=USR2@90'} <= flags
    assert lines.index('module load cuda') < lines.index('export SUBMITIT_EXECUTOR=slurm')


def test_cells_in_the_queue_are_not_submitted_again(tmp_path, cluster):
    units = [one(tmp_path, DONE, cell) for cell in 'abc']
    slurm.run(units[:2], 'wait=false', lambda: None)
    (cluster / 'queue').write_text('7_0\n7_1\n')
    (cluster / 'script').unlink()
    slurm.run(units[:2], 'wait=false', lambda: None)
    assert not (cluster / 'script').exists()
    slurm.run(units, 'wait=false', lambda: None)
    assert '--array' not in (cluster / 'script').read_text()  # the third cell, alone


def test_a_cell_whose_job_has_ended_without_a_result_is_named(tmp_path, cluster, capsys):
    slurm.run([one(tmp_path, DONE)], '', lambda: None)
    printed = capsys.readouterr().out
    assert 'cell=a: its job has ended and the cell is not done' in printed


def test_a_preempted_job_saves_its_run_and_enters_the_queue_again(tmp_path, cluster):
    cells = [one(tmp_path, PREEMPTED, 'a'), one(tmp_path, DONE, 'b')]
    slurm.run(cells, 'wait=false,cells_per_job=1', lambda: None)
    job = task(cluster, 0)
    os.kill(int(wait_for(cells[0].cwd / 'parent')), signal.SIGUSR2)
    job.wait(300)
    assert (cluster / 'scontrol.txt').read_text() == 'requeue 7_0\n'
    folder = SweepFolder(tmp_path)
    assert (folder.is_settled('a'), folder.runner('a')) == (False, None)
    submitted = tmp_path / 'slurm' / '7_0_submitted.pkl'
    assert DelayedSubmission.load(submitted).result() == ['settled']  # as in the next job
    assert folder.is_done('a')


@pytest.mark.slow
def test_jobs_on_this_machine_run_the_cells_and_report_progress(tmp_path):
    units = [one(tmp_path, DONE, cell) for cell in 'abc']
    folder, seen = SweepFolder(tmp_path), []

    def progress():
        seen.append(sum(folder.is_done(cell) for cell in 'abc'))

    slurm.run(units, 'cluster=local', progress)
    assert seen[-1] == 3


def results_of(folder, *flags):
    """The test results of the cells of a sweep of two cells, which a process runs."""
    argv = ['sweep', '--config=tests/sweep/two_cells.py', f'--workdir={folder}', *flags]
    command = [sys.executable, '-m', 'tljax', *argv]
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {path.parent.name: path for path in (folder / 'cells').glob('*/result.json')}
    assert len(results) == 2
    return {name: json.loads(path.read_text())['test'] for name, path in results.items()}


@pytest.fixture(scope='module')
def local_results(tmp_path_factory):
    """The results with the local launcher."""
    return results_of(tmp_path_factory.mktemp('local'))


@pytest.mark.slow
def test_submitit_gives_the_same_results_as_the_local_launcher(local_results, tmp_path):
    flags = '--launcher=slurm', '--launcher_options=cluster=local'
    assert results_of(tmp_path, *flags) == local_results


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # Ray leaves its files and processes to the end of Python
def test_two_nodes_of_ray_give_the_same_results_as_the_local_launcher(
    local_results, tmp_path, monkeypatch
):
    monkeypatch.setenv('RAY_raylet_start_wait_time_s', '300')  # read when Ray is imported
    from ray import cluster_utils

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={'num_cpus': 1})
    try:
        cluster.add_node(num_cpus=1)
        address = f'--launcher_options=address={cluster.address}'
        assert results_of(tmp_path, '--launcher=ray', address) == local_results
    finally:
        cluster.shutdown()
