"""`tljax merge`: from runs to a file of weights with its scores."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors

import tljax
from tests.small_runs import Tiny, assert_identical, experiment, last_checkpoint
from tljax.commands import merge as command
from tljax.models import averaging, heads
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.records import checkpoint, console
from tljax.strategies.optimizers import SGD
from tljax.training import evaluation, merging, runs_to_merge
from tljax.training.run import train
from tljax.types import InputError
from tljax.weights import loading


def short():
    """An experiment of one epoch."""
    return experiment(epochs=1.0, optimizer=SGD(), checkpoint_every_steps=None)


def copy_with_other_values(folder, target, arrays, step):
    """A copy of a run with random changes of its values, as another learning rate would make."""
    shutil.copytree(folder, target)
    rng = np.random.default_rng(ord(target.name))
    state = arrays['state']
    values = {
        name: jax.tree.map(
            lambda x: x * rng.uniform(0.5, 1.5, x.shape).astype(x.dtype), getattr(state, name)
        )
        for name in ('params', 'stats')
    }
    checkpoints = checkpoint.Checkpoints(target / 'checkpoints')
    changed = {**arrays, 'state': dataclasses.replace(state, **values)}
    checkpoints.replace(step, changed, checkpoints.record(step))
    checkpoints.close()
    return target


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Three runs of a small network."""
    first = tmp_path_factory.mktemp('merge') / 'a'
    train(short(), first, show_model=False)
    latest = last_checkpoint(short(), first)
    others = [copy_with_other_values(first, first.with_name(name), *latest) for name in 'bc']
    return [first, *others]


def read(path):
    """The values of a file of the small network."""
    found = loading.load(path, Tiny())
    return found.params, found.stats


def values(folder):
    """The values of a run."""
    return tuple(runs_to_merge.read(folder).values)


@pytest.mark.parametrize(('alpha', 'which'), [('0', 0), ('1', 1)])
def test_wise_ft_at_alpha_0_and_1_is_bit_identical_to_the_runs(alpha, which, folders, tmp_path):
    out = tmp_path / 'out.safetensors'
    assert command.main([*map(str, folders[:2]), f'--out={out}', f'--alpha={alpha}']) == 0
    assert_identical(read(out), values(folders[which]))


@pytest.fixture(scope='module')
def wise(folders, tmp_path_factory):
    """The file of a wise_ft merge, and the table of its scores."""
    out = tmp_path_factory.mktemp('wise') / 'out.safetensors'
    return out, merging.merge(folders[:2], out, alphas=(0.0, 0.4, 0.7, 1.0))


def test_the_ends_of_a_curve_have_the_scores_of_the_runs(wise, folders):
    _, table = wise
    for folder, alpha in ((folders[0], 'alpha 0'), (folders[1], 'alpha 1')):
        for split in ('val', 'test'):
            one, other = table[str(folder)][split], table[alpha][split]
            assert one['accuracy'] == other['accuracy']
            assert one['loss'] == pytest.approx(other['loss'], rel=1e-5)


def test_the_alpha_with_the_best_validation_accuracy_is_used(wise):
    _, table = wise
    points = {name: scores for name, scores in table.items() if name.startswith('alpha')}
    best = max(points, key=lambda n: (points[n]['val']['accuracy'], -points[n]['val']['loss']))
    assert list(table)[-1].endswith(best)


def test_the_file_contains_its_source_and_scores(wise):
    out, table = wise
    with safetensors.safe_open(out, 'np') as file:
        texts = file.metadata()
    title = list(table)[-1]
    assert texts['source'] == title
    assert json.loads(texts['scores']) == table[title]
    assert json.loads(texts['class_names']) == ['a', 'b', 'c']


def test_a_uniform_soup_is_the_mean_of_the_runs(folders, tmp_path):
    out = tmp_path / 'soup.safetensors'
    merging.merge(folders, out, method='uniform', statistics='averaged')
    assert_identical(read(out), averaging.average([values(folder) for folder in folders]))


def test_a_soup_of_a_run_with_itself_is_the_run(folders, tmp_path):
    """The statistics are not computed again if the runs do not differ."""
    same = tmp_path / 'same'
    shutil.copytree(folders[0], same)
    merging.merge([folders[0], same], tmp_path / 'soup.safetensors', method='uniform')
    assert_identical(read(tmp_path / 'soup.safetensors'), values(folders[0]))


@pytest.fixture(scope='module')
def greedy(folders, tmp_path_factory):
    """The file of a greedy soup, and the table of its scores."""
    out = tmp_path_factory.mktemp('greedy') / 'out.safetensors'
    return out, merging.merge(folders, out, method='greedy')


def test_a_greedy_soup_is_never_worse_on_validation_than_its_best_run(greedy):
    _, table = greedy
    *single, soup = [scores['val']['accuracy'] for scores in table.values()]
    assert len(single) == 3
    assert soup >= max(single)


def test_a_greedy_soup_does_not_depend_on_the_test_split(greedy, folders, tmp_path, monkeypatch):
    evaluate = evaluation.make_evaluate

    def wrong_on_test(job):
        real = evaluate(job)
        return lambda p, s, split: {
            **real(p, s, split),
            **({'accuracy': 0.5} if split == 'test' else {}),
        }

    monkeypatch.setattr(evaluation, 'make_evaluate', wrong_on_test)
    merging.merge(folders, tmp_path / 'out.safetensors', method='greedy')
    assert_identical(read(tmp_path / 'out.safetensors'), read(greedy[0]))


