"""A training step changes the trained leaves only; an evaluation step does not count padding."""

import dataclasses
import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tljax import devices, tree
from tljax.augment import Copy, HorizontalFlip
from tljax.metrics import totals
from tljax.metrics.losses import CrossEntropy
from tljax.models import layers, stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.strategies import partition
from tljax.strategies.cut import Compute
from tljax.strategies.optimizers import SGD, AdamW
from tljax.strategies.strategies import FreezeBelow
from tljax.training import states
from tljax.training.step import TrainStep, make_eval_step, make_train_step
from tljax.types import InputError, Norm, Preprocessing, Rule

STAGES = ('low', 'mid', 'top', 'head')
EVERYTHING = (Rule(pattern='**'),)
SMALL = Preprocessing(size_px=8, resize_px=8)


class Part(nn.Module):
    """A convolution with stride 2, BatchNorm, ReLU and dropout."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """[B, H, W, C] to [B, H / 2, W / 2, width]."""
        x = layers.conv(self.width, 3, stride=2, name='conv')(x)
        x = nn.relu(layers.BatchNorm(name='norm')(x, use_running_average=use_running_average))
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)


@dataclasses.dataclass(kw_only=True)
class Training:
    """A step, its first state and the labels of its leaves."""

    step: TrainStep
    start: states.TrainState
    labels: dict

    @functools.cached_property
    def compiled(self):
        """The step, jitted."""
        return jit(self.step)


# Compilation takes most of the time of these tests.
jit = functools.partial(
    jax.jit,
    compiler_options={
        'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True
    },
)  # fmt: skip


def network(low_dropout=0.0):
    """Three stages of 4, 6 and 8 channels and the head; no value is zero."""
    parts: dict[str, nn.Module] = {
        'low': Part(4, low_dropout),
        'mid': Part(6, 0.0),
        'top': Part(8, 0.0),
        'head': layers.ClassifierHead(3),
    }
    model = stages.Model(stages=parts, preprocessing=SMALL, num_classes=3)
    rng = np.random.default_rng(0)
    params, stats = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32), stages.shapes(model)
    )
    return model, params, stats


TRAININGS: dict[str, Training] = {}


def training(rules, **options):
    """A step of the small network; equal arguments give the same object, compiled once.

    Args:
        rules: the rules of a phase.
        options: see `make_training`.
    """
    key = repr((rules, sorted(options.items())))
    if key not in TRAININGS:
        TRAININGS[key] = make_training(rules, **options)
    return TRAININGS[key]


def make_training(
    rules,
    *,
    optimizer=None,
    clip_norm=None,
    low_dropout=0.0,
    augmentations=(),
    norm=Norm.AUTO,
    ema_decay=None,
    stochastic_norm=None,
    **compute,
):
    """A step of the small network; `compute` has the fields of `Compute`."""
    model, params, stats = network(low_dropout)
    labels = partition.assign(params, rules, norm)
    optimizer = optimizer or SGD()
    transform = partition.make(
        optimizer, rules, labels, lambda _: optimizer.learning_rate, clip_norm=clip_norm
    )
    step = make_train_step(
        model,
        transform,
        labels,
        CrossEntropy(),
        augmentations,
        norm=norm,
        compute=Compute(**compute),
        ema_decay=ema_decay,
        stochastic_norm=stochastic_norm,
    )
    averaged = None if ema_decay is None else partition.trained(labels)
    start = states.create(params, stats, transform, labels, averaged)
    return Training(step=step, start=start, labels=labels)


def make_batch(seed=0) -> Any:
    """8 images of noise."""
    rng = np.random.default_rng(seed)
    return {
        'input': rng.integers(0, 256, (8, 8, 8, 3), np.uint8),
        'label': rng.integers(0, 3, 8, np.int32),
        'id': np.arange(8, dtype=np.uint32) + 40,
        'mask': np.ones(8, bool),
    }


def trained_for(count, one, key=0, batch=make_batch):
    """The state after some steps, and the sums of the last one."""
    current, sums = one.start, {}
    for number in range(count):
        current, sums = one.compiled(jax.random.key(key), current, batch(number))
    return current, sums


def equal(one, other):
    """Whether two trees are the same, bit by bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def assert_close(one, other, **tolerance):
    """Two trees are equal up to rounding."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def below(stage):
    """The rules that freeze the stages below a stage."""
    return FreezeBelow(stage=stage).phases({name: {} for name in STAGES})[0].rules


DECAYING = {'optimizer': AdamW(learning_rate=0.01, weight_decay=0.1), 'clip_norm': 0.1}


STAGE_CASES = [s if s == 'mid' else pytest.param(s, marks=pytest.mark.slow) for s in STAGES]


@pytest.mark.parametrize('stage', STAGE_CASES)
def test_frozen_stages_stay_bit_identical_under_decay_and_clipping(stage):
    one = training(below(stage), **DECAYING)
    end, _ = trained_for(3, one)
    for index, name in enumerate(STAGES):
        frozen = index < STAGES.index(stage)
        assert equal(end.params[name], one.start.params[name]) == frozen
        if name in end.stats:
            assert equal(end.stats[name], one.start.stats[name]) == frozen


def test_every_leaf_of_a_trained_stage_changes():
    one = training(below('mid'), **DECAYING)
    end, _ = trained_for(1, one)
    for name in STAGES[1:]:
        before, after = (tree.flatten(s.params[name]) for s in (one.start, end))
        assert not [path for path in before if np.array_equal(before[path], after[path])]
        if name in end.stats:
            before, after = (tree.flatten(s.stats[name]) for s in (one.start, end))
            assert not [path for path in before if np.array_equal(before[path], after[path])]


# `mid` is frozen, and of `top` only the biases train.
PARTLY = (
    Rule(pattern='mid', train=False),
    Rule(pattern='top/**/bias'),
    Rule(pattern='top', train=False),
    *EVERYTHING,
)


def test_a_stage_frozen_between_trained_ones_keeps_its_values_and_statistics():
    one = training(PARTLY, **DECAYING)
    end, _ = trained_for(3, one)
    assert equal(end.params['mid'], one.start.params['mid'])
    assert equal(end.stats['mid'], one.start.stats['mid'])
    for name in ('low', 'top'):
        assert not equal(end.params[name], one.start.params[name])
        assert not equal(end.stats[name], one.start.stats[name])


def test_the_frozen_leaves_of_a_partly_trained_stage_stay_bit_identical():
    one = training(PARTLY, **DECAYING)
    end, _ = trained_for(3, one)
    before, after = (tree.flatten(state.params['top']) for state in (one.start, end))
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {'norm/bias'}


def test_nothing_to_train_is_refused():
    with pytest.raises(InputError, match='nothing to train'):
        training((Rule(pattern='**', train=False),))


@pytest.mark.parametrize('stage', STAGE_CASES)
@pytest.mark.parametrize(('optimizer', 'copies'), [(AdamW(), 2), (SGD(), 1), (SGD(momentum=0), 0)])
def test_the_optimizer_has_state_for_trained_leaves_only(optimizer, copies, stage):
    one = training(below(stage), optimizer=optimizer, clip_norm=1.0)
    trained = [one.start.params[name] for name in STAGES[STAGES.index(stage) :]]
    expected = sorted(leaf.shape for leaf in jax.tree.leaves(trained)) * copies
    shapes = [leaf.shape for leaf in jax.tree.leaves(one.start.opt) if leaf.ndim]
    assert sorted(shapes) == sorted(expected)


def batch_shapes(rows, size_px):
    """The shapes of a batch."""
    return {
        'input': jax.ShapeDtypeStruct((rows, size_px, size_px, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((rows,), jnp.int32),
        'id': jax.ShapeDtypeStruct((rows,), jnp.uint32),
        'mask': jax.ShapeDtypeStruct((rows,), jnp.bool_),
    }


def lowered_step(model, stage, rows, **compute):
    """A step in which a stage and those above it train, lowered; nothing is compiled or run."""
    params, stats = stages.shapes(model)
    rules = FreezeBelow(stage=stage).phases(stages.ordered(model, params))[0].rules
    labels = partition.assign(params, rules)
    transform = partition.make(SGD(), rules, labels, lambda _: 0.1)
    start = jax.eval_shape(lambda p, s: states.create(p, s, transform, labels), params, stats)
    step = make_train_step(model, transform, labels, CrossEntropy(), compute=Compute(**compute))
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = batch_shapes(rows, model.preprocessing.size_px)
    return jit(step, donate_argnums=1).lower(key, start, batch)


def small_model(backbone, size_px):
    """A network for ten classes and images of a size."""
    preprocessing = Preprocessing(size_px=size_px, resize_px=size_px)
    return stages.build(backbone, 10, preprocessing=preprocessing)


def operations(program):
    """The floating-point operations of a lowered or compiled program."""
    return (program.cost_analysis() or {})['flops']


RESNET8 = small_model(ResNetSmall(depth=8), 16)


@functools.cache
def resnet8_operations(stage):
    """The operations of a step of a ResNet-8 on 4 images."""
    return operations(lowered_step(RESNET8, stage, 4))


@pytest.mark.parametrize(
    'cuts',
    [
        ('stem', 'stage3', 'head'),
        pytest.param(('stem', 'stage1', 'stage2', 'stage3', 'head'), marks=pytest.mark.slow),
    ],
    ids=len,
)
def test_the_operations_of_a_step_fall_with_the_cut(cuts):
    costs = [resnet8_operations(stage) for stage in cuts]
    assert all(lower < higher for higher, lower in itertools.pairwise(costs))
    assert costs[-1] < costs[0] / 2.5  # forward alone, of forward and twice as much backward


def test_training_the_head_alone_costs_hardly_more_than_evaluating():
    evaluate = make_eval_step(RESNET8, CrossEntropy())
    lowered = jit(evaluate).lower(*stages.shapes(RESNET8), batch_shapes(4, 16))
    assert resnet8_operations('head') < 1.02 * operations(lowered)


def plain_loss(params, stats, batch, trained):
    """The mean loss of the small network in training, without tljax's code."""
    x = (batch['input'] / 255.0 - np.array(SMALL.mean)) / np.array(SMALL.std)
    x = x.astype(np.float32)
    for name in STAGES[:-1]:
        layer = params[name]
        x = jax.lax.conv_general_dilated(
            x, layer['conv']['kernel'], (2, 2), ((1, 1), (1, 1)),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        )  # fmt: skip
        mean, var = stats[name]['norm']['mean'], stats[name]['norm']['var']
        if name in trained:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - mean) / jnp.sqrt(var + 1e-5)
        x = jax.nn.relu(x * layer['norm']['scale'] + layer['norm']['bias'])
    head = params['head']['linear']
    logits = x.mean((1, 2)) @ head['kernel'] + head['bias']
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), batch['label'][:, None], 1)
    return -(log_likelihood[:, 0] * batch['mask']).sum() / batch['mask'].sum()


