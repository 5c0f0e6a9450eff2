"""Networks interpolated and averaged, and their statistics taken anew, against NumPy."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.small_runs import Tiny, TinyStage, assert_identical
from tljax.metrics.losses import CrossEntropy
from tljax.models import averaging, batch_norm_statistics, layers, stages
from tljax.models.averaging import NetworkValues
from tljax.training import step
from tljax.types import InputError


def network(seed):
    """A model of three classes at 8 px and random values, with a head that is not 0."""
    model = stages.build(Tiny(), 3)
    params, stats = stages.init(model, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), params)
    return model, NetworkValues(params, jax.tree.map(np.asarray, stats))


def batches(images, size, padded=0):
    """Batches of images, each with some rows of padding behind it."""
    found = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        rows = np.concatenate([part, np.full((padded, *part.shape[1:]), 255, np.uint8)])
        found.append(
            {
                'image': rows,
                'label': np.arange(len(rows), dtype=np.int32) % 3,
                'id': np.arange(len(rows)),
                'mask': np.arange(len(rows)) < len(part),
            }
        )
    return found


IMAGES = np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3), np.uint8)


@pytest.fixture(scope='module')
def pair():
    return network(0)[1], network(1)[1]


@pytest.mark.parametrize(('alpha', 'which'), [(0.0, 0), (1.0, 1)])
def test_the_ends_of_an_interpolation_are_there_bit_by_bit(alpha, which, pair):
    odd = np.array([-0.0, np.inf, 1e-45, 3.0], np.float32)
    ends = [
        {'v': values, 'odd': odd[order]}
        for values, order in zip(pair, ([0, 1, 2, 3], [3, 2, 0, 1]), strict=True)
    ]
    assert_identical(jax.jit(averaging.interpolate)(*ends, alpha), ends[which])


def test_between_the_ends_lies_the_weighted_mean(pair):
    found = averaging.interpolate(*pair, 0.25)
    wanted = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, *pair)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, wanted)


def test_a_curve_is_what_evaluation_one_by_one_gives(pair):
    model, _ = network(0)
    evaluate = step.make_eval_step(model, CrossEntropy())
    (batch,) = batches(IMAGES, 24)
    alphas = [0.0, 0.3, 0.5, 1.0]

    @jax.jit
    def sums(values):
        return evaluate(values.params, values.stats, batch)[0]

    found = jax.jit(lambda a, b: averaging.curve(sums, a, b, alphas))(*pair)
    for index, alpha in enumerate(alphas):
        wanted = sums(averaging.interpolate(*pair, alpha))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name][index], value, rtol=1e-5, err_msg=name)
    assert len(set(np.asarray(found['loss']).tolist())) == len(alphas)


@pytest.mark.parametrize('count', [2, 3, 7])
def test_a_soup_of_identical_networks_is_the_network(count, pair):
    assert_identical(averaging.average([pair[0]] * count), pair[0])


def test_a_soup_is_the_mean(pair):
    found = averaging.average([*pair, pair[1]])
    wanted = jax.tree.map(lambda a, b: (np.float64(a) + 2 * np.float64(b)) / 3, *pair)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, wanted)


def point(*values):
    """A network of one leaf."""
    return NetworkValues({'head': np.array(values, np.float32)}, {})


def nearness(values):
    """A score: minus the distance from the point (1, 1)."""
    return -float(np.linalg.norm(values.params['head'] - 1))


def test_a_greedy_soup_takes_in_what_makes_it_no_worse():
    soup = averaging.greedy([point(5, 5), point(1, 0), point(1, 2), point(9, 9)], nearness)
    assert soup.members == (1, 2)
    np.testing.assert_array_equal(soup.values.params['head'], [1, 1])
    assert soup.score == 0


@pytest.mark.parametrize('seed', range(8))
def test_a_greedy_soup_is_never_worse_than_its_best_network(seed):
    rng = np.random.default_rng(seed)
    networks = [point(*rng.normal(1, 1, 2)) for _ in range(5)]
    soup = averaging.greedy(networks, nearness, lambda values, members: point(*rng.normal(1, 1, 2)))
    assert soup.score == nearness(soup.values)
    assert soup.score >= max(map(nearness, networks))


def test_what_is_scored_is_what_was_finished():
    """A mean that is made worse by what follows it is not taken in."""
    networks = [point(1, 0), point(1, 2)]
    soup = averaging.greedy(networks, nearness, lambda values, members: point(7, 7))
    assert soup.members == (0,)
    assert soup.values is networks[0]


def by_hand(model, values):
    """Each layer's statistics in NumPy's float64, all images at once, from the bottom up."""
    x = np.asarray(stages.normalise(model.preprocessing, jnp.asarray(IMAGES)))
    found = {}
    for name in ('low', 'high'):
        own = values.params[name]
        width = own['conv']['kernel'].shape[-1]
        conv = layers.conv(width, 3, stride=2)
        x = np.asarray(conv.apply({'params': own['conv']}, jnp.asarray(x, jnp.float32)), np.float64)
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        found[name] = {'norm': {'mean': mean, 'var': x.var((0, 1, 2), ddof=1)}}
        unbiased = found[name]['norm']['var']
        x = (x - mean) / np.sqrt(unbiased + 1e-5) * own['norm']['scale'] + own['norm']['bias']
        x = np.maximum(x, 0)
        assert not np.allclose(var, unbiased, rtol=1e-5)
    return found


@pytest.mark.parametrize(('size', 'padded'), [(24, 0), (8, 0), (20, 4)])
def test_statistics_taken_anew_are_those_of_numpy_on_all_images(size, padded):
    model, values = network(3)
    found = batch_norm_statistics.reestimated(
        model, values, lambda: batches(IMAGES, size, padded), tolerance=0.0
    )
    wanted = by_hand(model, values)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), found.stats, wanted
    )
    assert_identical(found.params, values.params)


def test_what_they_were_before_does_not_count():
    """One pass in which batches are normalised by themselves, and it ends where it would."""
    model, values = network(3)
    far = jax.tree.map(lambda x: np.full_like(x, np.nan), values.stats)
    found, usual = (
        batch_norm_statistics.reestimated(
            model, NetworkValues(values.params, stats), lambda: batches(IMAGES, 24), tolerance=0.0
        )
        for stats in (far, values.stats)
    )
    assert_identical(found.stats, usual.stats)


def test_statistics_of_other_stages_stay():
    model, values = network(3)
    found = batch_norm_statistics.reestimated(
        model, values, lambda: batches(IMAGES, 24), names=['high'], tolerance=0.0
    )
    assert_identical(found.stats['low'], values.stats['low'])
    assert not np.allclose(found.stats['high']['norm']['mean'], 0)


def test_a_deep_network_settles_within_the_tolerance():
    """Statistics that are computed from the new ones differ by no more than the tolerance."""
    model, _ = network(0)
    middle = {f'middle{i}': TinyStage(4) for i in (1, 2)}
    parts = {
        'low': TinyStage(4),
        **middle,
        'high': TinyStage(8),
        'head': model.stages['head'],
    }
    model = dataclasses.replace(model, stages=parts)
    values = NetworkValues(*stages.init(model, jax.random.key(0)))
    passes = []

    def images():
        passes.append(1)
        return batches(IMAGES, 24)

    found = batch_norm_statistics.reestimated(model, values, images, tolerance=1e-3)
    assert 2 <= len(passes) <= 5
    again = batch_norm_statistics.reestimated(model, found, images, tolerance=np.inf)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-3),
        found.stats,
        again.stats,
    )


def test_a_network_without_statistics_stays_as_it_is(pair):
    model, _ = network(0)
    values = NetworkValues(pair[0].params, {})
    assert batch_norm_statistics.reestimated(model, values, lambda: []) is values


def test_no_images_are_refused():
    model, values = network(0)
    with pytest.raises(InputError, match='no images'):
        batch_norm_statistics.reestimated(model, values, lambda: [])


class OtherNorm(nn.Module):
    """Flax's own layer, whose inputs are not seen."""

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """[B, H, W, C] to the same."""
        return nn.BatchNorm(name='norm')(x, use_running_average=use_running_average)


def test_statistics_of_another_kind_of_layer_are_refused_by_name():
    model, _ = network(0)
    model = dataclasses.replace(model, stages={'low': OtherNorm(), 'head': model.stages['head']})
    values = NetworkValues(*stages.init(model, jax.random.key(0)))
    with pytest.raises(InputError, match='- low/norm/mean'):
        batch_norm_statistics.reestimated(model, values, lambda: batches(IMAGES, 24))
