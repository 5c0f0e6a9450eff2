"""`tljax frontier`: the cost and the accuracy of each cut."""

import dataclasses
import json

import numpy as np
import pytest

from tests.small_runs import experiment, short
from tljax.commands import frontier as command
from tljax.records import plots
from tljax.strategies.strategies import FineTune, FreezeBelow
from tljax.training import frontier, jobs, step_cost
from tljax.training.frontier import CutResult
from tljax.training.step_cost import Cost
from tljax.types import InputError


def measured(folder, *flags):
    """The output folder and the points of a small experiment's frontier."""
    (folder / 'small.py').write_text('from tests.small_runs import short as get_config\n')
    words = [f'--config={folder / "small.py"}', '--repeats=3', f'--out={folder / "out"}']
    assert command.main([*words, *flags]) == 0
    return folder / 'out', json.loads((folder / 'out' / 'frontier.json').read_text())


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A frontier without training."""
    return measured(tmp_path_factory.mktemp('frontier'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A frontier with a trained run of each cut."""
    return measured(tmp_path_factory.mktemp('trained'), '--train')


pytestmark = pytest.mark.filterwarnings(
    'ignore:the load_module:DeprecationWarning'  # ml_collections
)


def test_the_cuts_go_from_the_head_to_everything(small):
    assert [point['lowest'] for point in small[1]] == ['head', 'high', 'low']


@pytest.mark.parametrize('name', ['flops', 'optimizer_bytes', 'trained_parameters'])
def test_the_lower_the_cut_the_dearer_a_step(name, small):
    values = [point['cost'][name] for point in small[1]]
    assert values == sorted(set(values))


def test_trained_parameters_are_counted_and_have_optimizer_state(small):
    head = small[1][0]['cost']
    assert head['trained_parameters'] == 8 * 3 + 3
    assert head['optimizer_bytes'] >= 2 * 4 * head['trained_parameters']  # AdamW's moments
    assert head['variable_bytes'] == small[1][2]['cost']['variable_bytes']


def test_every_cut_is_timed_as_often(small):
    for point in small[1]:
        assert len(point['seconds']) == 3
        assert min(point['seconds']) > 0


@pytest.mark.slow
def test_every_cut_is_trained_and_scored_as_its_run_says(trained):
    out, points = trained
    for point in points:
        result = json.loads((out / point['lowest'] / 'result.json').read_text())
        assert point['test'] == result['test']
        assert point['cost']['trained_parameters'] == result['trained_parameters']
        assert len(point['test']['accuracy_interval']) == 2


def test_a_table_is_written(small):
    out, points = small
    lines = (out / 'frontier.md').read_text().splitlines()
    assert len(lines) == 2 + len(points)
    assert lines[2].startswith('| head | 27 |')
    assert lines[4].startswith('| low and above |')
    assert all(line.count('|') == len(frontier.COLUMNS) + 1 for line in lines)


@pytest.mark.slow
def test_a_picture_of_what_was_trained_is_written(trained):
    assert (trained[0] / 'frontier.png').read_bytes().startswith(b'\x89PNG')


def test_cuts_differ_from_the_experiment_in_their_strategy_only():
    base = experiment(strategy=FineTune(learning_rate_scale=0.3), baselines=(FineTune(),))
    for stage, one in frontier.cuts(base, ['low', 'high', 'head']).items():
        assert one.strategy == FreezeBelow(stage=stage, learning_rate_scale=0.3)
        assert one == dataclasses.replace(base, strategy=one.strategy, baselines=())


def test_steps_are_timed_in_turns(monkeypatch):
    order = []
    job = jobs.setup(short())
    monkeypatch.setattr(step_cost.Feed, 'take', lambda feed, step: step)

    def step(name):
        def run(key, state, batch):
            order.append((name, batch))
            return state, None

        return job, job.phases[0], run

    taken = step_cost.step_seconds([step('a'), step('b')], repeats=2)
    assert taken.shape == (2, 2)
    assert order == [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)]


