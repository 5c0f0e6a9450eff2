"""Images with several labels: training, records, evaluation and predictions."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import tljax
from tests.small_runs import Tiny, experiment
from tljax.commands import evaluate
from tljax.config import config_json
from tljax.config.experiment import ConfigError
from tljax.data import arrays, unlabelled
from tljax.data.manifest import Manifest
from tljax.data.subsets import Subset
from tljax.metrics.losses import BinaryCrossEntropy, ClassWeighted, CrossEntropy, Focal
from tljax.models.views import FlipViews
from tljax.records import console
from tljax.strategies.penalties.cotuning import CoTuning
from tljax.strategies.penalties.delta import DELTA
from tljax.strategies.strategies import LPFT
from tljax.training import (
    baselines,
    compiled_step,
    final_evaluation,
    jobs,
    prediction,
    solved_head,
    states,
)
from tljax.training.serving import server
from tljax.types import Balance, InputError
from tljax.weights import export, own_format

NAMES = ('blue', 'green', 'red')  # sorted, as the classes of a list are
PLACES = {'red': (0, slice(0, 4)), 'green': (1, slice(4, 8)), 'blue': (2, slice(8, 12))}


def picture(rng, names):
    """12 px of noise with a bright band for each label, in its own channel and rows."""
    image = rng.normal(90, 30, (12, 12, 3))
    for name in names:
        channel, rows = PLACES[name]
        image[rows, :, channel] += 90
    return image.clip(0, 255).astype(np.uint8)


def labels_of(number):
    """The labels of a picture: the bits of its number."""
    return [name for bit, name in enumerate(NAMES) if number >> bit & 1]


def listed(folder, count):
    """A list of pictures. Each label is on half of them, so an eighth has no label."""
    rng = np.random.default_rng(0)
    lines = ['path,label,split']
    for number in range(count):
        names = labels_of(number)
        Image.fromarray(picture(rng, names)).save(folder / f'{number}.png')
        split = 'test' if number >= count * 2 // 3 else 'train'
        lines.append(f'{number}.png,{";".join(names) or ";"},{split}')
    (folder / 'list.csv').write_text('\n'.join(lines))
    return Manifest(path=str(folder / 'list.csv'))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run: its folder, its result, its output, and the experiment."""
    folder = tmp_path_factory.mktemp('several')
    changes = {'evaluate_every_epochs': 3.0, 'checkpoint_every_steps': None, 'cache_gigabytes': 0.0}
    trained = experiment(
        data=listed(folder, 240), loss=BinaryCrossEntropy(), epochs=6.0, clip_norm=None, **changes
    )
    with console.console.capture() as captured:
        (result,) = baselines.train_all(trained, folder / 'run').values()
    return folder / 'run', result, captured.get(), trained


def test_a_small_network_learns_the_labels_of_constructed_images(run):
    assert run[1]['test']['count'] == 80
    assert run[1]['test']['mean_average_precision'] > 0.95


def test_the_result_has_the_metrics_of_several_labels(run):
    result = json.loads((run[0] / 'result.json').read_text())
    assert result['multi_label'] is True
    metrics = result['test']
    low, high = metrics['subset_accuracy_interval']
    assert 0 < low < metrics['subset_accuracy'] < high < 1
    assert metrics['subset_accuracy'] < metrics['label_accuracy'] < 1
    assert len(metrics['class_average_precision']) == len(metrics['class_f1']) == 3
    assert 0.9 < metrics['micro_f1'] < 1
    assert 'accuracy' not in metrics


def test_the_checkpoint_of_the_best_mean_average_precision_is_the_result(run):
    lines = (run[0] / 'metrics.jsonl').read_text().splitlines()
    validated = [r for r in map(json.loads, lines) if r['split'] == 'val']
    assert len(validated) == 2
    best = max(validated, key=lambda r: (r['mean_average_precision'], -r['loss'], r['step']))
    assert run[1]['step'] == best['step']
    assert run[1]['val']['mean_average_precision'] == best['mean_average_precision']


def test_the_output_names_the_metrics(run):
    assert '120 train, 40 val, 80 test images of 3 classes, 1.5 labels each.' in run[2]
    assert 'mAP 9' in run[2]
    for column in ('test mAP', 'micro F1', 'all right (95 % interval)'):
        assert column in run[2]
    assert 'accuracy' not in run[2]


