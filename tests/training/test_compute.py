"""How a step is computed: norm policies, parts of a batch, precision, folding, running means."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.test_step import (
    EVERYTHING,
    STAGES,
    assert_close,
    below,
    equal,
    jit,
    make_batch,
    network,
    trained_for,
    training,
)
from tljax import tree
from tljax.metrics.losses import CrossEntropy
from tljax.models import batch_norm_folding, stages
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.stochastic_norm import StochNorm
from tljax.strategies import partition
from tljax.strategies.cut import Compute
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FineTune, FreezeBelow
from tljax.training import states
from tljax.training.step import make_train_step
from tljax.types import Dtype, InputError, Norm, Preprocessing, Rule

PLAIN = SGD(learning_rate=0.1, momentum=0.0)


def moved(norm, rules=EVERYTHING):
    """The stages whose statistics changed and the norm leaves that did, after two steps."""
    one = training(rules, optimizer=PLAIN, norm=norm)
    end, _ = trained_for(2, one)
    stats = {name for name in end.stats if not equal(end.stats[name], one.start.stats[name])}
    before, after = tree.flatten(one.start.params), tree.flatten(end.params)
    return stats, {p for p in before if '/norm/' in p and not np.array_equal(before[p], after[p])}


ABOVE = {'mid', 'top'}


@pytest.mark.parametrize(
    ('norm', 'stats', 'affine'),
    [
        (Norm.AUTO, ABOVE, ABOVE),
        (Norm.FROZEN, set(), set()),
        (Norm.AFFINE_ONLY, set(), ABOVE),
        (Norm.STATISTICS_ONLY, {'low', *ABOVE}, set()),
        (Norm.LIVE, {'low', *ABOVE}, ABOVE),
    ],
    ids=lambda value: value.name if isinstance(value, Norm) else '',
)
def test_a_norm_policy_moves_what_its_table_says(norm, stats, affine):
    found, leaves = moved(norm, below('mid'))
    assert found == stats
    assert leaves == {f'{stage}/norm/{name}' for stage in affine for name in ('scale', 'bias')}


def steady(**changes):
    """A step whose BatchNorm keeps its statistics, so that rows do not depend on each other."""
    return training(EVERYTHING, optimizer=PLAIN, norm=Norm.AFFINE_ONLY, **changes)


@pytest.mark.parametrize('masked', [0, 3])
@pytest.mark.parametrize('parts', [2, 4])
def test_a_batch_in_parts_moves_the_parameters_as_the_whole_does(parts, masked):
    batch = make_batch()
    batch['mask'][8 - masked :] = False
    (whole, sums), (split, others) = (
        jit(one.step)(jax.random.key(0), one.start, batch)
        for one in (steady(), steady(accumulate=parts))
    )
    assert_close(split.params, whole.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(others.pop('loss'), sums.pop('loss'), rtol=1e-5)
    assert equal(sums, others)


def test_batchnorm_sees_each_part_alone_and_its_statistics_follow_all_of_them():
    one = training(EVERYTHING, optimizer=PLAIN, accumulate=2)
    end, _ = trained_for(1, one)
    half = training(EVERYTHING, optimizer=SGD(learning_rate=1e-30, momentum=0.0))
    batch = make_batch()
    current = half.start
    for first in (0, 1):
        part = {name: rows[first::2] for name, rows in batch.items()}
        current, _ = jit(half.step)(jax.random.key(0), current, part)
    assert_close(end.stats, current.stats, rtol=1e-4, atol=1e-6)


def test_rows_that_do_not_share_out_evenly_are_refused():
    with pytest.raises(InputError, match='wanted a divisor of the 8 rows'):
        trained_for(1, steady(accumulate=3))


def test_activations_computed_again_give_the_same_step():
    plain, again = (
        trained_for(2, training(EVERYTHING, low_dropout=0.5, remat=remat))[0]
        for remat in ((), ('low', 't*'))
    )
    assert_close(again.params, plain.params, rtol=1e-5, atol=1e-6)
    assert_close(again.stats, plain.stats, rtol=1e-5, atol=1e-6)


def test_a_pattern_of_no_stage_is_refused():
    with pytest.raises(InputError, match=r"\['stage9'\] matches none"):
        training(EVERYTHING, remat=('low', 'stage9'))


def test_lower_precision_keeps_parameters_and_statistics_in_float32():
    exact, rough = (
        training(EVERYTHING, optimizer=PLAIN, dtype=dtype)
        for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16)
    )
    (end, sums), (low, others) = trained_for(1, exact), trained_for(1, rough)
    assert {leaf.dtype for leaf in jax.tree.leaves((low.params, low.stats))} == {
        np.dtype('float32')
    }
    np.testing.assert_allclose(others['loss'], sums['loss'], rtol=2e-2)
    assert not equal(low.params, end.params)
    assert 'bf16' in jit(rough.step).lower(jax.random.key(0), rough.start, make_batch()).as_text()


def test_the_prefix_may_be_less_precise_than_what_trains():
    one = training(below('top'), optimizer=PLAIN, prefix_dtype=Dtype.BFLOAT16)
    plain = training(below('top'), optimizer=PLAIN)
    end, whole = trained_for(1, one)[0], trained_for(1, plain)[0]
    assert_close(end.params, whole.params, rtol=5e-2, atol=5e-3)
    assert not equal(end.params, whole.params)


def test_a_folded_prefix_trains_as_the_plain_one():
    one = training(below('top'), optimizer=PLAIN, fold_prefix=True)
    plain = training(below('top'), optimizer=PLAIN)
    end, whole = trained_for(2, one)[0], trained_for(2, plain)[0]
    assert_close(end.params, whole.params, rtol=1e-4, atol=1e-6)
    assert equal(end.stats['low'], one.start.stats['low'])


def test_statistics_that_follow_the_batch_cannot_be_folded():
    with pytest.raises(InputError, match='cannot be folded'):
        training(below('top'), fold_prefix=True, norm=Norm.LIVE)


def test_running_means_lag_behind_and_start_at_the_parameters():
    decay = 0.15
    one = training(below('top'), optimizer=PLAIN, ema_decay=decay)
    assert equal(one.start.ema, tree.select(one.start.params, partition.trained(one.labels)))
    step, current, mean = jit(one.step), one.start, one.start.params['head']['linear']['kernel']
    for number in range(3):
        current, _ = step(jax.random.key(0), current, make_batch(number))
        kept = min(decay, (1 + number) / (10 + number))
        mean = kept * mean + (1 - kept) * current.params['head']['linear']['kernel']
    assert current.ema is not None
    np.testing.assert_allclose(current.ema['head']['linear']['kernel'], mean, rtol=1e-5)
    assert equal(states.evaluated(current)['low'], current.params['low'])


def test_stochastic_norm_draws_where_statistics_follow_the_batch_and_nowhere_else():
    """With every channel by running statistics, the step is that of frozen statistics."""
    drawn = training(below('mid'), optimizer=PLAIN, stochastic_norm=StochNorm(running_share=1.0))
    still = training(below('mid'), optimizer=PLAIN, norm=Norm.AFFINE_ONLY)
    end, whole = trained_for(1, drawn)[0], trained_for(1, still)[0]
    assert_close(end.params, whole.params, rtol=1e-5, atol=1e-6)
    assert not equal(end.stats['mid'], drawn.start.stats['mid'])
    assert equal(end.stats['low'], drawn.start.stats['low'])
    half = training(below('mid'), optimizer=PLAIN, stochastic_norm=StochNorm())
    assert not equal(trained_for(1, half, key=0)[0].params, trained_for(1, half, key=1)[0].params)


CUTS = {'stage2': 1.14, 'stage3': 1.40, 'stage4': 2.1, 'head': 2.9}  # the first that trains


def compiled_step(backbone, size_px, rows, stage, **compute):
    """A step in which everything from a stage on trains, compiled without being run."""
    small = Preprocessing(size_px=size_px, resize_px=size_px)
    model = stages.build(backbone, 10, preprocessing=small)
    params, stats = stages.shapes(model)
    strategy = FreezeBelow(stage=stage) if stage else FineTune()
    rules = strategy.phases(stages.ordered(model, params))[0].rules
    labels = partition.assign(params, rules)
    transform = partition.make(SGD(), rules, labels, lambda _: 0.1)
    start = jax.eval_shape(lambda p, s: states.create(p, s, transform, labels), params, stats)
    batch = {
        'image': jax.ShapeDtypeStruct((rows, size_px, size_px, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((rows,), jnp.int32),
        'id': jax.ShapeDtypeStruct((rows,), jnp.uint32),
        'mask': jax.ShapeDtypeStruct((rows,), jnp.bool_),
    }
    step = make_train_step(model, transform, labels, CrossEntropy(), compute=Compute(**compute))
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jit(step, donate_argnums=1).lower(key, start, batch).compile()


def temporary(compiled):
    """The bytes of a program's temporary memory."""
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope='module')
def resnet50():
    """`{first stage that trains, or None for all: compiled step}` of ResNet-50 at 224 px."""
    return {stage: compiled_step(ResNet(depth=50), 224, 2, stage) for stage in (None, *CUTS)}


