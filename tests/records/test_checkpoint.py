"""Checkpoints come back bit by bit, or not at all, and never in silence."""

import errno
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tljax import devices
from tljax.records import ranking
from tljax.records.checkpoint import CheckpointError, Checkpoints, verify
from tljax.records.disk_space import DiskError
from tljax.records.folder_lock import BusyError, lock


def arrays(seed=0):
    """Arrays of several types, whole on every device or split over them."""
    mesh = devices.make_mesh()
    rng = np.random.default_rng(seed)
    values = {
        'kernel': rng.normal(size=(4, 3)).astype(np.float32),
        'odd': np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        'half': rng.normal(size=4).astype(jnp.bfloat16),
        'step': np.int32(seed),
    }
    whole = devices.put_replicated(mesh, values)
    return {'whole': whole, 'rows': jax.device_put(values['kernel'], devices.split(mesh))}


@pytest.fixture
def opened(tmp_path):
    """Opens the checkpoints of the test's folder; all are closed at the end."""
    every = []

    def open_again():
        every.append(Checkpoints(tmp_path))
        return every[-1]

    yield open_again
    for one in every:
        one.close()


def saved(one, *validated):
    """Saves a checkpoint per step: `{step: (accuracy, loss)}`, or None where not validated."""
    for step, found in enumerate(validated, 1):
        metrics = found and {'score': found[0], 'loss': found[1]}
        one.save(step, arrays(step), {'seconds': step / 7}, metrics)
    one.close()


def test_arrays_come_back_bit_by_bit_where_they_were(opened):
    saved(opened(), None)
    found, _ = opened().restore(1, arrays(0))
    wanted = arrays(1)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        assert one.sharding == other.sharding
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_the_target_may_be_abstract(opened):
    saved(opened(), None)
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arrays(0)
    )
    found, _ = opened().restore(1, target)
    assert found['whole']['step'] == 1
    assert found['rows'].sharding == target['rows'].sharding


def test_the_record_comes_back(opened):
    record = {'data': {'next_index': 12}, 'seconds': 1 / 3, 'phase': 0}
    one = opened()
    one.save(4, arrays(), record)
    one.close()
    assert opened().restore(4, arrays())[1] == record


@pytest.mark.parametrize(
    ('validated', 'best'),
    [
        ([(0.5, 1.0), (0.7, 1.0), (0.6, 0.1), None], 2),
        ([(0.7, 0.9), (0.7, 0.8), (0.7, 0.9), (0.1, 0.1)], 2),
        ([(0.7, 0.9), (0.7, 0.9), (0.6, 0.9), (0.5, 0.9)], 2),
        ([(0.1, 2.0), (0.2, 2.0), (0.2, 2.0), (0.2, 2.0)], 4),
        ([None, None, (0.0, 9.0), None], 3),
    ],
    ids=['accuracy', 'then loss', 'then lateness', 'the latest', 'only one'],
)
def test_the_best_and_the_latest_are_kept_and_no_other(validated, best, opened):
    saved(opened(), *validated)
    one = opened()
    assert one.best() == best
    assert one.steps() == sorted({best, 4})


def test_the_best_is_known_as_soon_as_its_save_has_begun(opened):
    one = opened()
    one.save(1, arrays(), {}, {'score': 0.5, 'loss': 1.0})
    one.save(2, arrays(), {}, {'score': 0.6, 'loss': 1.0})
    assert one.best() == 2


def test_the_best_survives_a_reopening_and_later_saves(opened):
    saved(opened(), (0.9, 0.1), (0.2, 0.3))
    one = opened()
    one.save(3, arrays(3), {}, None)
    one.save(4, arrays(4), {}, {'score': 0.8, 'loss': 0.1})
    one.close()
    again = opened()
    assert (again.best(), again.steps()) == (1, [1, 4])


def test_nothing_is_best_where_nothing_was_validated(opened):
    saved(opened(), None, None)
    assert opened().best() is None
    assert opened().steps() == [2]


def test_the_sums_of_deleted_checkpoints_are_forgotten(opened, tmp_path):
    saved(opened(), *[None] * 3)
    assert [path.name for path in (tmp_path / 'sha256').iterdir()] == ['3.json']


def test_what_changes_in_a_record_once_its_save_has_begun_is_not_written(opened, monkeypatch):
    written, real = [], ocp.args.JsonSave
    monkeypatch.setattr(ocp.args, 'JsonSave', lambda item: written.append(item) or real(item))
    record = {'starts': [0]}
    one = opened()
    one.save(1, arrays(), record)
    record['starts'].append(7)  # as a phase that begins right after the save does
    assert written == [{'starts': [0], 'validation': None}]
    assert one.record(1) == {'starts': [0]}


