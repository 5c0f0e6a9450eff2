"""A process that is killed, fails or is missing ends the others with one line and an exit code."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.training.processes import member
from tljax.commands import exit, train
from tljax.training.processes import joining, watch

ROOT = pathlib.Path(__file__).parents[3]


def free_port():
    """A port of this host that nothing uses."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        return free.getsockname()[1]


def pair(folder, *actions, seconds=6, timeout=90):
    """Runs a process for each action; returns their exit codes, errors and outputs."""
    port = free_port()
    flags = os.environ['XLA_FLAGS'].replace('device_count=4', 'device_count=1')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'XLA_FLAGS': flags}
    processes = [
        subprocess.Popen(
            [sys.executable, member.__file__, str(port), str(index), action, str(seconds or '')],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, action in enumerate(actions)
    ]
    try:
        outputs = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    return codes, [error for _, error in outputs], [output for output, _ in outputs]


def error_line(text):
    """The line of an error; messages of JAX may stand around it."""
    (line,) = [line for line in text.splitlines() if line.startswith('error: ')]
    return line


@pytest.mark.slow
@pytest.mark.parametrize('killed', [0, 1])
def test_kill_9_of_one_process_ends_the_other_with_75_and_one_line(killed, tmp_path):
    actions = ['work', 'work']
    actions[killed] = 'kill'
    codes, errors, _ = pair(tmp_path, *actions)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 75
    line = error_line(errors[1 - killed])
    assert line.startswith(f'error: process {killed} on {socket.gethostname()} was killed')
    stacks = (tmp_path / f'stacks-process{1 - killed}.txt').read_text()
    assert 'in add' in stacks  # where the process was


def test_the_processes_are_printed_and_an_error_of_one_ends_the_other_with_its_exit_code(tmp_path):
    codes, errors, outputs = pair(tmp_path, 'work', 'fail')
    assert codes == [2, 2]
    host = socket.gethostname()
    assert f'process 1 on {host} failed with exit code 2' in errors[0]
    lines = [line for line in outputs[0].splitlines() if 'Gloo' not in line]
    assert re.fullmatch(r'2 processes \(flags\), coordinator localhost:\d+, 2 devices:', lines[0])
    assert lines[1:] == [
        f'  process 0 on {host}: 1 × cpu; reads rows 0 to 3 of every batch of 8',
        f'  process 1 on {host}: 1 × cpu; reads rows 4 to 7 of every batch of 8',
    ]


@pytest.mark.slow
def test_another_abort_stays_an_abort(tmp_path):
    codes, errors, _ = pair(tmp_path, 'abort', 'abort')
    assert codes == [-signal.SIGABRT] * 2
    assert 'was killed' not in ''.join(errors)


@pytest.mark.slow
def test_a_process_whose_others_do_not_come_ends_in_the_stated_time(tmp_path):
    codes, errors, _ = pair(tmp_path, 'late')
    assert codes == [75]
    line = error_line(errors[0])
    assert re.match(r'error: --distributed: not all 2 processes joined at localhost:\d+', line)
    assert 'within 3 seconds; --coordinator_timeout sets the time' in line


def test_a_coordinator_that_does_not_answer_is_named_in_the_stated_time(capsys):
    address = f'localhost:{free_port()}'
    argv = ['--config=quickstart', '--distributed', f'--coordinator={address}', '--processes=2']
    started = time.monotonic()
    code = train.main([*argv, '--process=1', '--coordinator_timeout=2'])
    assert code == 75
    assert time.monotonic() - started < 10
    (line,) = capsys.readouterr().err.splitlines()
    assert f'process 0 at {address} did not answer within 2 seconds: Connection refused' in line


def test_flags_of_processes_need_distributed(capsys):
    assert train.main(['--config=quickstart', '--processes=2']) == exit.BAD_INPUT
    assert capsys.readouterr().err == 'error: --processes is a flag of --distributed\n'


def test_a_single_process_joins_nobody(tmp_path, monkeypatch):
    flags = joining.Flags(coordinator='nowhere:1', processes=1, process=0)
    own = joining.join(flags, tmp_path)
    assert joining.lines(own, 8) == [
        '1 process (flags), 4 devices:',
        f'  process 0 on {socket.gethostname()}: 4 × cpu; reads rows 0 to 7 of every batch of 8',
    ]
    assert not watch.active()


@pytest.fixture
def watching(tmp_path):
    """What process 1 of three knows after all have renewed their keys."""
    watching = watch.Watch(1, f'localhost:{free_port()}', tmp_path)
    keys = [(f'{watch.ROOT}host/{one}', f'host{one}') for one in range(3)]
    keys += [(f'{watch.ROOT}alive/{one}', '1') for one in range(3)]
    watching.note(keys, time.monotonic() - watch.STALE_SECONDS - 1)
    return watching


def test_a_process_that_does_not_renew_its_key_counts_as_ended(watching, monkeypatch):
    monkeypatch.setattr(watch, '_answers', lambda address: True)
    watching.note([(f'{watch.ROOT}alive/0', '2')], time.monotonic())
    verdict = watching.verdict()
    assert verdict.code == 75
    assert verdict.text.startswith('process 2 on host2 was killed, or its host is gone')
    watching.note([(f'{watch.ROOT}alive/2', '2')], time.monotonic())
    assert watching.verdict() is None


def test_a_coordinator_that_refuses_connections_counts_as_ended(watching):
    watching.note([(f'{watch.ROOT}alive/{one}', '2') for one in (0, 2)], time.monotonic())
    assert watching.verdict().text.startswith('process 0 on host0 was killed')


def test_a_failure_counts_more_than_silence(watching):
    watching.note([(f'{watch.ROOT}failed/2', '1')], time.monotonic())
    assert watching.verdict() == ('process 2 on host2 failed with exit code 1; see its output', 1)