def run_by_rate(scores, monkeypatch):
    """Runs that score on validation what their learning rate is given; test has the rate itself."""
    ran = []

    def run(what, folder, show_model):
        rate = what.optimizer.learning_rate
        ran.append((what.strategy.stage, rate, folder.name))
        val = scores and {'accuracy': scores[rate], 'loss': 1.0}
        return {'val': val, 'test': {'accuracy': rate, 'accuracy_interval': [0, 1]}}

    monkeypatch.setattr(frontier, 'train', run)
    return ran


def test_each_cut_gets_the_rate_with_the_best_validation_accuracy(tmp_path, monkeypatch):
    ran = run_by_rate({0.1: 0.5, 0.2: 0.9, 0.3: 0.7}, monkeypatch)
    found = frontier.train_cuts(experiment(), points(None, None), tmp_path, (0.1, 0.2, 0.3))
    assert [point.learning_rate for point in found] == [0.2, 0.2]
    assert [point.test['accuracy'] for point in found] == [0.2, 0.2]
    assert len({name for _, _, name in ran}) == len(ran) == 6


def test_without_rates_the_experiments_own_counts(tmp_path, monkeypatch):
    ran = run_by_rate(None, monkeypatch)
    found = frontier.train_cuts(experiment(), points(None, None), tmp_path)
    assert ran == [('head', 0.01, 'head'), ('high', 0.01, 'high')]
    assert [point.learning_rate for point in found] == [0.01, 0.01]


def test_several_rates_without_validation_images_are_refused(tmp_path, monkeypatch):
    run_by_rate(None, monkeypatch)
    with pytest.raises(InputError, match='no validation images'):
        frontier.train_cuts(experiment(), points(None), tmp_path, (0.1, 0.2))


def test_a_point_that_is_dearer_and_worse_than_another_is_not_on_the_front():
    found = frontier.pareto_front([1.0, 2.0, 3.0, 4.0, 0.5], [0.6, 0.5, 0.9, 0.9, 0.2])
    assert found == [4, 0, 2]


@pytest.mark.parametrize('seed', range(5))
def test_no_point_beats_a_point_on_the_front(seed):
    rng = np.random.default_rng(seed)
    cost, gain = rng.random((2, 12))
    front = set(frontier.pareto_front(cost, gain))
    for i in range(12):
        beaten = any(cost[j] <= cost[i] and gain[j] > gain[i] for j in range(12))
        assert (i in front) is not beaten


def points(*accuracies):
    """Cuts of growing cost."""
    cost = Cost(
        flops=1e9,
        temporary_bytes=2048,
        variable_bytes=1,
        optimizer_bytes=1024,
        trained_parameters=7,
    )
    tests = [
        accuracy and {'accuracy': accuracy, 'loss': 0.5, 'accuracy_interval': [0.1, 0.9]}
        for accuracy in accuracies
    ]
    return [
        CutResult(
            lowest=('head', 'high', 'low')[i],
            cost=dataclasses.replace(cost, flops=1e9 * (i + 1)),
            seconds=(0.1 * (i + 1), 9.0, 0.1 * (i + 1)),
            test=test,
        )
        for i, test in enumerate(tests)
    ]


def test_costs_have_their_share_of_the_cost_of_training_everything():
    cells = frontier.table_rows(points(None, None, None))
    assert [row[2] for row in cells] == ['1 (0.33)', '2 (0.67)', '3 (1.00)']
    assert [row[3] for row in cells] == ['100 (0.33)', '200 (0.67)', '300 (1.00)']
    assert {row[-1] for row in cells} == {'–'}


def test_cuts_on_the_pareto_front_are_marked():
    cells = frontier.table_rows(points(0.5, 0.4, 0.8))
    assert [row[-1].endswith(' *') for row in cells] == [True, False, True]


def test_without_matplotlib_there_is_a_table_all_the_same(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise plots.NoPictureError('no picture')

    monkeypatch.setattr(plots, 'frontier', refuse)
    frontier._report(points(0.5, 0.4, 0.8), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['frontier.json', 'frontier.md']


def test_a_picture_of_accuracies_is_drawn(tmp_path):
    frontier._report(points(0.5, 0.4, 0.8), tmp_path)
    assert (tmp_path / 'frontier.png').read_bytes().startswith(b'\x89PNG')


def test_cuts_that_were_not_trained_are_not_drawn(tmp_path):
    frontier._report(points(None, None, None), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['frontier.json', 'frontier.md']
