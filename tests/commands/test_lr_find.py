"""The learning-rate finder: what it computes, what it suggests, and that it leaves nothing."""

import contextlib
import dataclasses
import io
import json
import sys

import numpy as np
import pytest

from tests.small_runs import (
    HeadThenAll,
    assert_identical,
    assert_same_run,
    experiment,
    records,
    short,
)
from tljax.commands import lr_find as lr_find_command
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import LPFT, FineTune
from tljax.training import jobs, lr_find, solved_head, walk
from tljax.training.run import train
from tljax.types import InputError

CONFIG = """\
from tests import small_runs
from tljax import SGD, Cosine


def get_config():
    schedule = Cosine(warmup_epochs=1)
    return small_runs.experiment(optimizer=SGD(), schedule=schedule, clip_norm=None)
"""


@pytest.fixture(scope='module')
def printed(tmp_path_factory):
    """The output of the command, for a network that diverges, and its folder."""
    folder, printed = tmp_path_factory.mktemp('lr_find'), io.StringIO()
    (folder / 'small.py').write_text(CONFIG)
    words = ['--config=small.py', '--steps=60', '--lowest=1e-5', '--highest=1e6']
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert lr_find_command.main([*words, '--out=new/rates.png', '--rule=minimum']) == 0
    return printed.getvalue(), folder


@pytest.fixture(scope='module')
def curve(printed):
    """The points that the command writes."""
    return json.loads((printed[1] / 'new/rates.json').read_text())


def test_the_rates_rise_geometrically_from_the_lowest(curve):
    rates = np.array(curve['learning_rates'])
    np.testing.assert_allclose(rates[0], 1e-5)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 1e11 ** (1 / 59))


def test_the_range_test_ends_when_the_loss_diverges(curve):
    smoothed = np.array(curve['smoothed'])
    assert 20 < len(curve['losses']) < 60
    assert np.isfinite(curve['losses']).all()
    assert (smoothed[:-1] <= 4 * np.minimum.accumulate(smoothed)[:-1]).all()


def test_the_command_writes_points_and_picture_and_prints_the_flag(printed, curve):
    text, folder = printed
    assert len(curve['learning_rates']) == len(curve['losses']) == len(curve['smoothed'])
    assert (folder / 'new/rates.png').read_bytes().startswith(b'\x89PNG')
    flag = f'--config.optimizer.learning_rate={curve["suggestions"]["minimum"]:.2g}'
    assert text.splitlines()[-1] == flag
    assert sorted(path.name for path in folder.iterdir()) == ['new', 'small.py']


@dataclasses.dataclass(slots=True, kw_only=True)
class Nothing:
    """An augmentation that changes nothing, and counts how often it is traced."""

    def __call__(self, key, images, targets):
        """See `types.Augmentation`."""
        TRACED.append(1)
        return images, targets


TRACED = []


def constant():
    """An experiment without random changes of images."""
    return experiment(optimizer=SGD(learning_rate=0.3), augmentations=(Nothing(),))


@pytest.fixture(scope='module')
def level(used):
    """The curve of a rate that hardly rises."""
    TRACED.clear()
    return lr_find.find(used, steps=4, lowest=0.05, highest=0.05 * (1 + 1e-6))


@pytest.fixture(scope='module')
def used():
    """The experiment of that curve."""
    return constant()


def test_the_range_test_reaches_the_highest_rate_without_divergence(level):
    assert not level.diverged
    assert len(level.losses) == 4


def test_the_step_is_traced_once_for_all_rates(level):
    assert len(TRACED) == 1


def test_the_losses_are_those_of_training_at_these_rates(level, tmp_path):
    """The first steps of a run whose rate stays where the finder's does."""
    what = experiment(
        optimizer=SGD(learning_rate=0.05),
        augmentations=(Nothing(),),
        log_every_steps=1,
        checkpoint_every_steps=None,
        epochs=1.0,  # 4 steps
    )
    train(what, tmp_path)
    losses = [record['loss'] for record in records(tmp_path) if record['split'] == 'train'][:4]
    np.testing.assert_allclose(level.losses, losses, rtol=1e-4)


