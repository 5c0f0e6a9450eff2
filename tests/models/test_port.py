"""Translation of foreign state dicts: exact both ways, and strict."""

import dataclasses

import numpy as np
import pytest

from tljax import tree
from tljax.models import port, port_rules, stages
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.efficientnet import EfficientNet
from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.models.backbones.efficientnet_v2 import EfficientNetV2
from tljax.models.backbones.mobilenet import MobileNetV2, MobileNetV3
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vgg import VGG
from tljax.models.backbones.vit import ViT

BACKBONES = [
    *(ResNet(depth=depth) for depth in (18, 34, 50)),
    ResNet(depth=50, groups=32, width_per_group=4),
    *(ResNetSmall(depth=depth) for depth in (20, 56)),
    *(VGG(depth=depth, batch_norm=norm) for depth, norm in ((11, False), (19, True))),
    ViT(width=192, patch_px=32),
    ConvNeXt(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64)),
    EfficientNetLite(),
    EfficientNetLite.sized(4),
    EfficientNet(),
    EfficientNet.sized(4),
    EfficientNetV2(),
    EfficientNetV2.sized('m'),
    MobileNetV2(),
    MobileNetV3(),
    MobileNetV3.small(),
]
# By default the smallest network with each kind of block. VGG's first linear layer is 100 MB.
VGG11, SLOW = VGG(depth=11), pytest.mark.slow
SMALLEST = (
    ResNet(depth=18),
    ResNet(depth=50, groups=32, width_per_group=4),
    ResNetSmall(depth=20),
    VGG11,
    ViT(width=192, patch_px=32),
    ConvNeXt(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64)),
    EfficientNetLite(),
    EfficientNetV2(),
    MobileNetV2(),
    MobileNetV3.small(),
)
NAMINGS = [
    pytest.param(
        backbone,
        naming,
        marks=() if backbone in SMALLEST and (backbone, naming) != (VGG11, 'timm') else SLOW,
    )
    for backbone in BACKBONES
    for naming in backbone.port_tables()
]


def _wanted(backbone):
    params, stats = stages.shapes(stages.build(backbone, 7))
    return tree.flatten({'params': params, 'batch_stats': stats})


def _counted(shapes):
    """Bytes that count to a prime again and again, so that no permutation goes unseen."""
    cycle = np.arange(251, dtype=np.uint8)
    return {name: np.resize(cycle, shape) for name, shape in shapes.items()}


def _foreign(rules, wanted):
    """A state dict made from shapes, in the layout of the family's other library."""
    ours = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in wanted.items()}
    foreign = port.to_foreign(ours, rules)
    counted = _counted({name: array.shape for name, array in foreign.items()})
    counts = {name for name in foreign if name.endswith('num_batches_tracked')}
    return {name: foreign[name] if name in counts else array for name, array in counted.items()}


@pytest.mark.parametrize(('backbone', 'naming'), NAMINGS, ids=str)
def test_a_state_dict_survives_the_way_to_us_and_back_bit_for_bit(backbone, naming):
    rules, wanted = backbone.port_tables()[naming], _wanted(backbone)
    state_dict = _foreign(rules, wanted)
    back = port.to_foreign(port.to_ours(state_dict, rules, wanted), rules)
    assert set(back) == set(state_dict)
    for name, array in state_dict.items():
        assert back[name].shape == array.shape, name
        assert back[name].tobytes() == array.tobytes(), name


def _small():
    """A table, what it has to fill, and a state dict that does."""
    backbone = ResNetSmall()
    rules, wanted = backbone.port_tables()['akamaster'], _wanted(backbone)
    return rules, wanted, _foreign(rules, wanted)


def test_translated_leaves_come_in_the_order_wanted():
    rules, wanted, state_dict = _small()
    leaves = port.to_ours(dict(reversed(state_dict.items())), rules, wanted)
    assert list(leaves) == list(wanted)


def test_convolution_kernels_become_height_width_in_out():
    foreign = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # [out, in, h, w]
    assert port_rules.CONV.to_ours(foreign)[1, 2, 0, 1] == foreign[1, 0, 1, 2]


def test_linear_layers_after_flattening_read_the_same_map_in_our_order():
    channels, height, width = 3, 2, 4
    x = np.random.default_rng(0).normal(size=(channels, height, width))
    foreign = np.random.default_rng(1).normal(size=(5, channels * height * width))
    ours = port_rules.linear_after_flatten(channels, height, width).to_ours(foreign)
    np.testing.assert_allclose(x.transpose(1, 2, 0).ravel() @ ours, foreign @ x.ravel())


