"""Test-time augmentation: what the views are, and what is made of their logits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tests.small_runs import Blobs, Tiny, experiment
from tljax.augment import HorizontalFlip, QuarterTurn, RandomCrop, VerticalFlip
from tljax.config import config_json, json_form, validation
from tljax.config.experiment import ConfigError
from tljax.data import decode, image_inputs
from tljax.metrics.tasks.classes import Classes
from tljax.models import layers, stages, views
from tljax.models.views import Centre, FlipViews, TenCrop
from tljax.training import evaluation, jobs
from tljax.training.evaluation import Evaluation
from tljax.training.run import train
from tljax.types import Examples, InputError, Preprocessing

SIDE, SIZE = 11, 8  # an odd margin, where rounding counts


def canvases(count=3, channels=3, side=SIDE):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, channels), np.uint8)


def crop(image, top, left):
    return image[top : top + SIZE, left : left + SIZE]


def five(image):
    """Upper left, upper right, lower left, lower right, centre: 1.5 px are rounded to 2."""
    return [crop(image, *place) for place in ((0, 0), (0, 3), (3, 0), (3, 3), (2, 2))]


@pytest.mark.parametrize(
    ('chosen', 'trained', 'words'),
    [
        (Centre(), (), []),
        (FlipViews(), (), ['HorizontalFlip']),
        (FlipViews(), (HorizontalFlip(probability=0.0),), ['HorizontalFlip']),
        (FlipViews(), (HorizontalFlip(),), []),
        (FlipViews(), (VerticalFlip(),), ['HorizontalFlip']),
        (FlipViews(), (VerticalFlip(), QuarterTurn()), []),
        (FlipViews(), (Blobs(),), []),
        (TenCrop(), (HorizontalFlip(),), ['corners']),
        (TenCrop(), (HorizontalFlip(), RandomCrop(size_px=8)), []),
        (TenCrop(vertical_flip=True), (HorizontalFlip(),), ['VerticalFlip', 'corners']),
    ],
)
def test_views_that_training_did_not_show_are_warned_of(chosen, trained, words):
    found = views.unseen(chosen, json_form.encode(trained))
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


@pytest.mark.parametrize('vertical', [False, True])
def test_ten_crops_are_torchvisions_in_its_order(vertical):
    found = TenCrop(vertical_flip=vertical)(jnp.asarray(canvases()), SIZE)
    for shown, image in zip(found, canvases(), strict=True):
        mirrored = np.flip(image, 0 if vertical else 1)
        np.testing.assert_array_equal(shown, [*five(image), *five(mirrored)])


def test_flip_views_are_the_centre_of_the_image_and_of_its_mirror_image():
    found = FlipViews()(jnp.asarray(canvases()), SIZE)
    for shown, image in zip(found, canvases(), strict=True):
        np.testing.assert_array_equal(shown, [crop(image, 2, 2), crop(image[:, ::-1], 2, 2)])


def test_a_symmetric_image_looks_the_same_in_both_flip_views():
    half = canvases()[:, :, :6]
    symmetric = np.concatenate([half, half[:, :, -2::-1]], 2)
    assert symmetric.shape == (3, SIDE, SIDE, 3)
    one, other = FlipViews()(jnp.asarray(symmetric), SIZE).swapaxes(0, 1)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('channels', [1, 3, 5])
@pytest.mark.parametrize('chosen', views.NAMED.values(), ids=views.NAMED)
def test_there_are_as_many_views_as_are_counted(chosen, channels):
    found = chosen(jnp.asarray(canvases(2, channels)), SIZE)
    assert (found.shape, found.dtype) == ((2, chosen.count, SIZE, SIZE, channels), np.uint8)


def test_probabilities_are_averaged_not_logits():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 4, (2, 10, 5)), jnp.float32)
    wanted = jax.nn.softmax(logits).mean(1)
    np.testing.assert_allclose(jax.nn.softmax(views.average(logits, Classes())), wanted, rtol=1e-5)
    of_logits = jax.nn.softmax(logits.mean(1))
    assert np.abs(of_logits - wanted).max() > 0.05


def test_the_average_is_a_log_probability_also_where_a_probability_is_0():
    logits = jnp.asarray([[[0.0, -1000.0], [0.0, -1000.0]]])
    np.testing.assert_allclose(views.average(logits, Classes()), [[0.0, -1000.0]])


def test_the_logits_of_a_single_view_stay_as_they_are():
    logits = jnp.asarray([[[3.0, 7.0]], [[-1.0, 2.0]]])
    np.testing.assert_array_equal(views.average(logits, Classes()), logits[:, 0])


def test_ten_crops_of_a_canvas_that_is_no_larger_are_refused():
    with pytest.raises(InputError, match='8 px from an image of 8 px.*FlipViews'):
        views.check(TenCrop(), Preprocessing(size_px=8, resize_px=8))
    views.check(FlipViews(), Preprocessing(size_px=8, resize_px=8))


@dataclasses.dataclass(slots=True, kw_only=True)
class Whole:
    """Views that are not cut to size."""

    count: int = 1

    def __call__(self, canvases, size_px):
        """See `types.Views`."""
        return canvases[:, None]


def test_views_of_another_size_are_refused():
    with pytest.raises(InputError, match=r'\[1, 1, 11, 11, 3\], wanted \[1, 1, 8, 8, 3\]'):
        views.check(Whole(), Preprocessing(size_px=8, resize_px=11))


# --- in a network ---


@pytest.fixture(scope='module')
def network():
    return tljax.load('embedded:glyphs', preprocessing=Preprocessing(size_px=16, resize_px=19))


def pictures():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 60), (19, 19), (50, 33))]


@pytest.mark.parametrize(
    'chosen', [pytest.param(FlipViews(), marks=pytest.mark.slow), TenCrop()], ids=['flip', 'ten']
)
def test_predictions_are_the_mean_over_the_views(chosen, network):
    found = network.predict(pictures(), views=chosen)
    for row, image in zip(found, pictures(), strict=True):
        (canvas,) = image_inputs.decoded(image, network.preprocessing)
        shown = np.asarray(chosen(jnp.asarray(canvas[None]), 16)[0])
        each = jax.nn.softmax(network.logits(stages.normalise(network.preprocessing, shown)))
        np.testing.assert_allclose(row, each.mean(0), atol=1e-6)


def test_many_views_of_many_images_are_predicted_in_parts(network, monkeypatch):
    wanted = network.predict(pictures(), views=TenCrop())
    monkeypatch.setattr('tljax.weights.network.BATCH_SIZE', 20)
    np.testing.assert_allclose(network.predict(pictures(), views=TenCrop()), wanted, atol=1e-6)


def test_a_network_refuses_views_that_do_not_fit_it():
    with pytest.raises(InputError, match='wanted a larger resize_px'):
        tljax.load('embedded:glyphs', size_px=16).predict(pictures(), views=TenCrop())


# --- in an experiment ---

LARGER = Preprocessing(size_px=8, resize_px=10)


def evaluated(changes, split='test', *, final=True):
    """The metrics of a network that has not been trained, and its job."""
    job = jobs.setup(experiment(preprocessing=LARGER, **changes))
    return evaluation.make_evaluate(job)(job.params, job.stats, split, final=final), job


def by_hand(job, chosen, examples: Examples):
    """Loss and accuracy from the mean of each image's probabilities in NumPy."""
    images = np.stack(
        [decode.resize_square(examples.load(i), LARGER) for i in range(len(examples))]
    )
    shown = np.asarray(chosen(jnp.asarray(images), 8))
    x = stages.normalise(LARGER, shown.reshape(-1, 8, 8, 3))
    logits, _ = jax.jit(lambda x: stages.run(job.model, job.params, job.stats, x))(x)
    exponentials = np.exp(np.asarray(logits, np.float64).reshape(*shown.shape[:2], -1))
    mean = (exponentials / exponentials.sum(-1, keepdims=True)).mean(1)
    losses = -np.log(mean[np.arange(len(mean)), examples.labels])
    return losses.mean(), (mean.argmax(1) == examples.labels).mean()


