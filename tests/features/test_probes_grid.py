"""Every cell of a grid is the run of its settings alone."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tljax.data import pipeline, subsets
from tljax.features.probes import Axes, grid
from tljax.metrics.losses import CrossEntropy
from tljax.models import layers
from tljax.strategies import schedules
from tljax.strategies.optimizers import SGD, AdamW
from tljax.types import Examples, InputError, Preprocessing

COUNT, SIZE, CLASSES = 30, 6, 3
AXES = Axes(
    learning_rates=(0.01, 0.3), weight_decays=(0.0, 0.1), seeds=(1, 4), fractions=(0.4, 1.0)
)
SETTINGS = {'num_classes': CLASSES, 'epochs': 2.5, 'batch_size': 8}


def made(views=1, shape=(SIZE,)):
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT, dtype=np.int32) % CLASSES
    means = rng.normal(size=(CLASSES, 1, *shape))
    values = means[labels] + rng.normal(size=(COUNT, views, *shape))
    return values.astype(np.float32), labels


def whole_grid(optimizer=None, axes=AXES, views=1, **options):
    values, labels = made(views)
    apply, init = grid.linear_head(SIZE, CLASSES, kernel_std=0.1)
    options = {'apply': apply, 'init': init, 'optimizer': optimizer or SGD()} | SETTINGS | options
    return grid.train(values, labels, axes, **options)


def one_run(optimizer, rate, decay, seed, fraction, views=1):
    """The same settings by a plain loop over the batches of the pipeline."""
    values, labels = made(views)
    limits = dict.fromkeys(range(CLASSES), round(fraction * COUNT / CLASSES))
    chosen = subsets.first_of_each(labels, limits, seed)
    shown = Preprocessing(size_px=1, resize_px=1)
    examples = Examples(
        load=lambda i: np.zeros((1, 1, 3), np.uint8),
        labels=labels[chosen],
        ids=chosen,
        class_names=tuple('abc'),
    )
    steps = schedules.steps(SETTINGS['epochs'], len(chosen), SETTINGS['batch_size'])
    batches = pipeline.train_batches(
        examples, shown, batch_size=SETTINGS['batch_size'], steps=steps, seed=seed, threads=0
    )
    multiplier = schedules.Cosine().multiplier(len(chosen) / SETTINGS['batch_size'], steps)
    optimizer = dataclasses.replace(optimizer, learning_rate=rate, weight_decay=decay)
    transform = optimizer.transform(lambda n: rate * multiplier(n), 1.0)
    apply, init = grid.linear_head(SIZE, CLASSES, kernel_std=0.1)
    params, seen = init(seed), 0
    state = transform.init(params)

    @jax.jit
    def update(params, state, x, targets):
        grads = jax.grad(lambda p: CrossEntropy()(apply(p, x), targets).mean())(params)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for batch in batches:
        epochs = (seen + np.arange(len(batch['id']))) // len(chosen)
        x, targets = values[batch['id'], epochs % views], np.eye(CLASSES)[batch['label']]
        params, state = update(params, state, x, targets)
        seen += len(batch['id'])
    return params


# Every setting of every axis occurs twice.
FEW = [(0, 0, 0, 0), (0, 1, 1, 1), (1, 0, 1, 0), (1, 1, 0, 1)]
ALL = list(itertools.product(*map(range, AXES.shape)))


@pytest.mark.parametrize(
    ('optimizer', 'cells'),
    [
        (AdamW(), FEW),
        pytest.param(SGD(nesterov=True), ALL, marks=pytest.mark.slow),
        pytest.param(AdamW(), ALL, marks=pytest.mark.slow),
    ],
    ids=['few cells', 'nesterov', 'adamw'],
)
def test_every_cell_is_its_run_alone(optimizer, cells):
    found = whole_grid(optimizer)
    assert found['linear']['kernel'].shape == (*AXES.shape, SIZE, CLASSES)
    for places in cells:
        parts = (AXES.learning_rates, AXES.weight_decays, AXES.seeds, AXES.fractions)
        cell = [part[place] for part, place in zip(parts, places, strict=True)]
        alone = one_run(optimizer, *cell)
        for name in ('kernel', 'bias'):
            np.testing.assert_allclose(
                found['linear'][name][places], alone['linear'][name], rtol=0, atol=1e-5
            )


@dataclasses.dataclass(slots=True, kw_only=True)
class Restless:
    """An optimizer that goes on where the learning rate is 0."""

    learning_rate: float = 1.0
    weight_decay: float = 0.0

    def transform(self, learning_rate, weight_decay_scale):
        """See `types.Optimizer`."""
        return optax.scale(-0.1)


@pytest.mark.parametrize(
    'optimizer',
    [pytest.param(SGD(), marks=pytest.mark.slow), Restless()],
    ids=['sgd', 'restless'],
)
def test_a_cell_does_not_depend_on_the_others(optimizer):
    found = whole_grid(optimizer)['linear']['kernel']
    axes = Axes(learning_rates=(0.3,), weight_decays=(0.1,), seeds=(4,), fractions=(0.4,))
    alone = whole_grid(optimizer, axes=axes)['linear']['kernel']
    np.testing.assert_allclose(found[1, 1, 1, 0], alone[0, 0, 0, 0], rtol=0, atol=1e-5)


def test_epochs_show_one_view_after_the_other():
    axes = Axes(learning_rates=(0.3,))
    found = whole_grid(axes=axes, views=2)['linear']['kernel'][0, 0, 0, 0]
    wanted = one_run(SGD(), 0.3, 0.0, 0, 1.0, views=2)['linear']['kernel']
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.abs(found - one_run(SGD(), 0.3, 0.0, 0, 1.0)['linear']['kernel']).max() > 0.01


class Suffix(nn.Module):
    """A convolution and a head."""

    @nn.compact
    def __call__(self, x):
        """[B, 4, 4, 2] to logits."""
        x = nn.relu(layers.conv(3, 3, name='conv')(x))
        return nn.Dense(CLASSES, name='linear')(layers.pool(x))


@pytest.mark.slow
@pytest.mark.parametrize('looped', [False, True])
def test_a_whole_suffix_is_trained_like_a_head(looped, monkeypatch):
    values, labels = made(shape=(4, 4, 2))
    module = Suffix()
    options = {
        'apply': lambda params, x: module.apply({'params': params}, x),
        'init': lambda seed: module.init(jax.random.key(seed), values[:1, 0])['params'],
        'optimizer': SGD(),
        **SETTINGS,
    }
    wanted = grid.train(values, labels, Axes(learning_rates=(0.1,), seeds=(4,)), **options)
    if looped:
        monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    axes = Axes(learning_rates=(0.01, 0.1), seeds=(1, 4))
    found = grid.train(values, labels, axes, **options)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1, 0, 1, 0], b[0, 0, 0, 0], rtol=0, atol=1e-5),
        found,
        wanted,
    )


def test_on_cpu_convolutions_are_not_trained_in_a_loop():
    program = grid._Program(lambda p, x: x @ p, SGD(), CrossEntropy())
    assert program._loops_well(jnp.ones((1, 4, 4)), jnp.ones((2, 4)))
    module = Suffix()
    params = module.init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    program = dataclasses.replace(program, apply=module.apply)
    stacked = jax.tree.map(lambda leaf: leaf[None], params)
    assert not program._loops_well(stacked, jnp.ones((2, 4, 4, 2)))


def test_the_accuracy_of_every_cell_is_counted(monkeypatch):
    monkeypatch.setattr(grid, 'EVALUATED_ROWS', 7)
    values, labels = made()
    apply, _ = grid.linear_head(SIZE, CLASSES)
    params = whole_grid()
    found = grid.evaluate(params, apply, values[:, 0], labels)
    assert found.shape == AXES.shape
    for places in itertools.product(*map(range, AXES.shape)):
        cell = jax.tree.map(lambda leaf, places=places: leaf[places], params)
        wanted = (np.asarray(apply(cell, values[:, 0])).argmax(-1) == labels).mean()
        assert found[places] == pytest.approx(wanted)
    assert found.max() > 0.8


def test_half_precision_features_are_trained_on_in_full():
    values, labels = made()
    apply, init = grid.linear_head(SIZE, CLASSES)
    axes = Axes(learning_rates=(0.3,))
    options = {'apply': apply, 'init': init, 'optimizer': SGD(), **SETTINGS}
    half = grid.train(values.astype(np.float16), labels, axes, **options)
    rounded = values.astype(np.float16).astype(np.float32)
    whole = grid.train(rounded, labels, axes, **options)
    np.testing.assert_array_equal(half['linear']['kernel'], whole['linear']['kernel'])


@pytest.mark.parametrize(
    ('axes', 'words'),
    [
        (Axes(learning_rates=()), 'an axis is empty'),
        (Axes(learning_rates=(0.0,)), 'learning_rates are'),
        (Axes(learning_rates=(1.0,), weight_decays=(-1.0,)), 'weight_decays are'),
        (Axes(learning_rates=(1.0,), seeds=(-1,)), 'seeds are'),
        (Axes(learning_rates=(1.0,), fractions=(0.0,)), 'fractions are'),
    ],
)
def test_what_is_no_grid_is_said(axes, words):
    with pytest.raises(InputError, match=words):
        whole_grid(axes=axes)


def test_features_without_views_or_labels_out_of_range_are_said():
    values, labels = made()
    apply, init = grid.linear_head(SIZE, CLASSES)
    options = {'apply': apply, 'init': init, 'optimizer': SGD(), **SETTINGS}
    axes = Axes(learning_rates=(1.0,))
    with pytest.raises(InputError, match=r'wanted \[N, V, ...\]'):
        grid.train(values[:, 0], labels, axes, **options)
    with pytest.raises(InputError, match='labels are 1 to 3, wanted 0 to 2'):
        grid.train(values, labels + 1, axes, **options)
