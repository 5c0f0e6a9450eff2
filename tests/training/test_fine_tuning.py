"""`tljax.train`, `tljax.fine_tune`, and the run that they return."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest
from PIL import Image

import tljax
from tests.small_runs import short
from tljax.training import baselines, fine_tuning
from tljax.types import InputError

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of 4 steps."""
    return tljax.train(short(), tmp_path_factory.mktemp('run') / 'run')


@pytest.fixture
def calls(monkeypatch):
    """The experiments and folders with which training is called; nothing is trained."""
    arguments = []
    monkeypatch.setattr(baselines, 'train_all', lambda *args: arguments.append(args))
    return arguments


def test_a_run_gives_metrics_as_attributes_and_its_config(run):
    assert run.test.accuracy == run.result['test']['accuracy']
    assert run.val is None  # there are no validation images
    assert run.config == short()
    assert [one['split'] for one in run.metrics][-1] == 'train'
    assert repr(run) == f"TrainedRun('{run.workdir}', test accuracy {run.test.accuracy:.1%})"


def test_the_network_of_a_run_predicts(run):
    assert run.network.predict(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 3)


def test_a_run_is_evaluated_on_a_folder(run, tmp_path):
    for label, name in enumerate(run.network.class_names):
        (tmp_path / name).mkdir()
        Image.new('RGB', (8, 8), (90 * label,) * 3).save(tmp_path / name / 'a.png')
    metrics = run.evaluate(tmp_path)
    assert metrics.count == 3
    assert 0 <= metrics.accuracy <= 1


def test_the_same_call_reads_the_finished_run(run):
    assert tljax.train(short(), run.workdir).result == run.result
    assert tljax.TrainedRun(str(run.workdir)).test == run.test


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'result\.json'):
        tljax.TrainedRun(tmp_path).result  # noqa: B018


@pytest.mark.parametrize('name', ['resnet50_finetune', 'vgg16_finetune', 'vit_finetune'])
def test_the_defaults_are_those_of_the_config_of_the_family(name):
    config = runpy.run_path(str(CONFIGS / f'{name}.py'))['get_config']()
    usual = fine_tuning.defaults(config.backbone, 224)
    assert usual == {field: getattr(config, field) for field in usual}
    assert (config.epochs, config.batch_size) == (6, 32)


def test_fine_tune_makes_an_experiment_of_weights_and_data(calls, tmp_path):
    (tmp_path / 'photos').mkdir()
    tljax.fine_tune(tmp_path / 'photos', 'embedded:glyphs', epochs=2, batch_size=8)
    ((experiment, folder),) = calls
    assert experiment.backbone == tljax.ResNetSmall(weights='embedded:glyphs')
    assert experiment.data == tljax.Folder(path=str(tmp_path / 'photos'))
    assert (experiment.epochs, experiment.batch_size) == (2, 8)
    assert experiment.strategy == tljax.FreezeBelow(stage='stage3')
    assert folder == pathlib.Path('runs/resnetsmall_photos_freeze_below_stage3')


def test_strategy_and_workdir_of_the_caller_are_used(calls, tmp_path):
    strategy = tljax.LinearProbe()
    tljax.fine_tune(tljax.Digits(), 'embedded:glyphs', strategy, workdir=tmp_path, seed=3)
    ((experiment, folder),) = calls
    assert (experiment.strategy, experiment.data, experiment.seed) == (strategy, tljax.Digits(), 3)
    assert folder == tmp_path


@pytest.mark.parametrize(
    ('name', 'kind'), [('a.csv', tljax.Manifest), ('a.npz', tljax.Arrays), ('a', tljax.Folder)]
)
def test_the_source_of_a_path_is_a_folder_a_list_or_arrays(name, kind, tmp_path):
    if '.' in name:
        (tmp_path / name).touch()
    assert fine_tuning._source(tmp_path / name) == kind(path=str(tmp_path / name))


def test_an_unknown_field_is_refused_before_weights_are_read():
    with pytest.raises(InputError, match=r'no field batchsize; did you mean batch_size'):
        tljax.fine_tune('photos', 'nowhere', batchsize=3)


def test_the_folder_of_a_run_is_named_by_backbone_data_and_strategy():
    one = dataclasses.replace(short(), data=tljax.Digits(), strategy=tljax.LinearProbe())
    assert fine_tuning._name(one) == 'tiny_digits_linear_probe'
