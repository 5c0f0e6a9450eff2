"""`tljax robustness`: corrupted, shifted, unfamiliar and upstream images of a run."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from tests import served
from tests.small_runs import Tiny
from tljax.augment.corruptions import suite
from tljax.commands import robustness as command
from tljax.metrics import calibration, detection, out_of_distribution
from tljax.records import predictions
from tljax.records.predictions import SplitPredictions
from tljax.training.robustness import accuracy, corrupted, shifted, subject

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def patched(tmp_path_factory):
    """A cache for this file only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield patch


@pytest.fixture(scope='module')
def upstream(patched, tmp_path_factory):
    """The run whose weights `workdir` starts from."""
    return served.make(tmp_path_factory.mktemp('upstream'), report=False)


@pytest.fixture(scope='module')
def workdir(upstream, tmp_path_factory):
    """A run that starts from the weights of `upstream`."""
    root = tmp_path_factory.mktemp('tuned')
    return served.make(root, report=False, backbone=Tiny(weights=str(upstream)), epochs=1.0)


@pytest.fixture(scope='module')
def folders(workdir, tmp_path_factory):
    """A darker copy of the test images, others in other shapes, and images of noise."""
    root = tmp_path_factory.mktemp('folders')
    for path in (workdir.parent / 'data' / 'test').rglob('*.png'):
        dark = root / 'dark' / path.parent.name / path.name
        dark.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(Image.open(path)) // 2).save(dark)
    rng = np.random.default_rng(5)
    for index in range(9):
        served.draw(root / 'new' / 'red' / f'new{index}.png', 'red', rng)
        served.draw(root / 'noise' / f'{index}.png', 'blue', rng)
    served.draw(root / 'other' / 'purple' / '0.png', 'red', rng)
    (root / 'empty').mkdir()
    return root


@pytest.fixture(scope='module')
def measured(workdir, upstream, folders, tmp_path_factory):
    """The record of everything, and the folder that the command wrote."""
    out = tmp_path_factory.mktemp('out')
    argv = [f'--shifted={folders / "dark"}', f'--shifted={folders / "new"}']
    argv += [f'--ood={folders / "noise"}', f'--source={upstream.parent / "data"}']
    argv += [f'--baseline={upstream}', '--corruptions=contrast,brightness', '--severities=1,5']
    assert command.main([str(workdir), *argv, f'--out={out}']) == 0
    return json.loads((out / 'robustness.json').read_text()), out


def test_corruptions_are_measured_on_every_test_image(measured, workdir):
    record = measured[0]['corrupted']
    assert [row['name'] for row in record['corruptions']] == ['brightness', 'contrast']
    assert (record['split'], record['images'], record['severities']) == ('test', 21, [1, 5])
    result = json.loads((workdir / 'result.json').read_text())
    assert record['clean_accuracy'] == pytest.approx(result['test']['accuracy'])
    accuracies = np.array([row['accuracy'] for row in record['corruptions']])
    assert record['mean_error']['value'] == pytest.approx(1 - accuracies.mean())


def test_the_mean_corruption_error_is_relative_to_the_baseline(measured):
    record = measured[0]['corrupted']
    ratios = [row['relative_error'] for row in record['corruptions']]
    assert record['mce']['value'] == pytest.approx(np.mean(ratios))


def test_a_shifted_copy_of_the_test_images_is_paired(measured, workdir):
    record = measured[0]['shifted'][0]
    gap = record['gap']
    assert (gap['paired'], gap['images'], record['images']) == (True, 21, 21)
    assert gap['difference'] == pytest.approx(record['own']['accuracy'] - record['accuracy'])
    test = predictions.read(workdir / 'predictions.npz').splits['test']
    wanted = calibration.summary(test.logits, test.labels)
    assert record['own_calibration']['before'] == pytest.approx(wanted)


def test_other_images_are_compared_with_test_images_of_the_same_classes(measured):
    record = measured[0]['shifted'][1]
    assert record['gap']['paired'] is False
    assert record['gap']['images'] == [7, 9]
    assert any('7 images of the run in the same classes' in note for note in record['notes'])


def test_every_score_of_unfamiliar_images_has_a_threshold_from_validation(measured):
    record = measured[0]['ood'][0]
    assert [row['name'] for row in record['scores']] == list(out_of_distribution.SCORES)
    assert (record['images'], record['own_images']) == (9, 21)
    for row in record['scores']:
        assert row['auroc_low'] <= row['auroc'] <= row['auroc_high']
        assert 0 <= row['unfamiliar_accepted'] <= 1


def test_the_threshold_is_that_of_the_validation_logits(measured, workdir):
    val = predictions.read(workdir / 'predictions.npz').splits['val']
    wanted = detection.threshold(out_of_distribution.energy(val.logits))
    energy = next(row for row in measured[0]['ood'][0]['scores'] if row['name'] == 'energy')
    assert energy['threshold'] == pytest.approx(wanted, abs=1e-5)