def test_the_labels_of_each_image_are_saved_with_the_run(run):
    splits = json.loads((run[0] / 'splits.json').read_text())
    assert splits['class_names'] == list(NAMES)
    labels = dict(zip(splits['test']['ids'], splits['test']['labels'], strict=True))
    assert labels == {number: [bit for bit in range(3) if number >> bit & 1] for number in labels}
    assert len(labels) == 80


def test_every_label_has_its_share_in_the_validation_split(run):
    splits = json.loads((run[0] / 'splits.json').read_text())
    counts = np.bincount([label for one in splits['val']['labels'] for label in one])
    assert (abs(counts - 20) <= 1).all()
    assert sum(not one for one in splits['val']['labels']) == pytest.approx(5, abs=1)


def test_a_trained_network_gives_an_independent_probability_of_each_label(run):
    network = tljax.load(run[0])
    labels = ((), NAMES, ('red',))
    images = np.stack([picture(np.random.default_rng(9), names) for names in labels])
    assert network.multi_label
    np.testing.assert_array_equal(network.predict(images) > 0.5, [[0, 0, 0], [1, 1, 1], [0, 0, 1]])
    assert tljax.load(run[0], num_classes=5).multi_label is False  # its new head is untrained


def test_an_exported_file_records_that_images_have_several_labels(run, tmp_path):
    out, card = export.export(str(run[0]), tmp_path / 'net.safetensors', names='tljax')
    image = picture(np.random.default_rng(9), NAMES)
    ours = tljax.load(run[0]).predict(image)
    again = tljax.load(out, backbone=Tiny())  # type: ignore[arg-type]
    np.testing.assert_allclose(again.predict(image), ours, 1e-5)
    assert '| split | images | mAP | micro F1 |' in card.read_text()


@pytest.mark.parametrize('several', [True, False])
def test_older_records_state_only_whether_images_have_several_labels(several, run, tmp_path):
    network = json.loads((run[0] / 'network.json').read_text())
    assert network.pop('task') == {'class': 'tljax:LabelSets'}
    folder = tmp_path / 'run'
    shutil.copytree(run[0], folder)
    (folder / 'network.json').write_text(json.dumps({**network, 'multi_label': several}))
    wanted = tljax.LabelSets() if several else tljax.Classes()
    assert tljax.load(folder).task == wanted
    flag = {'multi_label': 'true'} if several else {}
    assert own_format.task_of({'tljax': '0.1.0', **flag}) == wanted


def test_a_file_cannot_name_a_task_outside_tljax():
    with pytest.raises(TypeError, match='json:JSONDecoder is no class of tljax'):
        own_format.task_of({'tljax': '0.1.0', 'task': '{"class": "json:JSONDecoder"}'})


def test_the_result_follows_from_the_predictions_to_the_last_digit(run):
    predictions = tljax.TrainedRun(run[0]).predictions
    metrics = final_evaluation.make_metrics(run[3].loss, tljax.LabelSets())
    for name, split in predictions.splits.items():
        assert split.labels.dtype == bool
        assert console.with_interval(metrics(split)) == run[1][name]
        assert split.paths.tolist() == [f'{number}.png' for number in split.ids]


def test_one_temperature_calibrates_the_sigmoids(run):
    calibration, network = run[1]['calibration'], tljax.load(run[0])
    assert (calibration['images'], calibration['unsure']) == (40, True)
    val = tljax.TrainedRun(run[0]).predictions.splits['val']
    images = [np.asarray(Image.open(run[0].parent / path)) for path in val.paths]
    scaled = 1 / (1 + np.exp(-val.logits.astype(float) / calibration['temperature']))
    np.testing.assert_allclose(network.predict(images), scaled, 1e-4, 1e-5)
    loss = [calibration['val'][when]['negative_log_likelihood'] for when in ('before', 'after')]
    assert loss[1] < loss[0]


def evaluated(run, *arguments):
    """The metrics that `tljax evaluate` writes for the run's network."""
    out = run[0].parent / 'metrics.json'
    assert evaluate.main([str(run[0]), *map(str, arguments), f'--out={out}']) == 0
    return json.loads(out.read_text())


def test_the_evaluation_of_its_own_test_images_is_the_result(run):
    metrics = evaluated(run, '--data=config')
    assert metrics['notes'] == ['The data has the same classes as the network, in the same order.']
    for name, value in run[1]['test'].items():
        assert metrics[name] == (pytest.approx(value, rel=1e-6) if 'loss' in name else value), name


