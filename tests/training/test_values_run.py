"""Images with numbers as labels: training, records, evaluation, solving and refusals."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import sklearn.linear_model
from PIL import Image

import tljax
from tests.small_runs import Tiny, experiment
from tljax.commands import evaluate, predict
from tljax.config.experiment import ConfigError
from tljax.data.manifest import Manifest
from tljax.models.views import FlipViews
from tljax.records import console
from tljax.training import baselines, final_evaluation, jobs, solved_head
from tljax.training.report import page
from tljax.training.serving import server
from tljax.types import Balance, InputError
from tljax.weights import export

NAMES = ('height', 'warmth')
SHORT = {'evaluate_every_epochs': 4.0, 'checkpoint_every_steps': None, 'cache_gigabytes': 0.0}


def picture(rng, height, warmth):
    """12 px of noise; rows from `height` (0 to 12) on are brighter, and red by `warmth`."""
    image = rng.normal(60, 10, (12, 12, 3))
    image[round(height) :] += 80
    image[..., 0] += warmth
    return image.clip(0, 255).astype(np.uint8)


def listed(folder, count):
    """A list of pictures with two numbers each, in units of different size."""
    rng = np.random.default_rng(0)
    lines = [f'path,{",".join(NAMES)},split']
    for number in range(count):
        height, warmth = rng.uniform(0, 12), rng.uniform(0, 90)
        Image.fromarray(picture(rng, height, warmth)).save(folder / f'{number}.png')
        split = 'test' if number >= count * 2 // 3 else 'train'
        lines.append(f'{number}.png,{100 + height},{warmth / 1000},{split}')
    (folder / 'list.csv').write_text('\n'.join(lines))
    return Manifest(path=str(folder / 'list.csv'), numbers=NAMES)


def regression(data, **changes):
    fields = {'loss': tljax.SquaredError(), 'epochs': 12.0, 'augmentations': (), **SHORT}
    return experiment(data=data, clip_norm=1.0, **{**fields, **changes})


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return listed(tmp_path_factory.mktemp('values'), 240)


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    """A finished run: its folder, its result, its output, and the experiment."""
    folder, trained = tmp_path_factory.mktemp('run') / 'run', regression(data)
    with console.console.capture() as captured:
        (result,) = baselines.train_all(trained, folder).values()
    return folder, result, captured.get(), trained


def test_a_small_network_learns_two_numbers(run):
    metrics = run[1]['test']
    assert metrics['count'] == 80
    assert min(metrics['value_r2']) > 0.5
    low, high = metrics['r2_interval']
    assert low < metrics['r2'] < high
    height, warmth = metrics['value_rmse']
    assert 0.1 < height < 4
    assert 0.001 < warmth < 0.03


def test_runs_are_compared_by_r2(run, tmp_path):
    shutil.copytree(run[0], tmp_path / 'again')
    comparison = tljax.compare([run[0], tmp_path / 'again'])
    assert comparison.measure == 'R²'
    for row in comparison.rows:
        assert row.accuracies == pytest.approx((run[1]['test']['r2'],))
    pair = comparison.rows[1].pair
    assert (pair.difference, pair.low, pair.high, pair.p_value) == (0, 0, 0, 1)


def test_the_output_names_the_metrics_and_the_numbers(run):
    assert '120 train, 40 val, 80 test images with 2 numbers each, 106' in run[2]
    assert 'The head is new' not in run[2]
    assert 'test R² (95 % interval)' in run[2]
    assert 'accuracy' not in run[2]


def test_the_checkpoint_of_the_best_r2_is_the_result(run):
    lines = (run[0] / 'metrics.jsonl').read_text().splitlines()
    validated = [r for r in map(json.loads, lines) if r['split'] == 'val']
    best = max(validated, key=lambda r: (r['r2'], -r['loss'], r['step']))
    assert run[1]['step'] == best['step']
    assert 'value_r2' not in best


def test_the_network_states_the_units_and_predicts_in_them(run):
    network = tljax.load(run[0])
    assert network.task.mean[0] == pytest.approx(106, abs=1)
    assert network.class_names == NAMES
    rng = np.random.default_rng(9)
    low, high = network.predict(np.stack([picture(rng, 2, 10), picture(rng, 10, 80)]))
    assert 99 < low[0] < high[0] < 113
    assert low[1] < high[1]
    assert 'Network(Tiny' in repr(network)
    assert '2 numbers' in repr(network)


def test_the_result_follows_from_the_predictions_to_the_last_digit(run):
    split = tljax.TrainedRun(run[0]).predictions.splits['test']
    metrics = final_evaluation.make_metrics(run[3].loss, split.task)(split)
    kept = {name: run[1]['test'][name] for name in metrics}
    assert json.loads(json.dumps(metrics)) == kept
    assert split.labels.dtype == np.float32


def test_a_list_and_the_own_data_are_evaluated_alike(run, data, tmp_path, capsys):
    network = str(run[0])
    evaluate.main([network, '--data=config', f'--out={tmp_path}/own.json'])
    evaluate.main([network, data.path, '--split=test', f'--out={tmp_path}/list.json'])
    own, read = (json.loads((tmp_path / f'{n}.json').read_text()) for n in ('own', 'list'))
    assert own['value_rmse'] == read['value_rmse'] == run[1]['test']['value_rmse']
    assert own['value_spearman_interval'] == run[1]['test']['value_spearman_interval']
    assert 'R²' in capsys.readouterr().out


def test_predictions_are_columns_in_the_units_of_the_labels(run, data, tmp_path, capsys):
    image = str(data.path).replace('list.csv', '0.png')
    predict.main([str(run[0]), image, f'--out={tmp_path}/p.csv'])
    _, line = (tmp_path / 'p.csv').read_text().splitlines()
    path, height, warmth = line.split(',')
    assert path == image
    assert 95 < float(height) < 117
    assert -0.1 < float(warmth) < 0.2
    predict.main([str(run[0]), image, f'--out={tmp_path}/p.jsonl'])
    record = json.loads((tmp_path / 'p.jsonl').read_text())
    assert [*record['predicted'].values()] == pytest.approx([float(height), float(warmth)])
    assert [*record['predicted']] == list(NAMES)
    assert 'height' in capsys.readouterr().out


def test_an_exported_network_keeps_its_units(run, tmp_path):
    out, card = export.export(str(run[0]), tmp_path / 'net.safetensors', names='tljax')
    image = picture(np.random.default_rng(9), 5, 20)
    network = tljax.load(str(out), backbone=Tiny())
    np.testing.assert_allclose(network.predict(image), tljax.load(run[0]).predict(image))
    assert '2 numbers' in card.read_text()
    assert '| split | images | R²' in card.read_text()


def test_the_mean_of_views_is_the_mean_of_their_numbers(run):
    network = tljax.load(run[0])
    image = picture(np.random.default_rng(9), 5, 20)
    both = [network.predict(one) for one in (image, np.ascontiguousarray(image[:, ::-1]))]
    np.testing.assert_allclose(network.predict(image, FlipViews()), np.mean(both, 0), rtol=1e-4)


def test_the_page_shows_residuals_and_leaves_out_what_needs_classes(run):
    page.write(run[0])
    text = (run[0] / 'report.html').read_text()
    for words in ('Residuals', 'RMSE', 'height', 'The largest errors'):
        assert words in text
    for words in ('Confusion', 'could not be made', 'not right or wrong', 'Temperature'):
        assert words not in text
    assert (run[0] / 'figures' / 'predicted-height.csv').is_file()


def test_lp_ft_solves_the_head_in_closed_form(data):
    decay = 0.02
    solver = tljax.LBFGS(weight_decay=decay, tolerance=1e-7)
    job = jobs.setup(regression(data, strategy=tljax.LPFT(solver=solver)))
    state = jobs.first_state(job)
    solved, solution = solved_head.solve(job, state, job.phases[0])
    assert int(solution.iterations) == 1
    features, targets, mask = (np.asarray(x) for x in solved_head._head_inputs(job, state))
    assert mask.sum() == 120
    # The loss is a mean over the two numbers, and the decay is halved.
    wanted = sklearn.linear_model.Ridge(alpha=120 * decay).fit(features[mask], targets[mask])
    head = solved.params['head']['linear']
    np.testing.assert_allclose(head['kernel'], wanted.coef_.T, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(head['bias'], wanted.intercept_, rtol=1e-3, atol=1e-5)
    job = dataclasses.replace(job, experiment=regression(data, loss=tljax.Huber(delta=50.0)))
    _, iterated = solved_head.solve(job, state, job.phases[0])
    assert int(iterated.iterations) > 1


@pytest.mark.slow
def test_variances_are_predicted_with_the_numbers(data, tmp_path):
    trained = regression(data, loss=tljax.GaussianLikelihood(), epochs=4.0)
    baselines.train_all(trained, tmp_path / 'run')
    values = tljax.load(tmp_path / 'run').predict(picture(np.random.default_rng(9), 5, 20))
    assert values.shape == (1, 4)
    assert (values[:, 2:] > 0).all()


def test_delta_weighs_channels_by_their_value_for_the_numbers(data):
    job = jobs.setup(regression(data, penalties=(tljax.DELTA(examples=32),)))
    (arrays,) = job.penalty_arrays
    for weights in arrays.prepared[0].values():
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
        assert np.ptp(weights) > 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'loss': tljax.CrossEntropy()}, 'config.loss is CrossEntropy, which needs classes'),
        ({'balance': Balance.SAMPLE}, 'config.balance is sample, which needs classes'),
        ({'penalties': (tljax.CoTuning(),)}, 'which needs one class for each example'),
        ({'per_class': 5}, 'config.per_class is 5, which needs classes'),
        ({'subset': tljax.Subset(classes=('height', 'warmth'))}, 'config.subset.classes'),
        ({'subset': tljax.Subset(label_noise=0.1)}, 'with numbers as labels'),
    ],
)
def test_what_needs_classes_is_refused_in_one_line(changes, message, data):
    with pytest.raises(InputError, match=message):
        jobs.read_splits(regression(data, **changes))


def test_numbers_as_the_loss_of_classes_are_refused():
    with pytest.raises(ConfigError, match='SquaredError, which needs numbers as labels'):
        jobs.read_splits(experiment(loss=tljax.SquaredError()))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'augmentations': (tljax.Rotate(),)}, r'augmentations\[0\] is Rotate: its rotation'),
        ({'augmentations': (tljax.RandAugment(),)}, 'RandAugment: its rotation'),
        ({'test_views': FlipViews()}, 'test_views is FlipViews: its mirroring'),
    ],
)
def test_augmentations_that_change_a_number_are_refused(changes, message, data):
    angles = dataclasses.replace(data, changed_by=('rotation', 'mirroring'))
    with pytest.raises(ConfigError, match=message):
        jobs.read_splits(regression(angles, **changes))
    jobs.read_splits(regression(data, **changes))
    jobs.read_splits(regression(angles, augmentations=(tljax.Affine(scale_factor=1.1),)))


def test_a_part_of_the_images_covers_the_range_of_the_numbers(data):
    train = jobs.read_splits(regression(data, subset=tljax.Subset(fraction=0.25)))['train']
    heights = train.labels[:, 0]
    assert abs(len(train) - 30) <= 2
    assert np.ptp(heights) > 10


def test_a_served_run_answers_with_numbers(run, data):
    served = server.read(run[0], 100, 'knn')
    path = pathlib.Path(data.path).parent / '0.png'
    answer = served.answer(path.read_bytes())
    wanted = tljax.load(run[0]).predict(path)[0]
    assert answer['predicted'] == pytest.approx(
        dict(zip(NAMES, wanted.tolist(), strict=True)), rel=1e-4
    )
    assert [part.split()[0] for part in answer['headline'].split(', ')] == list(NAMES)
    assert answer['top'] == []
    assert answer['ood'] is None
    assert len(answer['pictures']) == 1  # no class to explain
    first = answer['nearest'][0]['path']
    again = served.answer((path.parent / first).read_bytes())
    assert again['nearest'][0]['path'] == first
    assert served.notes[0] == 'The run predicts numbers, so there are no probabilities.'