def test_a_step_that_is_there_is_not_written_again(opened):
    one = opened()
    one.save(3, arrays(3), {})
    one.save(3, arrays(4), {})
    one.close()
    assert opened().restore(3, arrays())[0]['whole']['step'] == 3


def data_files(tmp_path, step):
    """The files of a checkpoint, the largest first."""
    folder = tmp_path / 'steps' / str(step)
    files = [path for path in folder.rglob('*') if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def flip(path):
    """Flips one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path):
    """Cuts a file's last byte off."""
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture
def two(opened, tmp_path):
    """A folder with a checkpoint of step 1, the best, and one of step 2."""
    saved(opened(), (0.9, 0.1), (0.2, 0.3))
    return tmp_path


@pytest.mark.parametrize('damage', [flip, shorten, pathlib.Path.unlink])
def test_damage_is_detected_and_the_checkpoint_before_is_taken(damage, two, opened):
    damage(data_files(two, 2)[0])
    one = opened()
    with pytest.raises(CheckpointError, match='step 2 is damaged'):
        verify(two, 2)
    assert one.latest_intact() == 1
    assert one.steps() == [1]
    assert one.restore(1, arrays())[0]['whole']['step'] == 1


def test_damage_to_any_file_is_detected(two, opened):
    for path in data_files(two, 2):
        content = path.read_bytes()
        if content:
            flip(path)
            with pytest.raises(CheckpointError):
                verify(two, 2)
            path.write_bytes(content)
    verify(two, 2)


def test_a_damaged_checkpoint_is_never_restored(two, opened):
    flip(data_files(two, 2)[0])
    with pytest.raises(CheckpointError, match='step 2 is damaged'):
        opened().restore(2, arrays())


def test_a_damaged_checkpoint_is_set_aside_and_its_step_can_be_written_again(two, opened):
    flip(data_files(two, 2)[0])
    one = opened()
    one.latest_intact()
    assert (two / 'damaged-2').is_dir()
    one.save(2, arrays(7), {})
    one.close()
    again = opened()
    assert again.latest_intact() == 2
    assert again.restore(2, arrays())[0]['whole']['step'] == 7


def test_damaged_sums_count_as_damage(two, opened):
    shorten(two / 'sha256' / '2.json')
    assert opened().latest_intact() == 1


def test_with_nothing_intact_the_run_does_not_start_again_silently(two, opened):
    for step in (1, 2):
        flip(data_files(two, step)[0])
    for _ in range(2):  # also when the damaged ones have been moved away before
        with pytest.raises(CheckpointError, match=r'all .* damaged \(damaged-1, damaged-2\)'):
            opened().latest_intact()


def test_a_damaged_best_checkpoint_is_set_aside_and_the_best_intact_one_counts(two, opened):
    flip(data_files(two, 1)[0])
    one = opened()
    assert (one.latest_intact(), one.set_aside, one.best()) == (2, [1], 2)


def test_the_validation_results_are_sealed_with_their_checkpoints(two, opened):
    assert not (two / 'validation.json').exists()
    record = two / 'steps' / '1' / 'record' / 'metadata'
    record.write_text(record.read_text().replace('0.9', '0.1'))
    assert opened().latest_intact() == 2
    assert opened().best() == 2


def test_the_validation_results_of_an_earlier_version_are_read(two, opened):
    for step in (1, 2):
        record = two / 'steps' / str(step) / 'record' / 'metadata'
        fields = json.loads(record.read_text())
        del fields['validation']
        record.write_text(json.dumps(fields))
    (two / 'validation.json').write_text('{"1": [0.2, -0.3], "2": [0.9, -0.1]}')
    assert ranking.read(two) == {1: [0.2, -0.3], 2: [0.9, -0.1]}


def test_files_that_are_no_checkpoints_disturb_nothing(two, opened):
    (two / 'steps' / '99').mkdir()
    (two / 'sha256' / 'x.json').write_text('{}')
    one = opened()
    assert (one.latest_intact(), one.set_aside) == (2, [99])
    one.save(3, arrays(), {})
    one.close()
    assert opened().latest_intact() == 3


def test_a_checkpoint_without_sums_is_not_trusted(two, opened):
    (two / 'sha256' / '2.json').unlink()
    one = opened()
    with pytest.raises(CheckpointError, match='step 2 has no checksums'):
        verify(two, 2)
    assert (one.latest_intact(), one.set_aside) == (1, [2])


def test_the_newest_checkpoint_has_its_sums_when_it_is_committed(opened, tmp_path):
    one = opened()
    one.save(1, arrays(), {})
    one._manager.wait_until_finished()  # what a run that is killed now leaves behind
    flip(data_files(tmp_path, 1)[0])
    with pytest.raises(CheckpointError, match='step 1 is damaged'):
        verify(tmp_path, 1)


def test_what_a_killed_save_left_is_deleted_before_anything_else_reads_the_folder(two, opened):
    left = two / 'steps' / '3.orbax-checkpoint-tmp'
    (left / 'arrays').mkdir(parents=True)
    (left / 'arrays' / 'manifest.ocdbt').write_bytes(b'cut sh')
    one = opened()
    assert not left.exists()
    assert (one.latest_intact(), one.unfinished) == (2, [3])
    one.save(3, arrays(3), {})
    one.close()
    assert opened().restore(3, arrays())[0]['whole']['step'] == 3


@pytest.mark.parametrize(
    'other', [np.zeros((5, 3), np.float32), np.zeros((4, 3), np.int32)], ids=['shape', 'type']
)
def test_arrays_of_another_shape_or_type_are_refused_before_any_is_read(
    other, two, opened, monkeypatch
):
    # Orbax casts types without a word, and leaves reads behind where a shape is wrong.
    target = arrays()
    target['whole']['kernel'] = jax.device_put(other, target['whole']['step'].sharding)
    one = opened()
    restore = one._manager.restore

    def restore_record(step, *, args):
        if 'arrays' in args.keys():  # noqa: SIM118  (it is no mapping)
            pytest.fail('it was read')
        return restore(step, args=args)

    monkeypatch.setattr(one._manager, 'restore', restore_record)
    with pytest.raises(CheckpointError, match='step 2 cannot be restored'):
        one.restore(2, target)


def test_a_tree_of_another_structure_is_refused(two, opened):
    with pytest.raises(CheckpointError, match='step 2 cannot be restored'):
        opened().restore(2, {**arrays(), 'more': jnp.zeros(3)})


def test_a_folder_is_held_by_one_run_at_a_time_which_is_named(tmp_path):
    with (
        lock(tmp_path),
        pytest.raises(BusyError, match=f'{tmp_path}: process {os.getpid()} on .* is writing'),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        pass


def test_another_process_is_kept_out_until_it_is_killed_which_is_said(tmp_path, capsys):
    code = (
        'import pathlib, sys, time; from tljax.records.folder_lock import BusyError, lock\n'
        'with lock(pathlib.Path(sys.argv[1])): print(flush=True); time.sleep(600)'
    )
    other = subprocess.Popen([sys.executable, '-c', code, tmp_path], stdout=subprocess.PIPE)
    other.stdout.readline()
    with pytest.raises(BusyError, match=f'process {other.pid} on'), lock(tmp_path):
        pass
    other.kill()
    other.communicate()
    with lock(tmp_path):
        text = ' '.join(capsys.readouterr().out.split())
    assert f'process {other.pid} on' in text
    assert 'takes it over' in text
    assert list(tmp_path.iterdir()) == []


def full(*_, **__):
    """What a full disk does."""
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_disk_that_is_full_at_once_is_said(opened, monkeypatch):
    one = opened()
    with monkeypatch.context() as patch:
        patch.setattr(one._manager, 'save', full)
        with pytest.raises(CheckpointError, match=r'step 1.*No space left.*; .* are free'):
            one.save(1, arrays(), {})


@pytest.mark.parametrize(
    'then',
    [
        lambda one: one.save(3, arrays(), {}),
        lambda one: one.restore(2, arrays()),
        lambda one: one.close(),
    ],
    ids=['save', 'restore', 'close'],
)
def test_a_disk_that_filled_up_meanwhile_is_said_by_the_next_call(then, two, opened, monkeypatch):
    one = opened()
    with monkeypatch.context() as patch:
        patch.setattr(one._manager, 'wait_until_finished', full)
        with pytest.raises(CheckpointError, match='No space left'):
            then(one)


def test_the_sums_are_of_every_file(two):
    sums = json.loads((two / 'sha256' / '2.json').read_text())
    folder = two / 'steps' / '2'
    assert sorted(folder / name for name in sums) == sorted(data_files(two, 2))


def test_too_little_free_space_is_refused_with_both_sizes(opened, monkeypatch):
    usage = shutil.disk_usage('/')
    one = opened()
    one.check_space({'x': jax.ShapeDtypeStruct((1000,), jnp.float32)})
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=11_000))
    one.check_space({'x': jax.ShapeDtypeStruct((900,), jnp.float32)})
    with pytest.raises(DiskError, match=r'need 11.72 KiB of disk space, and 10.74 KiB are free'):
        one.check_space({'x': jax.ShapeDtypeStruct((1000,), jnp.float32)})


def test_errors_of_orbax_in_its_threads_are_not_logged(opened, monkeypatch, caplog):
    logger = logging.getLogger('absl')
    for name, shown in (('/site-packages/orbax/x.py', False), ('/other/x.py', True)):
        record = logging.LogRecord('absl', logging.ERROR, name, 1, 'failed', (), None)
        assert logger.filter(record) == shown