def test_a_list_with_fewer_labels_is_evaluated_by_their_names(run, tmp_path):
    """Without `green`, the average precision of `red` and `blue` stays the same."""
    lines = ['path,label']
    for number in range(160, 240):
        names = [name for name in labels_of(number) if name != 'green']
        lines.append(f'{run[0].parent / f"{number}.png"},{";".join(names) or ";"}')
    (tmp_path / 'list.csv').write_text('\n'.join(lines))
    metrics = evaluated(run, tmp_path / 'list.csv')
    blue, _, red = run[1]['test']['class_average_precision']
    assert metrics['class_average_precision'] == [blue, None, red]
    assert metrics['mean_average_precision'] == pytest.approx((blue + red) / 2)


@pytest.mark.slow
def test_a_network_for_several_labels_is_evaluated_on_images_with_one_label(run, tmp_path):
    for name, number in {'blue': 1, 'green': 2, 'red': 4}.items():
        (tmp_path / name).mkdir()
        image = Image.open(run[0].parent / f'{number}.png')
        image.save(tmp_path / name / '0.png')
    metrics = evaluated(run, tmp_path)
    assert (metrics['count'], len(metrics['class_f1'])) == (3, 3)
    assert 'accuracy' not in metrics


@pytest.mark.slow
def test_arrays_with_several_labels_are_evaluated(run, tmp_path):
    images = np.stack([np.asarray(Image.open(run[0].parent / f'{n}.png')) for n in range(160, 240)])
    labels = np.arange(160, 240)[:, None] >> np.arange(3) & 1
    np.savez(tmp_path / 'a.npz', images=images, labels=labels, class_names=NAMES)
    metrics = evaluated(run, tmp_path / 'a.npz')
    assert metrics['class_f1'] == run[1]['test']['class_f1']


def test_images_with_several_labels_are_refused_by_a_network_for_one_label(run, capsys):
    assert evaluate.main(['embedded:glyphs', str(run[0].parent / 'list.csv')]) == 2
    message = capsys.readouterr().err
    assert 'classes' in message or 'several labels' in message


def test_a_confusion_matrix_of_several_labels_is_refused(run, tmp_path, capsys):
    flags = ['--data=config', f'--picture={tmp_path / "matrix.png"}']
    assert evaluate.main([str(run[0]), *flags]) == 2
    assert '--picture' in capsys.readouterr().err


def test_predictions_of_files_with_views_are_those_of_the_network(run):
    network = tljax.load(run[0])
    files = [str(run[0].parent / f'{number}.png') for number in (7, 8, 2)]
    images = [np.asarray(Image.open(file)) for file in files]
    examples = unlabelled.read(files)
    plain = {'calibrated': False}
    predictions = prediction.predict(network, examples, FlipViews(), 8, **plain)
    by_file = {one.path: one.values for one in predictions}
    mirrored = [image[:, ::-1] for image in images]
    both = (network.predict(images, **plain) + network.predict(mirrored, **plain)) / 2
    np.testing.assert_allclose([by_file[file] for file in files], both, 1e-4)
    np.testing.assert_allclose(network.predict(images, FlipViews(), **plain), both, 1e-4)


def memory(labels, **changes):
    """An experiment on black images with the given labels."""
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    fields = {'data': arrays.keep(train=(images, labels)), 'evaluate': ('val',), 'epochs': 1.0}
    return experiment(**{**fields, **changes})


SEVERAL = np.random.default_rng(0).integers(0, 2, (32, 3), np.uint8)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'loss': CrossEntropy()},
            'config.loss is CrossEntropy, which needs one label per image',
        ),
        ({'loss': Focal()}, 'any number of labels, wanted BinaryCrossEntropy'),
        ({'loss': ClassWeighted(loss=BinaryCrossEntropy(), weights=(1.0, 1.0, 2.0))}, 'wanted Bin'),
        (
            {'balance': Balance.SAMPLE},
            'config.balance is sample, which needs one label per image',
        ),
        (
            {
                'balance': Balance.WEIGH,
                'loss': BinaryCrossEntropy(positive_weights=(1.0, 1.0, 1.0)),
            },
            'wanted BinaryCrossEntropy without positive_weights',
        ),
        (
            {'loss': BinaryCrossEntropy(positive_weights=(1.0, 2.0))},
            'config.loss.positive_weights has 2 values, wanted 3, one for each class',
        ),
        (
            {'penalties': (CoTuning(),)},
            'config.penalties[0] is CoTuning, which needs one class for each example',
        ),
        ({'subset': Subset(imbalance=10.0)}, 'imbalance is 10.0; with several labels per image'),
        ({'subset': Subset(label_noise=0.1)}, 'label_noise is 0.1; with several labels per image'),
    ],
)
def test_options_for_one_label_are_refused_before_anything_is_compiled(changes, message):
    with pytest.raises(InputError) as caught:
        jobs.setup(memory(SEVERAL, **{'loss': BinaryCrossEntropy(), **changes}))
    assert message in str(caught.value)


