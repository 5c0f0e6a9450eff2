"""A head that is solved in the last phase: its checkpoint, its evaluation, and resumption."""

import contextlib
import dataclasses
import functools
import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests.small_runs import (
    Crash,
    assert_identical,
    assert_same_run,
    crash,
    experiment,
    last_checkpoint,
)
from tljax.records import checkpoint, checkpoint_reading, checkpoint_replacement, ranking, writers
from tljax.strategies.strategies import LPFT
from tljax.training import jobs, run, solved_head
from tljax.training.evaluation import make_evaluate
from tljax.training.run import train
from tljax.types import Phase, Rule
from tljax.weights import network

pytestmark = pytest.mark.usefixtures('shared_programs')


@dataclasses.dataclass(slots=True, kw_only=True)
class SolvedLast:
    """4 steps of everything, then the head solved."""

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        head = (Rule(pattern='head'), Rule(pattern='**', train=False))
        return (
            Phase(rules=(Rule(pattern='**'),), steps=4),
            Phase(rules=head, solver=LPFT().solver),
        )


RUNS = {
    'validated': lambda: experiment(strategy=SolvedLast(), ema_decay=0.5),
    'not validated': lambda: experiment(strategy=SolvedLast(), validation_fraction=0.0),
}


def members(fast):
    """The names of the runs; all except `fast` are slow."""
    return [n if n == fast else pytest.param(n, marks=pytest.mark.slow) for n in RUNS]


@pytest.fixture(scope='module')
def reference_of(shared_programs, tmp_path_factory):
    """The function from a run's name to folder and result; it trains each once, without crashes."""
    folder = tmp_path_factory.mktemp('solved')

    @functools.cache
    def reference(name):
        return folder / name, train(RUNS[name](), folder / name)

    return reference


@pytest.mark.parametrize('name', members('validated'))
def test_the_checkpoint_that_is_kept_has_the_solved_head(name, reference_of):
    folder, result = reference_of(name)
    assert (result['step'], result['phase_starts']) == (4, [0, 4])
    kept, step = last_checkpoint(RUNS[name](), folder)
    assert step == 4
    job = jobs.setup(RUNS[name]())
    again, _ = solved_head.solve(job, kept['state'], job.phases[1])  # changes almost nothing
    change = jax.tree.map(lambda a, b: float(abs(a - b).max()), again.params, kept['state'].params)
    assert max(jax.tree.leaves(change)) < 0.05


@pytest.mark.parametrize('name', members('validated'))
def test_result_validation_and_loaded_network_are_those_of_the_checkpoint(name, reference_of):
    folder, result = reference_of(name)
    step, params, stats = checkpoint_reading.read_variables(folder / 'checkpoints')
    assert step == result['step']
    evaluate = make_evaluate(jobs.setup(RUNS[name]()))
    loss = evaluate(params, stats, 'test', final=True)['loss']
    assert loss == pytest.approx(result['test']['loss'], rel=1e-6)
    assert_identical(network.load(folder).params, params)
    if result['val'] is not None:
        validated = ranking.read(folder / 'checkpoints')
        expected = [result['val']['accuracy'], -result['val']['loss']]
        assert validated[4] == pytest.approx(expected, rel=1e-6)
        last = writers.read_metrics(folder / 'metrics.jsonl')[-1]
        assert last['phase'] == 1
        assert last['loss'] == pytest.approx(result['val']['loss'], rel=1e-6)


POINTS = {
    'before it is kept': (checkpoint.Checkpoints, 'replace'),
    'before it is in its place': (checkpoint_replacement.Replacement, 'commit'),
    'with the journal written': (checkpoint_replacement.Replacement, '_take_place'),
    'before the result': (run, '_conclude'),
}


@pytest.fixture(scope='module')
def unsolved_of(shared_programs, tmp_path_factory):
    """The function from a run's name to the folder of one that ended while the head was solved."""
    folder = tmp_path_factory.mktemp('unsolved')

    @functools.cache
    def unsolved(name):
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Crash):
            patch.setattr(solved_head, 'solve', crash)
            train(RUNS[name](), folder / name)
        return folder / name

    return unsolved


