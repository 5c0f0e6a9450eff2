"""Options of a step: norm policies, parts of a batch, precision, folding, running means."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from tests.training.test_step import (
    EVERYTHING,
    RANDOM,
    STAGES,
    assert_close,
    below,
    equal,
    lowered_step,
    make_batch,
    network,
    operations,
    small_model,
    trained_for,
    training,
)
from tljax import tree
from tljax.models import batch_norm_folding
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.stochastic_norm import StochNorm
from tljax.strategies import cut, partition
from tljax.strategies.optimizers import SGD
from tljax.training import states
from tljax.types import Dtype, InputError, Norm, Preprocessing, Rule

PLAIN = SGD(learning_rate=0.1, momentum=0.0)


ABOVE = {'mid', 'top'}
# The stages whose statistics follow the batch, and whose scale and bias train, if the stages from
# `mid` train.
POLICIES = {
    Norm.AUTO: (ABOVE, ABOVE),
    Norm.FROZEN: (set(), set()),
    Norm.AFFINE_ONLY: (set(), ABOVE),
    Norm.STATISTICS_ONLY: ({'low', *ABOVE}, set()),
    Norm.LIVE: ({'low', *ABOVE}, ABOVE),
}


def norm_leaves(stage_names):
    """The paths of the scales and biases of some stages."""
    return {f'{stage}/norm/{name}' for stage in stage_names for name in ('scale', 'bias')}


@pytest.mark.parametrize('norm', POLICIES, ids=lambda norm: norm.name)
def test_a_norm_policy_decides_which_leaves_and_statistics_change(norm):
    model, params, running = network()
    labels = partition.assign(params, below('mid'), norm)
    trained = tree.flatten(partition.trained(labels))
    stats, affine = POLICIES[norm]
    updated = cut.find_cut(model, labels, norm).updates_statistics
    assert {name for name in updated if jax.tree.leaves(running.get(name))} == stats
    assert {p for p, trains in trained.items() if trains and '/norm/' in p} == norm_leaves(affine)


@pytest.mark.parametrize(
    'norm',
    [
        Norm.STATISTICS_ONLY,
        *(
            pytest.param(norm, marks=pytest.mark.slow)
            for norm in POLICIES
            if norm != Norm.STATISTICS_ONLY
        ),
    ],
    ids=lambda norm: norm.name,
)
def test_a_step_changes_the_leaves_and_statistics_of_its_norm_policy(norm):
    one = training(below('mid'), optimizer=PLAIN, norm=norm)
    end, _ = trained_for(2, one)
    stats, affine = POLICIES[norm]
    assert {
        name for name in end.stats if not equal(end.stats[name], one.start.stats[name])
    } == stats
    before, after = tree.flatten(one.start.params), tree.flatten(end.params)
    changed = {p for p in before if not np.array_equal(before[p], after[p])}
    assert {p for p in changed if '/norm/' in p} == norm_leaves(affine)


def steady(**changes):
    """A step whose BatchNorm keeps its statistics, so that rows do not depend on each other."""
    return training(EVERYTHING, optimizer=PLAIN, norm=Norm.AFFINE_ONLY, **changes)


@pytest.mark.parametrize('masked', [0, 3])
@pytest.mark.parametrize('parts', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_batch_in_parts_trains_as_the_undivided_batch(parts, masked):
    batch = make_batch()
    batch['mask'][8 - masked :] = False
    (undivided, sums), (divided, others) = (
        one.compiled(jax.random.key(0), one.start, batch)
        for one in (steady(), steady(accumulate=parts))
    )
    assert_close(divided.params, undivided.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(others.pop('loss'), sums.pop('loss'), rtol=1e-5)
    assert equal(sums, others)


def test_batchnorm_normalises_each_part_alone_and_its_statistics_follow_all_parts():
    one = training(EVERYTHING, optimizer=PLAIN, accumulate=2)
    end, _ = trained_for(1, one)
    half = training(EVERYTHING, optimizer=SGD(learning_rate=1e-30, momentum=0.0))
    batch = make_batch()
    current = half.start
    for first in (0, 1):
        part = {name: rows[first::2] for name, rows in batch.items()}
        current, _ = half.compiled(jax.random.key(0), current, part)
    assert_close(end.stats, current.stats, rtol=1e-4, atol=1e-6)


def test_a_batch_that_cannot_be_divided_evenly_is_refused():
    with pytest.raises(InputError, match='wanted a divisor of the 8 rows'):
        trained_for(1, steady(accumulate=3))


def test_recomputed_activations_give_the_same_step():
    plain, _ = trained_for(2, training(EVERYTHING, **RANDOM))
    again, _ = trained_for(2, training(EVERYTHING, **RANDOM, remat=('low', 't*')))
    assert_close(again.params, plain.params, rtol=1e-5, atol=1e-6)
    assert_close(again.stats, plain.stats, rtol=1e-5, atol=1e-6)


def test_a_pattern_that_matches_no_stage_is_refused():
    with pytest.raises(InputError, match=r"\['stage9'\] matches none"):
        training(EVERYTHING, remat=('low', 'stage9'))


def test_lower_precision_keeps_parameters_and_statistics_in_float32():
    exact = training(EVERYTHING, optimizer=PLAIN)
    rough = training(EVERYTHING, optimizer=PLAIN, dtype=Dtype.BFLOAT16)
    (end, sums), (low, others) = trained_for(1, exact), trained_for(1, rough)
    assert {leaf.dtype for leaf in jax.tree.leaves((low.params, low.stats))} == {
        np.dtype('float32')
    }
    np.testing.assert_allclose(others['loss'], sums['loss'], rtol=2e-2)
    assert not equal(low.params, end.params)
    assert 'bf16' in rough.compiled.lower(jax.random.key(0), rough.start, make_batch()).as_text()


def test_the_prefix_can_be_less_precise_than_the_trained_stages():
    one = training(below('top'), optimizer=PLAIN, prefix_dtype=Dtype.BFLOAT16)
    plain = training(below('top'), optimizer=PLAIN)
    end, exact = trained_for(1, one)[0], trained_for(1, plain)[0]
    assert_close(end.params, exact.params, rtol=5e-2, atol=5e-3)
    assert not equal(end.params, exact.params)


def test_a_folded_prefix_trains_as_the_unfolded_one():
    one = training(below('top'), optimizer=PLAIN, fold_prefix=True)
    plain = training(below('top'), optimizer=PLAIN)
    end, unfolded = trained_for(2, one)[0], trained_for(2, plain)[0]
    assert_close(end.params, unfolded.params, rtol=1e-4, atol=1e-6)
    assert equal(end.stats['low'], one.start.stats['low'])


def test_statistics_that_follow_the_batch_cannot_be_folded():
    with pytest.raises(InputError, match='cannot be folded'):
        training(below('top'), fold_prefix=True, norm=Norm.LIVE)


def test_running_means_lag_behind_and_start_at_the_parameters():
    decay = 0.15
    one = training(below('top'), optimizer=PLAIN, ema_decay=decay)
    assert equal(one.start.ema, tree.select(one.start.params, partition.trained(one.labels)))
    step, current, mean = one.compiled, one.start, one.start.params['head']['linear']['kernel']
    for number in range(3):
        current, _ = step(jax.random.key(0), current, make_batch(number))
        kept = min(decay, (1 + number) / (10 + number))
        mean = kept * mean + (1 - kept) * current.params['head']['linear']['kernel']
    assert current.ema is not None
    np.testing.assert_allclose(current.ema['head']['linear']['kernel'], mean, rtol=1e-5)
    assert equal(states.evaluated(current)['low'], current.params['low'])


def test_stochastic_norm_draws_only_where_statistics_follow_the_batch():
    one = training(below('mid'), optimizer=PLAIN, stochastic_norm=StochNorm())
    ends = [trained_for(1, one, key)[0] for key in (0, 1)]
    assert not equal(ends[0].params, ends[1].params)
    assert not equal(ends[0].stats['mid'], one.start.stats['mid'])
    assert equal(ends[0].stats['low'], one.start.stats['low'])


@pytest.mark.slow
def test_stochastic_norm_with_running_statistics_only_trains_as_with_frozen_statistics():
    drawn = training(below('mid'), optimizer=PLAIN, stochastic_norm=StochNorm(running_share=1.0))
    frozen = training(below('mid'), optimizer=PLAIN, norm=Norm.AFFINE_ONLY)
    ends = [trained_for(1, one)[0] for one in (drawn, frozen)]
    assert_close(ends[0].params, ends[1].params, rtol=1e-5, atol=1e-6)
    assert not equal(ends[0].stats['mid'], drawn.start.stats['mid'])


def temporary_bytes(program):
    """The temporary memory of a compiled program."""
    return program.memory_analysis().temp_size_in_bytes


# By depth: how many times fewer operations a step has if training starts at a stage. A network of
# which every stage trains has three times the operations of a forward pass, except for the
# gradient with respect to the images.
SAVINGS = {
    18: {'stage3': 1.5, 'head': 2.9},
    50: {'stage2': 1.14, 'stage3': 1.40, 'stage4': 2.1, 'head': 2.9},
}


@pytest.fixture(
    scope='module',
    params=[18, pytest.param(50, marks=pytest.mark.slow)],
    ids=lambda depth: f'resnet{depth}',
)
def lowered_steps(request):
    """The depth of a ResNet, and its lowered steps at 224 px by the first trained stage."""
    model = small_model(ResNet(depth=request.param), 224)
    return request.param, {
        one: lowered_step(model, one, 2) for one in ('stem', *SAVINGS[request.param])
    }


@pytest.fixture(scope='module')
def compiled_steps(lowered_steps):
    """Three of them compiled."""
    return {one: lowered_steps[1][one].compile() for one in ('stem', 'stage3', 'head')}


def test_a_frozen_stage_saves_its_backward_operations(lowered_steps):
    depth, steps = lowered_steps
    saved = {one: operations(steps['stem']) / operations(step) for one, step in steps.items()}
    assert all(saved[one] >= least for one, least in SAVINGS[depth].items()), saved


def test_a_frozen_stage_keeps_no_activations(compiled_steps):
    sizes = [temporary_bytes(step) for step in compiled_steps.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_no_gradient_of_a_convolution_is_compiled_for_a_frozen_stage(compiled_steps):
    stages = ['stem', 'stage1', 'stage2', 'stage3', 'stage4']
    for first, step in compiled_steps.items():
        names = set(re.findall(r'op_name="([^"]*)"', step.as_text()))
        backward = [name for name in names if 'transpose(' in name and 'conv' in name]
        with_gradient = [
            stage for stage in stages if any(re.search(rf'\b{stage}\b', one) for one in backward)
        ]
        assert with_gradient == ([] if first == 'head' else stages[stages.index(first) :])


def bytes_of_step(model, **compute):
    """The temporary memory of a step on 64 images in which all stages train."""
    return temporary_bytes(lowered_step(model, model.names[0], 64, **compute).compile())


def test_a_batch_in_parts_needs_less_memory():
    model = dataclasses.replace(network()[0], preprocessing=Preprocessing(size_px=32, resize_px=32))
    assert bytes_of_step(model, accumulate=2) < 0.6 * bytes_of_step(model)


@pytest.mark.slow
def test_recomputed_activations_need_less_memory():
    model = small_model(ResNetSmall(depth=8), 32)
    assert bytes_of_step(model, remat=('**',)) < 0.8 * bytes_of_step(model)


@pytest.mark.parametrize('stages', [(), STAGES])
def test_only_the_named_stages_are_folded(stages):
    model, params, stats = network()
    folded, left = batch_norm_folding.folded(model, params, stats, stages)
    assert (len(jax.tree.leaves(left)) == 0) == bool(stages)
    assert tree.flatten(folded).keys() <= tree.flatten(params).keys()


def test_dropout_stays_off_in_a_frozen_stage_whose_statistics_follow_the_batch():
    """Only trained stages have dropout, with every norm policy."""
    rules = (Rule(pattern='low', train=False), *EVERYTHING)
    one = training(rules, optimizer=PLAIN, norm=Norm.LIVE, low_dropout=0.5)
    assert equal(trained_for(1, one, key=0)[0].params, trained_for(1, one, key=1)[0].params)