def test_statistics_of_a_merge_are_computed_from_the_training_images(folders, tmp_path):
    out = tmp_path / 'soup.safetensors'
    merging.merge(folders[:2], out, method='uniform')
    _, stats = read(out)
    mean = averaging.average([values(folder)[1] for folder in folders[:2]])
    assert not np.allclose(stats['high']['norm']['mean'], mean['high']['norm']['mean'], rtol=1e-2)


def spoiled(folder, target, change):
    """A copy of a run with another splits.json."""
    shutil.copytree(folder, target)
    path = target / 'splits.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return target


def test_a_greedy_soup_of_runs_without_validation_images_in_common_is_refused(folders, tmp_path):
    other = spoiled(folders[1], tmp_path / 'other', lambda c: c['val']['ids'].reverse())
    with pytest.raises(InputError, match='that the runs have in common'):
        merging.merge([folders[0], other], tmp_path / 'out.safetensors', method='greedy')


def test_other_classes_are_refused_by_name(folders, tmp_path, capsys):
    def rename(content):
        content['class_names'][1] = 'z'

    other = spoiled(folders[1], tmp_path / 'other', rename)
    code = command.main([str(folders[0]), str(other), f'--out={tmp_path / "out.safetensors"}'])
    assert code == 2
    printed = capsys.readouterr().err
    assert '- class b' in printed
    assert '+ class z' in printed
    assert str(other) in printed


def other_run(folder, **architecture):
    """A run with another architecture."""
    found = runs_to_merge.read(folder)
    other = dataclasses.replace(found.pretrained.architecture, **architecture)
    return dataclasses.replace(
        found, pretrained=dataclasses.replace(found.pretrained, architecture=other)
    )


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'backbone': ResNetSmall()}, '+ Architecture(backbone=ResNetSmall'),
        ({'head': heads.LinearHead(dropout=0.5)}, 'dropout=0.5'),
    ],
)
def test_another_architecture_is_refused_by_name(changes, line, folders):
    with pytest.raises(InputError) as caught:
        runs_to_merge.check([runs_to_merge.read(folders[0]), other_run(folders[1], **changes)])
    assert line in str(caught.value)


def test_other_starting_weights_are_not_another_architecture(folders):
    other = other_run(folders[1], backbone=Tiny(weights='elsewhere.pth'))
    runs_to_merge.check([runs_to_merge.read(folders[0]), other])


def test_leaves_that_differ_are_listed(folders):
    found = runs_to_merge.read(folders[1])
    params = {**found.pretrained.params, 'head': {'linear': {'kernel': np.zeros((8, 4))}}}
    other = dataclasses.replace(
        found, pretrained=dataclasses.replace(found.pretrained, params=params)
    )
    with pytest.raises(InputError) as caught:
        runs_to_merge.check([runs_to_merge.read(folders[0]), other])
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[2:] == [
        '- head/linear/bias [3]',
        '- head/linear/kernel [8, 3]',
        '+ head/linear/kernel [8, 4]',
    ]


@pytest.mark.parametrize(
    ('count', 'options', 'reason'),
    [
        (1, {}, 'started from random weights'),
        (3, {}, 'between two networks; got 3 runs'),
        (1, {'method': 'greedy'}, 'needs two runs or more'),
        (2, {'method': 'uniform', 'alphas': (0.5,)}, '--alpha needs --method=wise_ft'),
    ],
)
def test_a_method_that_does_not_fit_the_runs_is_refused(count, options, reason, folders, tmp_path):
    with pytest.raises(InputError, match=reason):
        merging.merge(folders[:count], tmp_path / 'out.safetensors', **options)


def test_a_run_that_is_named_twice_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match='named twice'):
        merging.merge([folders[0]] * 2, tmp_path / 'out.safetensors', method='uniform')


def test_a_curve_without_validation_images_in_common_is_refused(folders, tmp_path):
    other = spoiled(folders[1], tmp_path / 'other', lambda c: c['val']['ids'].reverse())
    with pytest.raises(InputError, match='wanted a single --alpha'):
        merging.merge([folders[0], other], tmp_path / 'out.safetensors')


def test_an_existing_file_is_kept(folders, tmp_path):
    (tmp_path / 'out.safetensors').write_text('mine')
    with pytest.raises(InputError, match='--overwrite'):
        merging.merge(folders[:2], tmp_path / 'out.safetensors')
    assert (tmp_path / 'out.safetensors').read_text() == 'mine'


@pytest.mark.slow
def test_a_merge_of_one_run_with_its_start_is_loaded_as_any_network(probe_run, tmp_path, capsys):
    out = tmp_path / 'merged.safetensors'
    table = merging.merge([probe_run], out, alphas=(0.5,))
    assert 'the start' in table
    network = tljax.load(out)
    assert network.class_names == ('a', 'b', 'c')
    assert network.preprocessing.size_px == 16
    end = runs_to_merge.read(probe_run).values
    np.testing.assert_array_equal(  # the start uses the head of the run
        network.params['head']['linear']['kernel'], end.params['head']['linear']['kernel']
    )
    start = loading.load(probe_run.parent / 'source.safetensors').params['stage3']
    between = jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, start, end.params['stage3'])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        network.params['stage3'],
        between,
    )
    accuracy = console.accuracy_text(table[list(table)[-1]]['test'])
    assert accuracy.split()[0] in capsys.readouterr().out