def test_counts_of_batches_are_dropped():
    rules, wanted, state_dict = _small()
    state_dict['layer1.0.bn1.num_batches_tracked'] = np.array(7)
    assert set(port.to_ours(state_dict, rules, wanted)) == set(wanted)


def _problems(state_dict, rules, wanted):
    with pytest.raises(port.PortError) as error:
        port.to_ours(state_dict, rules, wanted)
    return str(error.value)


@pytest.mark.parametrize(
    ('transform', 'shape'),
    [
        (port_rules.linear_after_flatten(3, 2, 4), (5, 24)),
        (port_rules.linear_as_conv(2, 4), (5, 3, 2, 4)),
    ],
    ids=['matrix', 'convolution'],
)
def test_the_layout_of_a_linear_layer_after_a_map_is_restored_exactly(transform, shape):
    foreign = np.arange(np.prod(shape)).reshape(shape)
    ours = transform.to_ours(foreign)
    assert ours.shape == (24, 5)
    np.testing.assert_array_equal(transform.to_foreign(ours), foreign)


def test_both_layouts_of_a_linear_layer_after_a_map_are_one_here():
    as_conv = np.random.default_rng(1).normal(size=(5, 3, 2, 4))
    ours = port_rules.linear_as_conv(2, 4).to_ours(as_conv)
    flat = port_rules.linear_after_flatten(3, 2, 4).to_ours(as_conv.reshape(5, -1))
    np.testing.assert_array_equal(ours, flat)


def test_every_misfit_is_named_in_one_error():
    rules = (
        port_rules.PortRule('a.weight', 'a/kernel', port_rules.LINEAR),
        port_rules.PortRule('b.weight', 'b/kernel', port_rules.CONV),
        port_rules.PortRule('c{i}.weight', 'c{i}/kernel'),
        port_rules.PortRule('c1.{name}', 'c{name}/kernel'),
        port_rules.PortRule('c1.weight', 'd/kernel'),
    )
    wanted = {'a/kernel': np.zeros((2, 3)), 'b/kernel': np.zeros((1, 1, 2, 2)), 'e': np.zeros(1)}
    state_dict = {
        'a.weight': np.zeros((2, 3)),  # misshapen
        'b.weight': np.zeros(4),  # cannot even be rearranged
        'c1.weight': np.zeros(1),  # matched twice
        'c2.weight': np.zeros(1),  # translated, and not wanted
        'stranger': np.zeros((5, 6)),  # matched by nothing
    }
    assert _problems(state_dict, rules, wanted).splitlines() == [
        '8 problems with these weights (- wanted, + found):',
        '  + c1.weight [1]   (2 rules match)',
        '  + stranger [5, 6]   (0 rules match)',
        '  - a/kernel [2, 3]',
        '  + a/kernel [3, 2]',
        '  - b/kernel [1, 1, 2, 2]',
        '  + b/kernel [4]',
        '  - e [1]',
        '  + c2/kernel [1]',
    ]


def test_a_leaf_filled_by_two_names_is_an_error():
    rules = (port_rules.PortRule('old{i}', 'x{i}'), port_rules.PortRule('new{i}', 'x{i}'))
    state_dict = {'old1': np.zeros(1), 'new1': np.zeros(1)}
    text = _problems(state_dict, rules, {'x1': np.zeros(1)})
    assert '+ new1 [1]   (fills x1, as old1 does)' in text


def test_a_real_state_dict_with_one_name_changed_says_which_and_what_is_nearest():
    rules, wanted, state_dict = _small()
    state_dict['layer2.0.conv3.weight'] = state_dict.pop('layer2.0.conv2.weight')
    text = _problems(state_dict, rules, wanted)
    assert '- params/stage2/block1/conv2/kernel [3, 3, 32, 32]' in text
    assert '(found params/stage2/block1/conv3/kernel)' in text


def test_our_own_leaves_are_held_to_the_same_strictness():
    with pytest.raises(port.PortError, match=r'(?s)- x \[2\].*\+ y \[3\]'):
        port.placed(port.own(['y']), {'y': np.zeros(3)}, {'x': np.zeros(2)})