def test_a_frozen_stage_saves_the_operations_it_should(resnet50):
    flops = {stage: one.cost_analysis()['flops'] for stage, one in resnet50.items()}
    saved = {stage: flops[None] / flops[stage] for stage in CUTS}
    assert all(saved[stage] >= wanted for stage, wanted in CUTS.items()), saved


def test_a_frozen_stage_keeps_no_activations(resnet50):
    sizes = [temporary(one) for one in resnet50.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_no_gradient_of_a_convolution_is_compiled_for_a_frozen_stage(resnet50):
    for first, one in resnet50.items():
        names = set(re.findall(r'op_name="([^"]*)"', one.as_text()))
        backward = {name for name in names if 'transpose(' in name and 'conv' in name}
        found = {s for s in ('stem', 'stage1', 'stage2', 'stage3', 'stage4')
                 if any(re.search(rf'\b{s}\b', name) for name in backward)}  # fmt: skip
        stages = ['stem', 'stage1', 'stage2', 'stage3', 'stage4', 'head']
        assert found == set(stages[stages.index(first or 'stem') : -1])


def test_parts_and_recomputation_save_memory():
    whole, parts, again = (
        temporary(compiled_step(ResNetSmall(depth=8), 32, 64, None, **compute))
        for compute in ({}, {'accumulate': 4}, {'remat': ('**',)})
    )
    assert parts < 0.6 * whole
    assert again < 0.8 * whole


@pytest.mark.parametrize('stages', [(), STAGES])
def test_what_is_not_to_be_folded_stays(stages):
    model, params, stats = network()
    folded, left = batch_norm_folding.folded(model, params, stats, stages)
    assert (len(jax.tree.leaves(left)) == 0) == bool(stages)
    assert tree.flatten(folded).keys() <= tree.flatten(params).keys()


def test_dropout_stays_off_in_a_frozen_stage_whose_statistics_follow_the_batch():
    """Dropout belongs to stages that train, whatever BatchNorm does."""
    rules = (Rule(pattern='low', train=False), *EVERYTHING)
    live = training(rules, optimizer=PLAIN, norm=Norm.LIVE, low_dropout=0.5)
    assert equal(trained_for(1, live, key=0)[0].params, trained_for(1, live, key=1)[0].params)