def test_forgetting_starts_at_the_upstream_accuracy_and_ends_at_that_of_the_run(
    measured, upstream, workdir
):
    record = measured[0]['forgetting']
    before, after = (
        json.loads((run / 'result.json').read_text())['test']['accuracy']
        for run in (upstream, workdir)
    )
    assert record['before']['accuracy'] == pytest.approx(before)
    assert record['curve'][-1]['target']['accuracy'] == pytest.approx(after)
    assert [one['alpha'] for one in record['curve']][::5] == [0, 0.5, 1]
    change = record['before']['accuracy'] - record['after']['accuracy']
    assert record['loss']['difference'] == pytest.approx(change)


def test_the_page_is_readable_in_a_browser(measured, chromium):
    assert not chromium.faults(measured[1] / 'robustness.html')


def test_the_page_needs_no_other_file(measured):
    _, out = measured
    page = (out / 'robustness.html').read_text()
    for title in ('Corruptions', 'Shifted test sets', 'Unfamiliar images', 'Forgetting'):
        assert f'>{title}</h2>' in page
    assert 'http' not in page.replace('http://www.w3.org/2000/svg', '')
    names = {path.stem for path in (out / 'robustness_figures').iterdir()}
    assert names == {'corruptions', 'shifted', 'unfamiliar-1', 'forgetting'}


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ('--shifted={f}/missing', 'missing: no such folder or file'),
        ('--shifted={f}/empty', 'empty: no image of a class in it'),
        ('--shifted={f}/other', '1 of the 1 classes of the data (+) are not among the 3'),
        ('--ood={f}/missing', 'missing: no such folder or file'),
        ('--ood={f}/empty', 'no image in '),
        ('--source={f}/missing', 'missing: no such folder or file'),
        ('--source={f}/other', 'other: 1 of the 1 classes of the data'),
        ('--baseline={f}/empty', 'empty holds no run'),
        ('--corruptions=rain', "no corruption is called 'rain'"),
        ('--severities=0,6', 'severities are [0, 6], wanted numbers from 1 to 5'),
        ('--severities=a', '--severities: a: wanted numbers from 1 to 5, separated by commas'),
        ('--seed=-1', '--seed: -1: wanted 0 or more'),
    ],
)
def test_unusable_input_is_an_error_before_anything_is_measured(
    argument, message, workdir, folders, tmp_path, capsys
):
    code = command.main([str(workdir), argument.format(f=folders), f'--out={tmp_path / "out"}'])
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_run_of_random_weights_has_no_upstream_task(upstream, capsys):
    data = upstream.parent / 'data'
    assert command.main([str(upstream), '--corruptions=none', f'--source={data}']) == 2
    assert 'started from random weights' in capsys.readouterr().err


def test_hostile_folder_names_are_text_in_the_page(workdir, folders, tmp_path):
    hostile = tmp_path / '<img src=x onerror=alert(1)>'
    shutil.copytree(folders / 'dark', hostile)
    argv = [str(workdir), '--corruptions=none', f'--shifted={hostile}', f'--out={tmp_path}']
    assert command.main(argv) == 0
    page = (tmp_path / 'robustness.html').read_text()
    assert '&lt;img src=x onerror' in page
    assert '<img src=x' not in page


def split(*paths, labels=None):
    labels = np.zeros(len(paths), np.int32) if labels is None else np.array(labels)
    return SplitPredictions(
        np.arange(len(paths)), np.array(paths), labels, np.zeros((len(paths), 2), np.float32)
    )


def test_a_tie_or_nan_is_wrong_as_in_the_evaluation():
    logits = np.array([[1, 1, 0], [np.nan, 0, 0], [0, np.nan, 1], [2, 1, 0]], np.float32)
    labels = np.zeros(4, np.int32)
    tied = SplitPredictions(np.arange(4), np.array([''] * 4), labels, logits)
    assert accuracy.correct(tied).tolist() == [False, False, False, True]
    assert accuracy.summary(tied)['accuracy'] == 0.25


def test_a_network_with_equal_logits_is_wrong_on_every_corrupted_image(workdir):
    measured = subject.read(workdir)
    zeros = jax.tree.map(np.zeros_like, measured.network.params)
    constant = dataclasses.replace(
        measured, network=dataclasses.replace(measured.network, params=zeros)
    )
    examples = constant.data('test').examples
    clean, hits = corrupted.hits(constant, examples, suite.chosen(['contrast']), [1], seed=0)
    assert not clean.any()
    assert not hits.any()


def test_images_are_paired_by_class_and_name_without_suffix():
    reference = split('test/a/1.png', 'test/a/2.png', 'test/b/1.png', labels=[0, 0, 1])
    other = split('b/1.jpg', 'a/1.jpg', labels=[1, 0])
    np.testing.assert_array_equal(shifted.matching(reference, other), [2, 0])
    assert shifted.matching(reference, split('a/3.jpg')) is None
    assert shifted.matching(reference, split('a/1.jpg', 'c/1.jpg')) is None  # twice the same name
    assert shifted.matching(split('', ''), split('')) is None  # images without files


def test_a_limited_number_of_images_is_spread_over_the_set(workdir):
    examples = subject.read(workdir).data('test').examples
    np.testing.assert_array_equal(subject.spread(examples, 3).ids, examples.ids[[0, 10, 20]])
    assert subject.spread(examples, 50) is examples