@pytest.mark.parametrize(('strategy', 'count'), [(FineTune(), 1), (HeadThenAll(), 1), (LPFT(), 2)])
def test_the_first_phase_with_steps_is_used(strategy, count):
    params = {'low': {}, 'high': {}, 'head': {}}
    rising = lr_find._GeometricRise(lowest=1e-3, highest=1.0, base=0.1)
    found = lr_find._RangeTest(strategy=strategy, schedule=rising, steps=7).phases(params)
    first = strategy.phases(params)[count - 1]
    assert len(found) == count
    assert (found[-1].steps, found[-1].epochs, found[-1].rules) == (7, None, first.rules)
    assert found[-1].schedule == rising


@pytest.fixture(scope='module')
def after_solving():
    """A job whose first phase solves the head, and the state in which the next one starts."""
    job = jobs.setup(experiment(strategy=LPFT()))
    return job, walk.start_of(job, job.phases[1])


def test_a_phase_after_a_solved_head_starts_with_another_head(after_solving):
    _, state = after_solving
    assert not np.array_equal(state.params['head']['linear']['bias'], np.zeros(3))


@pytest.mark.slow
def test_a_solved_head_is_solved_before(after_solving):
    job, state = after_solving
    solved, _ = solved_head.solve(job, jobs.first_state(job), job.phases[0])
    assert_identical(state.params, solved.params)


def test_the_range_test_leaves_the_experiment_unchanged(level, used):
    assert used == constant()


@pytest.mark.slow
def test_a_run_after_the_range_test_is_the_run_without_it(tmp_path):
    result = train(short(), tmp_path / 'without')
    what = short()
    lr_find.find(what, steps=12)
    train(what, tmp_path / 'after')
    assert_same_run(what, tmp_path / 'after', (tmp_path / 'without', result))


@pytest.mark.parametrize(
    'rates', [{'lowest': 0.0}, {'lowest': 1.0, 'highest': 0.1}, {'highest': float('inf')}]
)
def test_rates_that_do_not_rise_are_refused(rates):
    with pytest.raises(InputError, match='wanted 0 < lowest < highest'):
        lr_find.find(experiment(), **rates)


RATES = 10.0 ** np.arange(-6, 1)


def test_the_steepest_fall_is_found():
    losses = np.array([2.0, 2.0, 1.9, 1.0, 0.2, 0.1, 3.0])
    assert lr_find.steepest(RATES, losses) == pytest.approx(1e-3)


def test_a_tenth_of_the_rate_at_the_minimum_is_found():
    losses = np.array([2.0, 1.9, 1.5, 1.0, 0.9, 0.1, 5.0])
    assert lr_find.minimum(RATES, losses) == pytest.approx(1e-2)


def test_the_middle_of_the_longest_fall_is_found_across_a_point_above_it():
    losses = np.array([1.0, 3.0, 2.5, 2.9, 2.0, 1.5, 9.0])
    assert lr_find.valley(RATES, losses) == pytest.approx((1e-5 * 1e-1) ** 0.5)


def test_running_means_are_corrected_for_their_start():
    np.testing.assert_allclose(lr_find.smooth([3.0, 3.0, 3.0]), 3.0)
    np.testing.assert_allclose(lr_find.smooth([1.0, 2.0]), [1.0, (0.09 + 0.2) / 0.19])


def test_without_matplotlib_only_the_picture_is_missing(level, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    lr_find._report(level, tmp_path / 'rates.png', 'valley')
    printed = capsys.readouterr().out
    assert "pip install 'tljax[plot]'" in printed
    assert '--config.optimizer.learning_rate=' in printed
    assert [path.name for path in tmp_path.iterdir()] == ['rates.json']


def test_wrong_rates_are_an_error_of_one_line(tmp_path, capsys):
    (tmp_path / 'small.py').write_text(CONFIG)
    words = [f'--config={tmp_path}/small.py', '--lowest=2', '--highest=1']
    assert lr_find_command.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
