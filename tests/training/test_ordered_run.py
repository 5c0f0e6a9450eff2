"""Ordered classes: training, records, evaluation, predictions, solving and refusals."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import tljax
from tests.small_runs import Tiny, experiment
from tljax.advise import advice
from tljax.augment.corruptions import suite
from tljax.commands import compare, evaluate
from tljax.data import arrays
from tljax.records import console
from tljax.strategies.strategies import LPFT
from tljax.training import baselines, final_evaluation, jobs, solved_head
from tljax.training.report import page
from tljax.training.robustness import corrupted, shifted, subject, unfamiliar
from tljax.training.serving import server
from tljax.types import Balance, InputError
from tljax.weights import export

GRADES = ('low', 'middle', 'upper', 'high')


def source():
    """Images whose brightness is a grade; their classes are numbered in another order."""
    rng, order = np.random.default_rng(0), ('high', 'low', 'upper', 'middle')
    grades = np.arange(160) % 4
    images = rng.normal(40 + 40 * grades[:, None, None, None], 30, (160, 8, 8, 3))
    images = images.clip(0, 255).astype(np.uint8)
    labels = np.array([order.index(GRADES[grade]) for grade in grades])
    split = (images[:100], labels[:100]), (images[100:], labels[100:])
    kept = arrays.keep(train=split[0], test=split[1], class_names=order)
    return tljax.OrderedClasses(data=kept, classes=GRADES)


def graded(**changes):
    fields = {'evaluate_every_epochs': 3.0, 'checkpoint_every_steps': None, 'epochs': 6.0}
    fields |= {'loss': tljax.CORN(), 'augmentations': (), 'cache_gigabytes': 0.0}
    return experiment(**{'data': source(), **fields, **changes})


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run: its folder, its result, and its output."""
    folder = tmp_path_factory.mktemp('ordered') / 'run'
    with console.console.capture() as captured:
        (result,) = baselines.train_all(graded(), folder).values()
    return folder, result, captured.get()


def test_the_classes_are_in_the_stated_order():
    train = source().splits()['train']
    assert train.class_names == GRADES
    brightness = [train.load(i).mean() for i in range(len(train))]
    means = [np.mean(np.array(brightness)[train.labels == grade]) for grade in range(4)]
    assert means == sorted(means)


def test_a_small_network_learns_the_grades(run):
    metrics = run[1]['test']
    assert metrics['kappa'] > 0.6
    for name in ('kappa', 'accuracy', 'mae'):
        low, high = metrics[f'{name}_interval']
        assert low <= metrics[name] <= high
    assert 'images of 4 ordered classes' in run[2]
    assert 'weighted kappa' in run[2]


def test_the_checkpoint_of_the_best_kappa_is_the_result(run):
    lines = (run[0] / 'metrics.jsonl').read_text().splitlines()
    validated = [r for r in map(json.loads, lines) if r['split'] == 'val']
    best = max(validated, key=lambda r: (r['kappa'], -r['loss'], r['step']))
    assert run[1]['step'] == best['step']


def test_predictions_are_probabilities_and_survive_an_export(run, tmp_path):
    network, image = tljax.load(run[0]), np.full((8, 8, 3), 50, np.uint8)
    p = network.predict(image)
    assert p.shape == (1, 4)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    out, _ = export.export(str(run[0]), tmp_path / 'net.safetensors', names='tljax')
    again = tljax.load(str(out), backbone=Tiny())
    assert again.task == tljax.Ordered()
    np.testing.assert_allclose(again.predict(image), p, rtol=1e-5)


def test_the_result_follows_from_the_predictions(run):
    split = tljax.TrainedRun(run[0]).predictions.splits['test']
    metrics = final_evaluation.make_metrics(tljax.CORN(), split.task)(split)
    assert metrics['kappa'] == run[1]['test']['kappa']
    hits = split.task.right(split.logits, split.labels)
    assert hits.mean() == pytest.approx(metrics['accuracy'])


def test_runs_are_compared_by_their_weighted_kappa(run, tmp_path, capsys):
    (other,) = baselines.train_all(graded(epochs=1.0), tmp_path / 'short').values()
    comparison = tljax.compare([run[0], tmp_path / 'short'])
    assert comparison.measure == 'weighted kappa'
    kappas = [result['test']['kappa'] for result in (run[1], other)]
    assert [row.accuracies[0] for row in comparison.rows] == pytest.approx(kappas)
    pair = comparison.rows[1].pair
    assert pair.difference == pytest.approx(kappas[1] - kappas[0])
    assert pair.low <= pair.difference <= pair.high
    low, high = run[1]['test']['kappa_interval']
    assert comparison.rows[0].interval[1:3] == pytest.approx((low, high))
    assert compare.main([str(run[0]), str(tmp_path / 'short')]) == 0
    assert 'weighted kappa, %' in capsys.readouterr().out


