"""What trains under each strategy, and how fast."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tljax import tree
from tljax.models import stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vit import ViT
from tljax.strategies import partition
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import (
    LPFT,
    AutoRGN,
    BiasOnly,
    Discriminative,
    FineTune,
    FreezeBelow,
    FromScratch,
    GradualUnfreeze,
    HeadFirst,
    LayerwiseDecay,
    LinearProbe,
    NormOnly,
    Surgical,
    name_of,
)
from tljax.types import InputError, Norm, Rates

STAGES = ('stem', 'stage1', 'stage2', 'stage3', 'head')


@functools.cache
def shapes():
    """The shapes of a small network's parameters, in forward order."""
    model = stages.build(ResNetSmall(), 3)
    return stages.ordered(model, stages.shapes(model)[0])


@pytest.fixture(scope='module')
def params():
    """The shapes of a small network's parameters, in forward order."""
    return shapes()


def trained_stages(params, strategy):
    """The stages of a strategy's one phase that train whole; the others must be frozen whole."""
    (phase,) = strategy.phases(shapes())
    trained = partition.trained(partition.assign(params, phase.rules))
    per_stage = {name: set(jax.tree.leaves(trained[name])) for name in STAGES}
    assert all(len(values) == 1 for values in per_stage.values())
    return tuple(name for name in STAGES if per_stage[name] == {True})


def multipliers(strategy):
    """The learning rate multipliers of a strategy's rules that train."""
    return {r.learning_rate_scale for p in strategy.phases(shapes()) for r in p.rules if r.train}


@pytest.mark.parametrize('stage', STAGES)
def test_freezing_below_a_stage_trains_it_and_all_above(stage, params):
    strategy = FreezeBelow(stage=stage)
    assert trained_stages(params, strategy) == STAGES[STAGES.index(stage) :]


@pytest.mark.parametrize('strategy', [FineTune(), FromScratch()])
def test_everything_trains_in_fine_tuning_and_from_scratch(strategy, params):
    assert trained_stages(params, strategy) == STAGES


def test_the_head_alone_trains_in_a_linear_probe(params):
    assert trained_stages(params, LinearProbe()) == ('head',)


def test_only_from_scratch_starts_from_random_weights():
    strategies = [FineTune(), FromScratch(), LinearProbe(), FreezeBelow(stage='stage1')]
    assert [type(one) for one in strategies if not one.pretrained] == [FromScratch]


@pytest.mark.parametrize(
    'strategy',
    [
        FineTune(learning_rate_scale=0.3),
        FromScratch(learning_rate_scale=0.3),
        LinearProbe(learning_rate_scale=0.3),
        FreezeBelow(stage='stage2', learning_rate_scale=0.3),
    ],
    ids=name_of,
)
def test_the_multiplier_of_a_strategy_reaches_all_that_trains(strategy):
    assert multipliers(strategy) == {0.3}


def test_the_backbone_scale_of_fine_tuning_spares_the_head(params):
    (phase,) = FineTune(learning_rate_scale=0.5, backbone_scale=0.1).phases(shapes())
    labels = tree.flatten(partition.assign(params, phase.rules))
    scales = {partition.label(rule): rule.learning_rate_scale for rule in phase.rules}
    of_head = {scales[label] for path, label in labels.items() if path.startswith('head/')}
    of_rest = {scales[label] for path, label in labels.items() if not path.startswith('head/')}
    assert (of_head, of_rest) == ({0.5}, {0.05})


def test_a_stage_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InputError) as caught:
        FreezeBelow(stage='stage4').phases(shapes())
    assert all(name in str(caught.value) for name in ('stage4', *STAGES))


@pytest.mark.parametrize(
    ('strategy', 'name'),
    [
        (FromScratch(), 'from scratch'),
        (FineTune(backbone_scale=0.1), 'fine tune'),
        (FreezeBelow(stage='stage2'), 'freeze below stage2'),
        (Surgical(stages=('stage1', 'stage2')), 'surgical stage1 stage2'),
        (AutoRGN(), 'auto RGN'),
        (LPFT(), 'LPFT'),
    ],
)
def test_a_strategy_is_named_in_words(strategy, name):
    assert name_of(strategy) == name


def labels_of(strategy, params, phase=0):
    """`{path: label}` of a phase."""
    return tree.flatten(partition.assign(params, strategy.phases(params)[phase].rules))


def trained_paths(strategy, params, phase=0):
    """The paths of the leaves that train in a phase."""
    return {
        p for p, label in labels_of(strategy, params, phase).items() if label != partition.FROZEN
    }


def rates(strategy, params, phase=0):
    """The learning rate multiplier of each stage's first leaf, in forward order."""
    rules = {partition.label(rule): rule for rule in strategy.phases(params)[phase].rules}
    labels = labels_of(strategy, params, phase)
    first = {path.split('/')[0]: label for path, label in labels.items()}
    return [rules[first[stage]].learning_rate_scale for stage in params]


def test_surgical_tuning_trains_the_stages_it_names_and_the_head(params):
    assert trained_stages(params, Surgical(stages=('stage1',))) == ('stage1', 'head')