@pytest.mark.parametrize(
    ('name', 'point'),
    [
        ('validated', 'with the journal written'),
        *(
            pytest.param('validated', point, marks=pytest.mark.slow)
            for point in POINTS
            if point != 'with the journal written'
        ),
        pytest.param('not validated', None, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_crashed_around_the_solver_ends_as_one_without_crashes(
    name, point, reference_of, unsolved_of, tmp_path, monkeypatch
):
    folder = tmp_path / 'run'
    shutil.copytree(unsolved_of(name), folder)
    if point is not None:
        with monkeypatch.context() as patch:
            patch.setattr(*POINTS[point], crash)
            with pytest.raises(Crash):
                train(RUNS[name](), folder)
    assert not (folder / 'result.json').exists()
    train(RUNS[name](), folder)
    assert_same_run(RUNS[name](), folder, reference_of(name))
    assert not (folder / 'checkpoints/replacing').exists()


def saved(folder, value, *, replaced=False, step=2):
    """Saves one number, as the array, in the record and as the validation's score."""
    one = checkpoint.Checkpoints(folder)
    save = one.replace if replaced else one.save
    save(step, {'x': np.full(3, value)}, {'value': value}, {'score': value, 'loss': 1.0})
    one.close()


def read(folder, step=2):
    """The number that was saved: of the array, the record and the validation."""
    one = checkpoint.Checkpoints(folder)
    arrays, record = one.restore(step, {'x': np.zeros(3)})
    one.close()
    validated = ranking.read(folder)
    return float(arrays['x'][0]), record['value'], validated[step][0]


@pytest.mark.parametrize('operation', range(7))
def test_a_kill_at_any_operation_of_a_replacement_leaves_one_complete_checkpoint(
    operation, tmp_path, monkeypatch
):
    saved(tmp_path, 0.75)
    done = 0
    real = {
        (owner, name): getattr(owner, name)
        for owner, name in [
            (pathlib.Path, 'rename'),
            (pathlib.Path, 'unlink'),
            (checkpoint_replacement.checksums, 'write_json'),
            (checkpoint_replacement.shutil, 'rmtree'),
        ]
    }
    commit = checkpoint_replacement.Replacement.commit

    def counted(key):
        def run(*args, **kwargs):
            nonlocal done
            if done == operation:
                raise Crash
            done += 1
            return real[key](*args, **kwargs)

        return run

    def killed(*args):
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in real:
                patch.setattr(owner, name, counted((owner, name)))
            commit(*args)

    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(checkpoint_replacement.Replacement, 'commit', killed)
        saved(tmp_path, 0.25, replaced=True)
    assert done == operation
    expected = 0.25 if operation else 0.75  # the first operation writes the journal
    assert read(tmp_path) == (expected,) * 3


def test_a_replaced_best_checkpoint_stays_the_best(tmp_path):
    """A kill can come before or after the second best is deleted; the result is the same."""
    saved(tmp_path, 0.5, step=1)
    saved(tmp_path, 0.75, step=2)
    saved(tmp_path, 0.25, step=2, replaced=True)
    one = checkpoint.Checkpoints(tmp_path)
    assert one.best() == 2
    one.close()


def test_the_replacement_of_a_missing_checkpoint_saves_it(tmp_path):
    saved(tmp_path, 0.25, replaced=True)
    assert read(tmp_path) == (0.25,) * 3


def test_records_of_a_solved_head_that_was_not_kept_are_dropped(tmp_path):
    records = writers.Records(tmp_path, 0, 0)
    for phase in (0, 1):
        records.write({'step': 4, 'phase': phase, 'split': 'val'})
    records.close()
    writers.Records(tmp_path, 4, 0).close()
    assert [r['phase'] for r in writers.read_metrics(tmp_path / 'metrics.jsonl')] == [0]
