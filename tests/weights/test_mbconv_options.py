"""Padding and BatchNorm of MBConv networks: followed where stated, reported where assumed."""

import pytest

from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.types import InputError
from tljax.weights import network_options

TORCH = EfficientNetLite(same_padding=False, epsilon=1e-5, stats_decay=0.9)


@pytest.mark.parametrize(
    ('options', 'same_padding', 'epsilon', 'stats_decay'),
    [
        ({'architecture': 'tf_efficientnet_lite0'}, True, 1e-3, 0.9),
        ({'architecture': 'efficientnet_lite0'}, False, 1e-5, 0.9),
        ({'pad_type': 'same', 'bn_eps': 1e-3}, True, 1e-3, 0.9),
        ({'architecture': 'tf_efficientnet_lite0', 'bn_eps': 1e-4}, True, 1e-4, 0.9),
        ({'bn_momentum': 0.01, 'act_layer': 'relu6'}, False, 1e-5, 0.99),
    ],
)
def test_a_stated_padding_and_norm_is_followed(options, same_padding, epsilon, stats_decay):
    found = network_options.apply(TORCH, options, 'timm')
    assert (found.same_padding, found.epsilon) == (same_padding, epsilon)
    assert found.stats_decay == pytest.approx(stats_decay)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'pad_type': 'circular'}, 'pad_type'),
        ({'bn_eps': 'small'}, 'bn_eps'),
        ({'bn_eps': -1.0}, 'epsilon'),
        ({'bn_momentum': 2.0}, 'stats_decay'),
        ({'act_layer': 'silu'}, 'activation'),
    ],
)
def test_an_impossible_statement_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        network_options.apply(TORCH, options, 'timm')


def test_what_timm_does_not_say_is_reported():
    (note,) = network_options.assumed(TORCH, {}, 'timm')
    assert 'same_padding=False' in note
    assert '1e-05' in note


@pytest.mark.parametrize(
    ('options', 'naming'),
    [({}, 'lukemelas'), ({'architecture': 'efficientnet_lite0'}, 'timm')],
)
def test_nothing_is_reported_where_the_library_or_the_name_decides(options, naming):
    assert network_options.assumed(TORCH, options, naming) == ()