@pytest.mark.parametrize(
    ('foreign', 'ours', 'name', 'path'),
    [
        ('layer{s}.{b}', 'stage{s}/block{b+1}', 'layer3.0', 'stage3/block1'),
        ('layer{s}.{b}', 'stage{s}/block{b+1}', 'layer3.22', 'stage3/block23'),
        ('l{a+1}', 'x{a}', 'l4', 'x3'),
        ('l{a-2}', 'x{a+3}', 'l4', 'x9'),
        ('{a}.{b}', '{b}/{a}', '1.2', '2/1'),
    ],
)
def test_integer_fields_are_carried_over_with_their_offsets(foreign, ours, name, path):
    rules = (port_rules.PortRule(foreign, ours),)
    array = np.zeros(1)
    assert list(port.to_ours({name: array}, rules, {path: array})) == [path]
    assert list(port.to_foreign({path: array}, rules)) == [name]


@pytest.mark.parametrize('name', ['layer1.x', 'layer.1', 'layer1.0.more', 'mylayer1.0', 'layer1_0'])
def test_a_rule_matches_whole_names_only(name):
    rules = (port_rules.PortRule('layer{s}.{b}', 'stage{s}/block{b}'),)
    assert '(0 rules match)' in _problems({name: np.zeros(1)}, rules, {})


def test_leaves_without_one_foreign_name_are_all_named():
    rules = (port_rules.PortRule('a{i}', 'x{i}'), port_rules.PortRule('b{i}', 'x{i}'))
    with pytest.raises(port.PortError, match=r'(?s)x1   \(2 rules match\).*y   \(0 rules match\)'):
        port.to_foreign({'x1': np.zeros(1), 'y': np.zeros(1)}, rules)


JOINED = (port_rules.PortRule(('q', 'k', 'v'), 'qkv', port_rules.LINEAR),)


def test_entries_that_are_one_leaf_here_are_joined_and_parted_again():
    parts = {name: np.full((2, 3), value) for value, name in enumerate(('q', 'k', 'v'))}
    leaves = port.to_ours(dict(reversed(parts.items())), JOINED, {'qkv': np.zeros((3, 6))})
    np.testing.assert_array_equal(leaves['qkv'][0], [0, 0, 1, 1, 2, 2])
    for name, array in port.to_foreign(leaves, JOINED).items():
        np.testing.assert_array_equal(array, parts[name])


def test_a_part_that_is_missing_is_named():
    text = _problems({'q': np.zeros((2, 3)), 'v': np.zeros((2, 3))}, JOINED, {})
    assert 'q [2, 3]   (qkv needs k too)' in text


def test_an_older_name_is_read_and_never_written():
    rules = (
        port_rules.PortRule('new{i}', 'x{i}'),
        port_rules.PortRule('old{i}', 'x{i}', alias=True),
    )
    leaves = port.to_ours({'old1': np.ones(1)}, rules, {'x1': np.zeros(1)})
    assert list(port.to_foreign(leaves, rules)) == ['new1']


def test_names_without_their_prefix_are_aliases():
    rules = (port_rules.PortRule('net.a{i}', 'x{i}'), port_rules.PortRule('head', 'y'))
    more = (*rules, *port_rules.without_prefix(rules, 'net.'))
    assert list(port.to_ours({'a2': np.ones(1)}, more, {'x2': np.zeros(1)})) == ['x2']
    assert list(port.to_foreign({'x2': np.ones(1)}, more)) == ['net.a2']


def test_a_count_that_was_dropped_is_written_as_zero_beside_its_norm():
    rules = port_rules.batch_norm('bn{i}', 'norm{i}')
    foreign = port.to_foreign({'batch_stats/norm3/mean': np.ones(1)}, rules)
    assert foreign['bn3.num_batches_tracked'].dtype == np.int64
    assert foreign['bn3.num_batches_tracked'] == 0


def test_joined_entries_of_unequal_lengths_are_split_again_by_their_shares():
    (rule, _) = port_rules.joined_layers(('q', 'kv'), 'pool/qkv')
    rule = dataclasses.replace(rule, shares=(1, 2))
    entries = {'q.weight': np.ones((4, 5)), 'kv.weight': np.zeros((8, 5))}
    ours = port.to_ours(entries, [rule], {'params/pool/qkv/kernel': np.zeros((5, 12))})
    back = port.to_foreign(ours, [rule])
    assert {name: array.shape for name, array in back.items()} == {
        'q.weight': (4, 5), 'kv.weight': (8, 5),
    }  # fmt: skip
    np.testing.assert_array_equal(back['q.weight'], 1)
    np.testing.assert_array_equal(back['kv.weight'], 0)