@pytest.mark.parametrize(
    ('frozen', 'masked'),
    [
        (('mid',), 3),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [((), 0), ((), 3), (('low',), 0), (('mid',), 0)]
        ),
    ],
)
def test_a_step_follows_the_gradient_of_the_mean_loss(frozen, masked):
    rules = (*(Rule(pattern=name, train=False) for name in frozen), *EVERYTHING)
    one = training(rules, optimizer=SGD(learning_rate=1.0, momentum=0))
    batch, trained = make_batch(), set(STAGES) - set(frozen)
    batch['mask'][8 - masked :] = False
    end, sums = one.compiled(jax.random.key(0), one.start, batch)
    with jax.numpy_rank_promotion('allow'):
        gradient = jit(jax.value_and_grad(functools.partial(plain_loss, trained=trained)))
        loss, grads = gradient(one.start.params, one.start.stats, batch)
    np.testing.assert_allclose(sums['loss'] / sums['count'], loss, rtol=1e-5)
    for name in trained:
        before, after = one.start.params[name], end.params[name]
        difference = jax.tree.map(lambda a, b: a - b, before, after)
        assert_close(difference, grads[name], rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize(
    'rules',
    [
        (Rule(pattern='mid', train=False), *EVERYTHING),
        pytest.param(below('top'), marks=pytest.mark.slow),
    ],
)
def test_frozen_gradients_do_not_shrink_trained_ones(rules):
    limit = 1e-3
    one = training(rules, optimizer=SGD(learning_rate=1.0, momentum=0), clip_norm=limit)
    end, _ = trained_for(1, one)
    update = jax.tree.map(lambda before, after: before - after, one.start.params, end.params)
    np.testing.assert_allclose(optax.tree.norm(update), limit, rtol=1e-3)


# Its steps draw random numbers.
RANDOM = {'low_dropout': 0.5, 'augmentations': (HorizontalFlip(),)}


def test_the_same_step_twice_gives_the_same_bits():
    one = training(EVERYTHING, **RANDOM)
    assert equal(trained_for(2, one), trained_for(2, one))


def symmetric_batch(seed=0):
    """A batch whose images do not change if they are flipped."""
    batch = make_batch(seed)
    batch['input'] = np.maximum(batch['input'], batch['input'][:, :, ::-1])
    return batch


def test_dropout_of_a_trained_stage_follows_the_key():
    one = training(EVERYTHING, **RANDOM)
    ends = [trained_for(1, one, key, symmetric_batch)[0] for key in (0, 1)]
    assert not equal(ends[0].params, ends[1].params)


def test_dropout_differs_between_steps():
    one = training(EVERYTHING, **RANDOM)
    later = dataclasses.replace(one.start, step=one.start.step + 1)
    ends = [one.compiled(jax.random.key(0), s, symmetric_batch())[0] for s in (one.start, later)]
    assert not equal(ends[0].params, ends[1].params)


def test_a_frozen_stage_has_no_dropout():
    one = training(below('mid'), low_dropout=0.5)
    assert equal(trained_for(2, one, key=0)[0].params, trained_for(2, one, key=1)[0].params)


@pytest.mark.slow
def test_a_frozen_stage_is_computed_as_without_dropout():
    ends = [trained_for(2, training(below('mid'), low_dropout=rate))[0] for rate in (0.5, 0.0)]
    assert equal(ends[0].params, ends[1].params)


def test_augmentation_depends_on_the_example_and_not_on_its_row():
    one = training(EVERYTHING, augmentations=(HorizontalFlip(),))
    batch, step = make_batch(), one.compiled
    turned = {name: np.roll(rows, 3, 0) for name, rows in batch.items()}
    renamed = {**batch, 'id': batch['id'] + 1}
    end, placed, other = (
        step(jax.random.key(0), one.start, b)[0].params for b in (batch, turned, renamed)
    )
    assert_close(end, placed, rtol=1e-4, atol=1e-6)
    assert not equal(end, other)


def test_copies_of_a_batch_train_as_the_batch_and_are_all_counted():
    """Copies change neither the mean gradient nor the batch statistics."""
    plain, sums = trained_for(1, training(EVERYTHING))
    copied, twice = trained_for(1, training(EVERYTHING, augmentations=(Copy(views=2),)))
    assert_close(copied.params, plain.params, rtol=1e-4, atol=1e-6)
    assert (int(twice['count']), int(sums['count'])) == (16, 8)


def test_four_devices_train_as_one_does():
    one = training(EVERYTHING, **RANDOM)
    mesh = devices.make_mesh()
    assert mesh.size == 4
    replicated, rows = devices.replicated(mesh), devices.split(mesh)
    step = jit(
        one.step,
        in_shardings=(replicated, replicated, rows),
        out_shardings=(replicated, replicated),
    )
    four = devices.put_replicated(mesh, one.start)
    for number in range(3):
        four, _ = step(jax.random.key(0), four, devices.put_batch(mesh, make_batch(number)))
    single, _ = trained_for(3, one)
    assert_close((four.params, four.stats), (single.params, single.stats), rtol=1e-5, atol=1e-5)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(four))


