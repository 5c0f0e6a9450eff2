"""Leases: one living process at a time, on any host, and takeover of dead ones."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tljax.records import lease


def other_process(path, **changes):
    """Writes the lease of another process into a file."""
    fields = {
        'host': 'elsewhere',
        'namespace': '',
        'pid': 1,
        'started': 5,
        'token': 'theirs',
        'since': 0.0,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**fields, **changes}))


def age(path, seconds):
    """Makes a file look as if it was last written some seconds ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def path(tmp_path):
    """The path of a lease."""
    return tmp_path / 'leases' / 'cell.json'


def test_a_held_lease_cannot_be_acquired_and_a_released_one_can(path):
    with lease.acquire(path) as held:
        assert held.previous is None
        assert lease.acquire(path) is None
        assert lease.holder(path).pid == os.getpid()
    assert lease.holder(path) is None
    lease.acquire(path).release()


def test_the_lease_of_an_ended_process_of_this_host_is_taken_over_at_once(path):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    own = lease._this_process()
    other_process(path, host=own.host, namespace=own.namespace, pid=ended.pid)
    with lease.acquire(path) as taken:
        assert taken.previous.pid == ended.pid


def test_a_process_with_the_id_of_a_dead_owner_is_not_taken_for_it(path):
    own = lease._this_process()
    started = own.started - 1
    other_process(path, host=own.host, namespace=own.namespace, pid=own.pid, started=started)
    assert lease.holder(path) is None
    lease.acquire(path).release()


@pytest.mark.parametrize(('seconds', 'is_taken'), [(5, False), (120, True)])
def test_the_lease_of_another_host_is_taken_over_when_it_is_not_renewed(path, seconds, is_taken):
    other_process(path)
    age(path, seconds)
    taken = lease.acquire(path)
    assert (taken is not None) == is_taken
    if taken:
        assert taken.previous.host == 'elsewhere'
        taken.release()


def test_process_ids_of_another_container_of_this_host_are_not_looked_up(path):
    other_process(path, host=lease._this_process().host, namespace='pid:[1]', pid=2**30)
    assert lease.holder(path) is not None


@pytest.mark.parametrize('content', ['', '{"host": "elsew'])
def test_a_damaged_lease_is_held_until_it_is_stale(path, content):
    path.parent.mkdir()
    path.write_text(content)
    assert lease.acquire(path) is None
    age(path, 120)
    lease.acquire(path).release()


def test_one_of_many_that_take_over_at_the_same_time_gets_the_lease(path):
    for _ in range(20):
        other_process(path)
        age(path, 120)
        start = threading.Barrier(8)

        def acquire(_, start=start):
            start.wait()
            return lease.acquire(path)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            taken = [one for one in pool.map(acquire, range(8)) if one]
        assert len(taken) == 1
        taken[0].release()


def test_a_takeover_that_was_killed_is_cleaned_up(path):
    other_process(path)
    age(path, 120)
    turn = path.with_name(f'{path.name}.takeover')
    other_process(turn)
    age(turn, 120)
    assert lease.acquire(path) is None  # deletes what the killed process left
    lease.acquire(path).release()
    assert not turn.exists()


def test_a_lease_is_renewed_while_it_is_held(path, monkeypatch):
    monkeypatch.setattr(lease, 'RENEWAL_SECONDS', 0.01)
    with lease.acquire(path):
        age(path, 300)
        deadline = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 100


def test_a_process_that_lost_its_lease_is_stopped_by_a_signal(path, monkeypatch):
    monkeypatch.setattr(lease, 'RENEWAL_SECONDS', 0.01)
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        held = lease.acquire(path)
        other_process(path)
        assert stopped.wait(10)
        held.release()
        assert lease.read(path).token == 'theirs'  # a lost lease is not released
    finally:
        signal.signal(signal.SIGTERM, before)
