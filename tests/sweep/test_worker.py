"""Workers: every cell is run once, errors are kept, and a stopped sweep goes on."""

import contextlib
import dataclasses
import errno
import json
import threading

import numpy as np
import pytest

from tests import small_runs
from tljax.records import console, lease, predictions
from tljax.strategies.strategies import FineTune, FreezeBelow, LinearProbe
from tljax.sweep import cells, cost, listing, local_workers, run, worker
from tljax.sweep.folder import SweepFolder
from tljax.sweep.space import Axis, Product, Seeds
from tljax.training import run as training_run
from tljax.training.signals import Interrupted

BASE = small_runs.experiment(
    epochs=0.8, validation_fraction=0.25, checkpoint_every_steps=None, strategy=LinearProbe()
)
PART = Product(Axis('optimizer.learning_rate', [0.01, 0.1]), Seeds(2))


def options(tmp_path, **changes):
    """How the sweep is run."""
    return run.Options(workdir=tmp_path / 'sweep', command='tljax sweep', **changes)


@pytest.fixture
def fake_train(monkeypatch):
    """Replaces training by a record of its workdirs; `errors` maps a seed to what it raises."""

    class Train:
        def __init__(self):
            self.seeds, self.errors = [], {}

        def __call__(self, experiment, workdir, **_):
            self.seeds.append(experiment.seed)
            if experiment.seed in self.errors:
                raise self.errors[experiment.seed]
            console.console.print('trained')
            workdir.mkdir(parents=True, exist_ok=True)
            result = {'test': {'accuracy': 0.5}, 'wall_seconds': 1.0, 'steps': 4}
            (workdir / 'result.json').write_text(json.dumps(result))

    train = Train()
    monkeypatch.setattr(worker, 'train', train)
    return train


@pytest.fixture
def printed(monkeypatch):
    """The lines that the sweep prints."""
    lines = []
    monkeypatch.setattr(console.console, 'print', lambda text, **_: lines.append(str(text)))
    return lines


def test_a_sweep_equals_its_cells_run_alone_bit_for_bit(tmp_path):
    part = Axis('optimizer.learning_rate', [0.01, 0.1])
    assert run.run(BASE, part, options(tmp_path)) == 0
    folder = SweepFolder(tmp_path / 'sweep')
    for cell in cells.expand(part, BASE):
        training_run.train(cell.experiment, tmp_path / cell.name)
        alone = predictions.read(tmp_path / cell.name / 'predictions.npz').splits['test']
        swept = folder.predictions(cell.name).splits['test']
        np.testing.assert_array_equal(swept.logits, alone.logits)


def test_a_finished_cell_is_not_run_again_and_a_new_value_adds_only_its_cells(tmp_path, fake_train):
    first = Product(Axis('epochs', [1.0]), Seeds(2))
    more = Product(Axis('epochs', [1.0, 2.0]), Seeds(3))
    assert run.run(BASE, first, options(tmp_path)) == 0
    assert run.run(BASE, first, options(tmp_path)) == 0
    assert fake_train.seeds == [0, 1]
    assert run.run(BASE, more, options(tmp_path)) == 0
    assert fake_train.seeds == [0, 1, 2, 0, 1, 2]


def test_named_sweeps_of_a_folder_share_cells(tmp_path, fake_train):
    run.run(BASE, Seeds(2), options(tmp_path, name='first'))
    run.run(BASE, Seeds(3), options(tmp_path, name='second'))
    assert fake_train.seeds == [0, 1, 2]
    folder = SweepFolder(tmp_path / 'sweep')
    assert folder.names() == ['first', 'second']
    assert len(folder.record('second').cells) == 3


def test_equal_cells_of_a_sweep_are_run_once(tmp_path, fake_train):
    part = Axis('epochs', {'one': 1.0, 'the same': 1.0})
    assert run.run(BASE, part, options(tmp_path)) == 0
    assert fake_train.seeds == [0]
    assert len(SweepFolder(tmp_path / 'sweep').record().cells) == 2


def test_a_failed_cell_is_recorded_reported_and_retried(tmp_path, fake_train, printed):
    fake_train.errors = {1: RuntimeError('planted\nin two lines')}
    assert run.run(BASE, Seeds(3), options(tmp_path)) == 1
    assert fake_train.seeds == [0, 1, 2]
    assert any('seed=1: failed: RuntimeError: planted' in line for line in printed)
    folder = SweepFolder(tmp_path / 'sweep')
    name = folder.record().cells[1].name
    assert 'in two lines' in folder.failure(name).traceback
    assert run.run(BASE, Seeds(3), options(tmp_path)) == 1  # without --retry it stays failed
    assert fake_train.seeds == [0, 1, 2]
    assert run.run(BASE, Seeds(3), options(tmp_path, retry=True)) == 1
    assert folder.failure(name).attempts == 2
    fake_train.errors = {}
    assert run.run(BASE, Seeds(3), options(tmp_path, retry=True)) == 0
    assert fake_train.seeds == [0, 1, 2, 1, 1]
    assert folder.failure(name) is None