def test_delta_has_weights_of_channels_for_sets_of_labels():
    penalties = {'penalties': (DELTA(examples=32),)}
    (arrays,) = jobs.setup(memory(SEVERAL, loss=BinaryCrossEntropy(), **penalties)).penalty_arrays
    assert arrays.prepared[0]
    for weights in arrays.prepared[0].values():
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


def test_problems_of_loss_and_balance_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        jobs.setup(memory(SEVERAL, balance=Balance.SAMPLE))
    assert [line.split(' is ')[0] for line in str(caught.value).splitlines()] == [
        'config.loss',
        'config.balance',
    ]


def test_images_with_one_label_can_be_trained_with_binary_cross_entropy():
    job = jobs.setup(memory(np.arange(32) % 3, loss=BinaryCrossEntropy()))
    assert job.model.task == tljax.Classes()


def test_class_weights_of_another_number_of_classes_are_refused():
    loss = ClassWeighted(loss=CrossEntropy(), weights=(1.0, 2.0))
    with pytest.raises(
        ConfigError, match=r'loss.weights has 2 values, wanted 3, one for each class'
    ):
        jobs.setup(memory(np.arange(32) % 3, loss=loss))


def test_an_experiment_with_positive_weights_reads_back_from_its_json():
    weighted = memory(SEVERAL, loss=BinaryCrossEntropy(positive_weights=(1.0, 2.0, 3.0)))
    assert config_json.from_json(config_json.to_json(weighted)) == weighted


def test_weighing_gives_present_labels_the_weight_of_absent_ones(monkeypatch):
    class Called(Exception):  # noqa: N818
        pass

    def make_train_step(model, optimizer, labels, loss, *rest, **more):
        raise Called(loss)

    monkeypatch.setattr(compiled_step.step, 'make_train_step', make_train_step)
    labels = np.zeros((40, 3), np.uint8)
    labels[:20, 0] = labels[:10, 1] = labels[:8, 2] = 1
    smooth = BinaryCrossEntropy(label_smoothing=0.1)
    job = jobs.setup(
        memory(labels, loss=smooth, balance=Balance.WEIGH, validation_fraction=0.0, evaluate=())
    )
    with pytest.raises(Called) as caught:
        compiled_step.compile_train_step(job, job.phases[0])
    weights = (1.0, 3.0, 4.0)
    assert caught.value.args == (BinaryCrossEntropy(label_smoothing=0.1, positive_weights=weights),)


def test_a_head_is_solved_for_several_labels():
    """With weight decay, the minimum is below the loss of zero logits."""
    job = jobs.setup(memory(SEVERAL, loss=BinaryCrossEntropy(), strategy=LPFT()))
    first = job.phases[0]
    state = states.create(job.params, job.stats, first.optimizer, first.labels)
    _, solution = solved_head.solve(job, state, first)
    assert solution.gradient_norm < 1e-3
    assert 0 < solution.value < np.log(2)


def test_a_served_run_answers_with_a_set_of_labels(run):
    served = server.read(run[0], 100, 'knn')
    path = run[0].parent / '7.png'
    answer = served.answer(path.read_bytes())
    wanted = tljax.load(run[0]).predict(path)[0]
    assert answer['probabilities'] == pytest.approx(
        dict(zip(NAMES, wanted.tolist(), strict=True)), abs=1e-5
    )
    chosen = [name for name, p in zip(NAMES, wanted, strict=True) if p > 0.5]
    assert answer['headline'] == (', '.join(chosen) or 'no label')
    assert answer['nearest'][0]['path'] == '7.png'
    assert answer['nearest'][0]['label'] == ', '.join(labels_of(7))
    assert answer['ood'] is None
    assert any('one class for each image' in note for note in served.notes)
