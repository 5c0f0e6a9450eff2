"""Data with a validation and no test split: training, comparisons, and records."""

import json
import shutil

import numpy as np
import pytest

from tests.small_runs import experiment
from tljax.commands import evaluate
from tljax.data import arrays
from tljax.records import console, tables
from tljax.training import baselines, frontier, merging
from tljax.types import InputError
from tljax.weights import export

IMAGES = np.random.default_rng(0).integers(0, 256, (18, 8, 8, 3), np.uint8)
LABELS = np.arange(18) % 3


def source():
    return arrays.keep(train=(IMAGES[:12], LABELS[:12]), val=(IMAGES[12:], LABELS[12:]))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run's folder, the results by strategy, and the output."""
    workdir = tmp_path_factory.mktemp('untested') / 'run'
    with console.console.capture() as captured:
        trained = experiment(data=source(), epochs=1.0, evaluate=('val', 'test'))
        results = baselines.train_all(trained, workdir)
    return workdir, results, captured.get()


def test_the_result_has_no_test(run):
    (result,) = run[1].values()
    assert 'test' not in result
    assert result['val']['count'] == 6
    assert set(json.loads((run[0] / 'splits.json').read_text())) == {'class_names', 'train', 'val'}


def test_the_comparison_on_validation_images_says_so(run):
    assert 'There is no test split.' in run[2]
    assert 'Without a test split, on 6 validation images, which selected the checkpoint' in run[2]
    assert 'val accuracy (95 % interval)' in run[2]
    assert 'test accuracy' not in run[2]


def test_the_model_card_has_validation_metrics(run):
    _, card = export.export(str(run[0]), run[0] / 'net.safetensors', names='tljax')
    assert '| val | 6 |' in card.read_text()
    assert '| test |' not in card.read_text()


def test_a_comparison_without_held_out_images_has_costs_only():
    results = {'probe': {'val': None, 'trained_parameters': 7, 'wall_seconds': 3.0}}
    table = tables.table(results)
    assert [column.header for column in table.columns] == [
        'strategy',
        'trained parameters',
        'seconds',
    ]
    assert tables.headline(results) == 'There is neither a test nor a validation split:'


@pytest.mark.slow
def test_a_merge_is_evaluated_on_validation_images(run, tmp_path):
    shutil.copytree(run[0], tmp_path / 'copy')
    folders = [run[0], tmp_path / 'copy']
    metrics = merging.merge(folders, tmp_path / 'm.safetensors', alphas=(0.5,))
    assert all(set(splits) == {'val'} for splits in metrics.values())


def test_the_evaluate_command_uses_validation_images_of_the_config(run, tmp_path):
    out = tmp_path / 'o.json'
    assert evaluate.main([str(run[0]), '--data=config', f'--out={out}']) == 0
    assert json.loads(out.read_text())['split'] == 'val'


def test_a_frontier_is_evaluated_on_validation_images():
    assert frontier._reported_split(experiment(data=source()), 2) == 'val'


def test_a_frontier_without_held_out_images_is_refused_before_training():
    data = arrays.keep(train=(IMAGES, LABELS))
    nothing_held_out = experiment(data=data, validation_fraction=0.0)
    with pytest.raises(InputError, match='neither test nor validation'):
        frontier._reported_split(nothing_held_out, 1)