def test_the_first_step_whose_loss_is_not_finite_is_named():
    one = training(EVERYTHING)
    broken = jax.tree.map(lambda x: x, one.start.params)
    broken['head']['linear']['bias'] = jnp.full(3, jnp.nan)
    current = dataclasses.replace(one.start, params=broken, step=jnp.int32(5))
    named = []
    for number in range(2):
        current, sums = one.compiled(jax.random.key(0), current, make_batch(number))
        named.append(int(sums['first_bad_step']))
    assert named == [6, 7]


def test_no_step_is_named_while_losses_are_finite():
    _, sums = trained_for(2, training(EVERYTHING))
    assert sums['first_bad_step'] == totals.NO_STEP


def test_steps_are_counted_from_the_start():
    end, _ = trained_for(3, training(EVERYTHING))
    assert end.step == 3


@functools.cache
def compiled_evaluation():
    """An evaluation step of the small network: from a batch to the sums."""
    model, params, stats = network()
    step = jit(make_eval_step(model, CrossEntropy()))
    return lambda batch: step(params, stats, batch)[0]


def test_padding_does_not_change_an_evaluation():
    batch = make_batch()
    batch['mask'][5:] = False
    other = {**make_batch(1), 'mask': batch['mask']}
    padded = {name: np.concatenate([batch[name][:5], other[name][5:]]) for name in batch}
    evaluation = compiled_evaluation()
    assert equal(evaluation(batch), evaluation(padded))


def test_the_rows_of_a_padded_batch_count_as_they_do_alone():
    batch, evaluation = make_batch(), compiled_evaluation()
    short = {name: rows[:5] for name, rows in batch.items()}
    batch['mask'][5:] = False
    padded, alone = evaluation(batch), evaluation(short)
    np.testing.assert_allclose(padded.pop('loss'), alone.pop('loss'), rtol=1e-6)
    assert equal(padded, alone)
    assert padded['count'] == 5
