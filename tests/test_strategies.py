"""What trains under each strategy, and how fast."""

import jax
import pytest

from tljax import model as models
from tljax import optim, tree
from tljax.backbones.resnet_small import ResNetSmall
from tljax.strategies import FineTune, FreezeBelow, FromScratch, LinearProbe, name_of
from tljax.types import InputError

STAGES = ('stem', 'stage1', 'stage2', 'stage3', 'head')


@pytest.fixture(scope='module')
def params():
    """The shapes of a small network's parameters."""
    return models.shapes(models.build(ResNetSmall(), 3))[0]


def trained_stages(params, strategy):
    """The stages of a strategy's one phase that train whole; the others must be frozen whole."""
    (phase,) = strategy.phases(STAGES)
    trained = optim.trained(optim.assign(params, phase.rules))
    per_stage = {name: set(jax.tree.leaves(trained[name])) for name in STAGES}
    assert all(len(values) == 1 for values in per_stage.values())
    return tuple(name for name in STAGES if per_stage[name] == {True})


def multipliers(strategy):
    """The learning rate multipliers of a strategy's rules that train."""
    return {r.learning_rate_scale for p in strategy.phases(STAGES) for r in p.rules if r.train}


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
    (phase,) = FineTune(learning_rate_scale=0.5, backbone_scale=0.1).phases(STAGES)
    labels = tree.flatten(optim.assign(params, phase.rules))
    scales = {optim.label(rule): rule.learning_rate_scale for rule in phase.rules}
    of_head = {scales[label] for path, label in labels.items() if path.startswith('head/')}
    of_rest = {scales[label] for path, label in labels.items() if not path.startswith('head/')}
    assert (of_head, of_rest) == ({0.5}, {0.05})


def test_a_stage_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InputError) as caught:
        FreezeBelow(stage='stage4').phases(STAGES)
    assert all(name in str(caught.value) for name in ('stage4', *STAGES))


@pytest.mark.parametrize(
    ('strategy', 'name'),
    [
        (FromScratch(), 'from scratch'),
        (FineTune(backbone_scale=0.1), 'fine tune'),
        (FreezeBelow(stage='stage2'), 'freeze below stage2'),
    ],
)
def test_a_strategy_is_named_in_words(strategy, name):
    assert name_of(strategy) == name