def test_a_signal_stops_the_sweep_and_the_same_call_goes_on(tmp_path, fake_train):
    fake_train.errors = {1: Interrupted(15, 3)}
    with pytest.raises(Interrupted):
        run.run(BASE, Seeds(3), options(tmp_path))
    fake_train.errors = {}
    assert run.run(BASE, Seeds(3), options(tmp_path)) == 0
    assert fake_train.seeds == [0, 1, 1, 2]


def test_a_full_disk_stops_the_sweep_and_fails_no_cell(tmp_path, fake_train):
    fake_train.errors = {0: OSError(errno.ENOSPC, 'no space left')}
    with pytest.raises(OSError, match='no space left'):
        run.run(BASE, Seeds(2), options(tmp_path))
    folder = SweepFolder(tmp_path / 'sweep')
    assert not any(folder.failure(cell.name) for cell in folder.record().cells)


def test_a_cell_of_a_living_process_is_left_to_it(tmp_path, fake_train, printed):
    folder, (first, _) = run.plan(BASE, Seeds(2), options(tmp_path))
    with folder.acquire(first.name):
        assert run.run(BASE, Seeds(2), options(tmp_path)) == 0
    assert fake_train.seeds == [1]
    assert any(line.startswith('1 cells are not done') for line in printed)


def test_the_cell_of_a_dead_process_is_resumed_last_and_that_is_said(tmp_path, fake_train, printed):
    folder, (first, *_) = run.plan(BASE, Seeds(3), options(tmp_path))
    own = lease._this_process()
    path = folder.path / 'leases' / f'{first.name}.json'
    path.parent.mkdir()
    path.write_text(json.dumps(dataclasses.asdict(own) | {'started': own.started - 1}))
    assert run.run(BASE, Seeds(3), options(tmp_path)) == 0
    assert fake_train.seeds == [1, 2, 0]
    assert any(f'process {own.pid} on {own.host} ended while it ran' in line for line in printed)


def test_two_workers_run_every_cell_once(tmp_path, fake_train, monkeypatch):
    # The output of a process goes to one file at a time, and these workers are threads of one.
    monkeypatch.setattr(worker, '_output_to', lambda path: contextlib.nullcontext())
    folder, made = run.plan(BASE, Seeds(40), options(tmp_path))
    both = [threading.Thread(target=worker.work, args=(folder, made)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(fake_train.seeds) == list(range(40))


@pytest.mark.parametrize('code', [1, 75])
def test_a_worker_that_ended_badly_gives_the_sweep_its_exit_code(code, tmp_path, monkeypatch):
    monkeypatch.setattr(local_workers, 'run', lambda *_: code)
    monkeypatch.setattr(run, '_report', lambda *_: None)
    assert run.run(BASE, Seeds(2), options(tmp_path, workers=2)) == code


def test_the_output_of_a_cell_is_in_its_folder(tmp_path, fake_train, capsys):
    run.run(BASE, Seeds(1), options(tmp_path))
    folder = SweepFolder(tmp_path / 'sweep')
    (cell,) = folder.record().cells
    assert 'trained' in (folder.workdir(cell.name) / 'output.txt').read_text()
    assert 'trained' not in capsys.readouterr().out


def test_checkpoints_of_finished_cells_are_deleted_on_request_only(tmp_path, fake_train):
    for name, delete in (('kept', False), ('deleted', True)):
        chosen = options(tmp_path / name, delete_checkpoints=delete)
        folder, (cell,) = run.plan(BASE, Seeds(1), chosen)
        checkpoints = folder.workdir(cell.name) / 'checkpoints'
        checkpoints.mkdir(parents=True)
        run.run(BASE, Seeds(1), chosen)
        assert checkpoints.exists() != delete


def test_finished_cells_predict_the_time_of_cells_with_other_seeds_and_rates(tmp_path):
    folder, made = run.plan(BASE, Product(PART, Axis('epochs', [0.8, 2])), options(tmp_path))
    done = made[0]
    folder.workdir(done.name).mkdir(parents=True)
    result = {'wall_seconds': 7.0, 'steps': 4}
    (folder.workdir(done.name) / 'result.json').write_text(json.dumps(result))
    predicted = cost.predict(folder, made, measure=lambda experiment: (9, 1.5))
    assert done.name not in predicted
    by_epochs = {cell.experiment.epochs: predicted.get(cell.name) for cell in made[1:]}
    assert (by_epochs[0.8].steps, by_epochs[0.8].seconds) == (4, 7.0)
    assert (by_epochs[2].steps, by_epochs[2].seconds, by_epochs[2].measured) == (9, 1.5, True)


def test_a_dry_run_counts_steps_names_impossible_cells_and_trains_nothing(tmp_path, capsys):
    part = Axis('strategy', {'all': FineTune(), 'no such stage': FreezeBelow(stage='stage9')})
    assert listing.dry_run(BASE, part, options(tmp_path)) == 0
    printed_text = ' '.join(capsys.readouterr().out.split())
    assert 'Nothing was trained' in printed_text
    assert 'stage9' in printed_text
    assert not (tmp_path / 'sweep').exists()