@dataclasses.dataclass(slots=True, kw_only=True)
class Random(Tiny):
    """Its head is not zeros, so that views differ."""

    def head(self, num_classes):
        """See `types.Backbone`."""
        return layers.ClassifierHead(num_classes, kernel_std=1.0)


def test_the_test_images_are_seen_by_the_views_of_the_experiment():
    found, job = evaluated({'test_views': TenCrop(), 'backbone': Random()})
    loss, accuracy = by_hand(job, TenCrop(), job.splits['test'])
    assert found['count'] == 21
    assert found['loss'] == pytest.approx(loss, rel=1e-5)
    assert found['accuracy'] == pytest.approx(accuracy)
    assert found['loss'] != pytest.approx(by_hand(job, Centre(), job.splits['test'])[0], rel=1e-4)


@pytest.mark.parametrize(('split', 'final'), [('val', True), ('test', False)])
def test_only_the_last_look_at_the_test_images_is_by_several_views(split, final):
    found, _ = evaluated({'test_views': FlipViews(), 'backbone': Random()}, split, final=final)
    wanted, _ = evaluated({'backbone': Random()}, split, final=final)
    assert found == wanted


@pytest.mark.slow
def test_views_change_the_result_of_a_run_and_not_its_training(tmp_path):
    usual = {'preprocessing': LARGER, 'epochs': 1.0}
    plain = train(experiment(**usual), tmp_path / 'plain')
    tested = train(experiment(**usual, test_views=TenCrop()), tmp_path / 'tested')
    assert tested['val'] == plain['val']
    assert tested['test']['loss'] != plain['test']['loss']
    assert tested['test']['count'] == plain['test']['count']


@pytest.mark.parametrize(
    ('batch_size', 'chosen', 'rows'),
    [(32, Centre(), 32), (30, Centre(), 28), (100, TenCrop(), 8), (8, TenCrop(), 4)],
)
def test_with_several_views_as_many_fewer_examples_are_on_the_devices(batch_size, chosen, rows):
    job = jobs.setup(experiment())
    options = {'model': job.model, 'loss': job.experiment.loss, 'mesh': job.mesh}
    assert job.mesh.size == 4
    assert Evaluation(**options, batch_size=batch_size, views=chosen).rows == rows


def test_an_experiment_comes_back_from_json_with_its_views():
    chosen = experiment(test_views=TenCrop(vertical_flip=True))
    assert config_json.from_json(config_json.to_json(chosen)) == chosen


def test_views_that_do_not_fit_fail_before_training():
    with pytest.raises(InputError, match='wanted a larger resize_px'):
        jobs.setup(experiment(test_views=TenCrop()))


def test_what_is_no_views_is_refused():
    with pytest.raises(ConfigError, match=r'config\.test_views is Blobs.*wanted Views'):
        validation.validate(experiment(test_views=Blobs()))