def test_evaluate_matches_the_classes_by_name(run, tmp_path, capsys):
    data = source().data.splits()['test']
    images = np.stack([data.load(i) for i in range(len(data))])
    np.savez(tmp_path / 'test.npz', images=images, labels=data.labels, class_names=data.class_names)
    evaluate.main([str(run[0]), str(tmp_path / 'test.npz'), f'--out={tmp_path}/o.json'])
    assert json.loads((tmp_path / 'o.json').read_text())['kappa'] == run[1]['test']['kappa']
    assert 'weighted kappa' in capsys.readouterr().out


def test_the_page_leaves_out_what_needs_class_logits(run):
    page.write(run[0])
    text = (run[0] / 'report.html').read_text()
    assert 'Confusion matrix' in text
    assert 'weighted kappa' in text
    for words in ('could not be made', 'Reliability', 'Grad-CAM'):
        assert words not in text


def test_the_head_is_solved_and_classes_can_be_balanced():
    job = jobs.setup(graded(strategy=LPFT(), balance=Balance.WEIGH))
    state = jobs.first_state(job)
    _, solution = solved_head.solve(job, state, job.phases[0])
    assert solution.gradient_norm < 1e-3
    assert jobs.training_loss(job).ordinal


def test_delta_weighs_channels_by_their_value_for_the_grades():
    job = jobs.setup(graded(penalties=(tljax.DELTA(examples=32),)))
    (arrays,) = job.penalty_arrays
    for weights in arrays.prepared[0].values():
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
        assert np.ptp(weights) > 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'loss': tljax.CrossEntropy()}, 'CrossEntropy, which does not fit ordered classes'),
        (
            {'data': tljax.OrderedClasses(data=tljax.Digits(), classes=('0', '1'))},
            'config.data.classes is',
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        jobs.read_splits(graded(**changes))


@pytest.mark.parametrize('kind', ['ordered', 'numbers'])
def test_samples_of_a_source_are_refused_in_one_line(kind):
    data = tljax.RotatedDigits(groups=4 if kind == 'ordered' else None)
    target = data.splits()['train']
    labelled, pool = (
        one(data=tljax.Digits()) for one in (tljax.LabelledSource, tljax.UnlabelledPool)
    )
    for source in (labelled, pool):
        with pytest.raises(InputError, match='numbers or ordered classes'):
            source.examples(target, 0)
    with pytest.raises(InputError, match='numbers or ordered classes'):
        tljax.LabelledSource(data=data).examples(tljax.Digits().splits()['train'], 0)


def test_grades_of_corrupted_and_shifted_images_are_measured(run):
    measured = subject.read(run[0])
    examples = measured.data('test').examples
    clean, noisy = corrupted.hits(measured, examples, suite.CORRUPTIONS[:1], [5], 0)
    assert clean.mean() == pytest.approx(run[1]['test']['accuracy'])
    assert noisy.mean() < clean.mean()
    found = shifted.measure(measured, measured.data('test'))
    assert found['accuracy'] == pytest.approx(run[1]['test']['accuracy'])
    assert found['gap']['difference'] == 0
    assert 0 <= found['calibration']['before']['ece'] <= 1


def test_scores_of_unfamiliar_images_refuse_grades_in_one_line(run):
    with pytest.raises(InputError, match='scores need logits of classes'):
        unfamiliar.detector(subject.read(run[0]), 'energy')


@pytest.mark.slow
def test_a_strategy_is_advised_for_grades():
    found = advice.find(graded(), budget_seconds=40)
    assert max(one.accuracy for one in found.predictions.values()) > 0.4  # 0.25 by chance


def test_classes_without_an_order_refuse_the_loss():
    with pytest.raises(InputError, match='CORN, which needs ordered classes'):
        jobs.read_splits(experiment(loss=tljax.CORN()))


def test_a_served_run_answers_with_the_median_class(run):
    served = server.read(run[0], 0, 'energy')
    pixels = np.full((12, 12, 3), 100, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'PNG')
    answer = served.answer(buffer.getvalue())
    wanted = tljax.load(run[0]).predict(pixels)[0]
    assert list(answer['probabilities'].values()) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert answer['headline'] == GRADES[int(np.searchsorted(np.cumsum(wanted), 0.5))]
    assert len(answer['pictures']) == 1
    assert answer['ood'] is None
    assert 'ordered' in served.notes[0]