def test_bias_only_trains_every_bias_and_the_head(params):
    trained = trained_paths(BiasOnly(), params)
    assert trained == {p for p in tree.flatten(params) if p.endswith('/bias') or p[:4] == 'head'}


def test_norm_only_trains_scale_and_bias_of_norms_alone():
    model = stages.build(ViT(width=64, depth=2, size_px=32), 3)
    params = stages.ordered(model, stages.shapes(model)[0])
    trained = {p for p in trained_paths(NormOnly(), params) if not p.startswith('head/')}
    homes = {p.rpartition('/')[0] for p in trained}
    assert homes
    assert trained == {f'{home}/{name}' for home in homes for name in ('scale', 'bias')}
    assert not any('mlp' in p or 'attention' in p for p in trained)


def test_norm_only_without_any_is_refused():
    plain = {'stage1': {'kernel': jnp.ones(2)}, 'head': {'kernel': jnp.ones(2)}}
    with pytest.raises(InputError, match='no normalisation layer'):
        NormOnly().phases(plain)


def test_layerwise_decay_multiplies_from_stage_to_stage(params):
    found = rates(LayerwiseDecay(rate=0.5, learning_rate_scale=2.0), params)
    np.testing.assert_allclose(found, [0.125, 0.25, 0.5, 1.0, 2.0])


def test_discriminative_rates_are_geometric_between_the_ends(params):
    found = rates(Discriminative(lowest=0.01, highest=1.0), params)
    np.testing.assert_allclose(found, np.geomspace(0.01, 1.0, 5))


def test_head_first_trains_the_head_then_all_at_half_the_rate(params):
    strategy = HeadFirst(head_epochs=2.0, divisor=10.0)
    first, second = strategy.phases(params)
    assert (first.epochs, second.epochs) == (2.0, None)
    assert {p.split('/')[0] for p in trained_paths(strategy, params)} == {'head'}
    np.testing.assert_allclose(rates(strategy, params, 1), np.geomspace(0.05, 0.5, 5))


def test_gradual_unfreezing_goes_down_from_the_head(params):
    strategy = GradualUnfreeze(epochs_per_stage=2.0, patience=3)
    phases = strategy.phases(params)
    found = [{p.split('/')[0] for p in trained_paths(strategy, params, i)} for i in range(5)]
    assert found == [set(STAGES[i:]) for i in (4, 3, 2, 1, 0)]
    assert {(phase.epochs, phase.patience) for phase in phases} == {(2.0, 3)}
    assert len(GradualUnfreeze(lowest='stage2').phases(params)) == 3


def test_lp_ft_solves_the_head_and_then_trains_everything(params):
    first, second = LPFT().phases(params)
    assert first.solver is not None
    assert second.solver is None
    assert {p.split('/')[0] for p in trained_paths(LPFT(), params)} == {'head'}
    assert {p.split('/')[0] for p in trained_paths(LPFT(), params, 1)} == set(STAGES)


def test_auto_rgn_scales_each_stage_by_its_relative_gradient_norm():
    values = {
        'low': {'w': jnp.array([3.0, 4.0])},
        'high': {'w': jnp.array([6.0, 8.0])},
        'head': {'w': jnp.zeros(2)},
    }
    grads = {
        'low': {'w': jnp.array([0.5, 0.0])},  # 0.1 of its parameters' norm
        'high': {'w': jnp.array([0.0, 4.0])},  # 0.4
        'head': {'w': jnp.array([1.0, 1.0])},
    }
    (phase,) = AutoRGN().phases(values)
    assert phase.rates is Rates.GRADIENT
    labels = partition.assign(values, phase.rules)
    plain = SGD(learning_rate=1.0, momentum=0.0)
    transform = partition.make(plain, phase.rules, labels, lambda _: 1.0, rates=phase.rates)
    state = transform.init(values)
    for _ in range(3):  # constant gradients have the ratio as their running mean throughout
        updates, state = transform.update(grads, state, values)
    expected = {'low': [-0.125, 0.0], 'high': [0.0, -4.0], 'head': [-1.0, -1.0]}
    for stage, update in expected.items():
        np.testing.assert_allclose(updates[stage]['w'], update, rtol=1e-6)
    assert not np.isnan(optax.tree.norm(updates))


def test_stages_out_of_order_are_refused(params):
    with pytest.raises(InputError, match='forward order'):
        FreezeBelow(stage='stage2').phases(dict(sorted(params.items())))


def test_a_number_that_is_not_more_than_0_is_a_problem():
    assert LayerwiseDecay(rate=0.0).problems() == ['rate is 0.0, wanted more than 0']
    assert GradualUnfreeze(epochs_per_stage=-1.0).problems()
    assert not GradualUnfreeze().problems()


@pytest.mark.parametrize('norm', list(Norm))
def test_a_norm_policy_freezes_scale_and_bias_or_leaves_them_to_the_rules(norm, params):
    labels = tree.flatten(partition.assign(params, FineTune().phases(params)[0].rules, norm))
    frozen = {path for path, label in labels.items() if label == partition.FROZEN}
    wanted = norm in (Norm.FROZEN, Norm.STATISTICS_ONLY)
    assert frozen == {p for p in labels if '/bn' in p or '_bn/' in p if wanted}
