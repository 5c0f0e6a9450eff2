"""What adapters add, that it merges exactly, and what is refused."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tests.small_runs import Tiny
from tests.test_contracts import classes_of
from tljax import tree
from tljax.models import batch_norm_folding, layers, stages
from tljax.models.adapters import LoRA, ResidualAdapter, ScaleShift, check_trained, extended, split
from tljax.models.backbones.clip import CLIP
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.efficientnet import EfficientNet
from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.models.backbones.efficientnet_v2 import EfficientNetV2
from tljax.models.backbones.mobilenet import MobileNetV2, MobileNetV3
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.siglip import SigLIP
from tljax.models.backbones.vgg import VGG
from tljax.models.backbones.vit import ViT
from tljax.strategies import partition
from tljax.strategies.strategies import AdaptersOnly, BiasOnly, FineTune, FreezeBelow, LinearProbe
from tljax.types import InputError, Norm, Preprocessing

OPTIONS = {'xla_backend_optimization_level': 0}  # nothing here runs twice
ALL = (LoRA(rank=3, alpha=4.5), ResidualAdapter(), ScaleShift())
NO_WINDOWS = (LoRA(rank=3, alpha=4.5), ScaleShift())
# A small member of each family, the last stage that is kept, and the adapters that it can have.
NETWORKS = {
    'Tiny': (Tiny(), None, ALL),
    'ResNetSmall': (ResNetSmall(), None, ALL),
    'ResNet': (ResNet(depth=18), 'stage2', ALL),
    'ResNet in groups': (ResNet(depth=50, groups=32, width_per_group=4), 'stage1', ALL),
    'VGG': (VGG(depth=11), 'stage3', ALL),
    'VGG with norms': (VGG(depth=11, batch_norm=True), 'stage2', ALL),
    'ViT': (ViT(width=64, depth=2, size_px=32), None, NO_WINDOWS),
    'CLIP': (CLIP(width=64, depth=2, patch_px=16, size_px=32), None, NO_WINDOWS),
    'SigLIP': (SigLIP(width=64, depth=2, size_px=32), None, NO_WINDOWS),
    'DINOv2': (tljax.DINOv2(width=64, depth=2, patch_px=16, size_px=32), None, NO_WINDOWS),
    'DINOv3': (tljax.DINOv3(width=64, depth=2), None, (LoRA(rank=3, alpha=4.5),)),
    'Swin': (
        tljax.Swin(width=24, depths=(1, 1, 1, 1), heads=(1, 2, 3, 4), windows=(4, 4, 2, 1)),
        None,
        NO_WINDOWS,
    ),
    'RegNet': (tljax.RegNet(depths=(1, 1, 1, 1), widths=(16, 24, 32, 40)), None, ALL),
    'BiT': (tljax.BiT(depths=(1, 1, 1, 1), widths=(128,) * 4), None, NO_WINDOWS),
    'ConvNeXt': (ConvNeXt(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64)), None, ALL),
    'EfficientNet': (EfficientNet(widths=(8, 16, 24, 32, 40, 48, 56)), 'stage2', ALL),
    'EfficientNetV2': (EfficientNetV2(depths=(1,) * 6), 'stage4', ALL),
    'MobileNetV2': (MobileNetV2.scaled(0.5), 'stage2', ALL),
    'MobileNetV3': (MobileNetV3.small(), None, ALL),
    'EfficientNetLite': (
        EfficientNetLite(widths=(8, 16, 24, 32, 40, 48, 56), same_padding=False),
        'stage2',
        ALL,
    ),
}
# By default one network for each kind of layer: plain, in groups, with norms, of tokens.
CASES = [
    name
    if name in ('Tiny', 'ResNet in groups', 'VGG with norms', 'ViT')
    else pytest.param(name, marks=pytest.mark.slow)
    for name in NETWORKS
]
SMALL = Preprocessing(size_px=32, resize_px=32)


def test_every_family_of_backbones_of_images_is_tried_here():
    """Those of text are tried in tests/training/test_text_run.py."""
    tried = {type(backbone) for backbone, _, _ in NETWORKS.values()}
    assert set(classes_of('Backbone')) - {tljax.AWDLSTM} <= tried


def random_like(leaves, scale, seed=0):
    """Normal values in the shapes of `{path: leaf}`."""
    rng = np.random.default_rng(seed)
    return {p: scale * rng.standard_normal(x.shape, np.float32) for p, x in leaves.items()}


@functools.cache
def network(name):
    """A model, its parameters and statistics, all random, and the adapters to try.

    Drawn by NumPy: a network's own initialisation takes seconds to compile.
    """
    backbone, last, adapters = NETWORKS[name]
    model = stages.build(backbone, 5, cut_after=last, preprocessing=SMALL)
    shapes, moments = map(tree.flatten, stages.shapes(model))
    own = random_like(shapes, 1.0)
    for path, x in own.items():
        own[path] = x * (0.2 if x.ndim == 1 else np.float32(np.prod(x.shape[:-1]) / 2) ** -0.5)
        own[path] += path.endswith('scale')
    stats = {p: abs(x) + p.endswith('var') for p, x in random_like(moments, 0.1).items()}
    return model, stages.ordered(model, tree.unflatten(own)), tree.unflatten(stats), adapters


def adapted(model, params, adapters, scale):
    """The model and its parameters with adapters, whose leaves are random unless `scale` is 0."""
    model = dataclasses.replace(model, adapters=adapters)
    whole = extended(adapters, params, jax.random.key(1))
    if scale:
        own, added = split(whole)
        whole = stages.ordered(model, tree.unflatten({**own, **random_like(added, scale)}))
    return model, whole


IMAGES: Any = np.random.default_rng(3).standard_normal((2, 32, 32, 3), np.float32)


def logits(model, params, stats, **how):
    """Logits, and the statistics after."""
    run = jax.jit(lambda p, s, x: stages.run(model, p, s, x, **how), compiler_options=OPTIONS)
    return jax.tree.map(np.asarray, run(params, stats, IMAGES))


@functools.cache
def program(name, *, with_adapters):
    """A function `(params, stats) -> logits`, compiled once for all tests."""
    model, _, _, adapters = network(name)
    model = dataclasses.replace(model, adapters=adapters if with_adapters else ())
    run = jax.jit(lambda p, s: stages.run(model, p, s, IMAGES)[0], compiler_options=OPTIONS)
    return lambda params, stats: np.asarray(run(params, stats))


class Apart:
    """Layers as the papers draw them: what was added works on what goes in and comes out."""

    def __init__(self, params, adapters):
        self.added = split(params)[1]
        self.adapters = adapters
        self.stage = ''

    def __call__(self, call, args, kwargs, context):
        """Stands in for every method of every module (`nn.intercept_methods`)."""
        result = call(*args, **kwargs)
        if context.method_name != '__call__':
            return result
        layer = '/'.join((self.stage, *context.module.path))
        for adapter in self.adapters:
            name = {LoRA: 'lora', ResidualAdapter: 'residual', ScaleShift: 'scale_shift'}[
                type(adapter)
            ]
            home = f'{layer}/adapter/{name}/'
            leaves = {p.removeprefix(home): x for p, x in self.added.items() if p.startswith(home)}
            if leaves and any(tree.matches(pattern, layer) for pattern in adapter.layers):
                result = getattr(self, name)(adapter, leaves, context.module, args[0], result)
        return result

    def lora(self, adapter, leaves, module, x, y):
        """A convolution or product of `rank` outputs, and a pointwise one behind it."""
        down, up = leaves['down'], leaves['up']
        rank = len(up)
        groups = getattr(module, 'feature_group_count', 1)
        if down.ndim == 2:
            thin = x @ down
        else:
            thin = convolution(x, jnp.tile(down, (1, 1, 1, groups)), module, module.padding)
        thin = thin.reshape(*thin.shape[:-1], groups, rank)
        wide = jnp.einsum('...gr,rgo->...go', thin, up.reshape(rank, groups, -1))
        return y + adapter.alpha / rank * wide.reshape(y.shape)

    def residual(self, adapter, leaves, module, x, y):
        """A 1x1 convolution beside the layer."""
        return y + convolution(x, leaves['kernel'][None, None], module, 'VALID')

    def scale_shift(self, adapter, leaves, module, x, y):
        """What comes out, scaled and shifted."""
        row = (1,) * (y.ndim - 1) + (-1,)
        return y * (1 + leaves['gain']).reshape(row) + leaves['shift'].reshape(row)


def convolution(x, kernel, module, padding):
    """A convolution with the strides and groups of a layer."""
    return jax.lax.conv_general_dilated(
        x,
        jnp.asarray(kernel),
        tuple(np.broadcast_to(module.strides, 2)),
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=module.feature_group_count,
    )


def logits_apart(model, params, stats):
    """Logits with every adapter computed apart from its layer."""
    plain = dataclasses.replace(model, adapters=())
    own = tree.unflatten(split(params)[0])
    apart = Apart(params, model.adapters)

    def run(own, stats, x):
        for name, following in zip(model.names, [*model.names[1:], None], strict=True):
            apart.stage = name
            x, _ = stages.run(plain, own, stats, x, start=name, stop=following)
        return x

    with nn.intercept_methods(apart):
        return np.asarray(jax.jit(run, compiler_options=OPTIONS)(own, stats, IMAGES))


def assert_close(ours, wanted):
    """To 1e-5 of the largest."""
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize('name', CASES)
def test_adapters_change_nothing_at_the_start(name):
    model, params, stats, adapters = network(name)
    _, whole = adapted(model, params, adapters, 0)
    before = program(name, with_adapters=False)(params, stats)
    after = program(name, with_adapters=True)(whole, stats)
    assert np.abs(before).max() > 0.01
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6 * np.abs(before).max())


# BiT standardises a kernel after an adapter was merged into it: it is no sum of two outputs.
ADDED = [case for case in CASES if 'BiT' not in (case if isinstance(case, str) else case.values)]


@pytest.mark.parametrize('name', ADDED)
def test_the_merged_network_gives_what_the_adapters_give_apart_from_it(name):
    model, params, stats, adapters = network(name)
    model, whole = adapted(model, params, adapters, 0.05)
    apart = logits_apart(model, whole, stats)
    merged = stages.plain(adapters, whole)
    assert tree.flatten(merged).keys() == tree.flatten(params).keys()
    plain = program(name, with_adapters=False)
    assert np.abs(apart - plain(params, stats)).max() > 0.01 * np.abs(apart).max()
    assert_close(plain(merged, stats), apart)
    assert_close(program(name, with_adapters=True)(whole, stats), apart)


@pytest.mark.parametrize('adapter', ALL, ids=lambda one: type(one).__name__)
def test_each_adapter_alone_merges_and_changes_the_network(adapter):
    model, params, stats, _ = network('Tiny')
    model, whole = adapted(model, params, (adapter,), 0.3)
    plain = program('Tiny', with_adapters=False)
    apart, merged = logits_apart(model, whole, stats), stages.plain((adapter,), whole)
    assert np.abs(apart - plain(params, stats)).max() > 0.01 * np.abs(apart).max()
    assert_close(plain(merged, stats), apart)


def test_batch_statistics_are_those_of_the_merged_network():
    model, params, stats, adapters = network('Tiny')
    model, whole = adapted(model, params, adapters, 0.05)
    merged = stages.plain(adapters, whole)
    ours, wanted = (logits(model, p, stats, trainable=model.names) for p in (whole, merged))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, wanted)


def test_a_folded_prefix_has_its_adapters_merged():
    model, params, stats, adapters = network('Tiny')
    model, whole = adapted(model, params, adapters, 0.05)
    folded = batch_norm_folding.folded(model, whole, stats, model.names)
    wanted = program('Tiny', with_adapters=True)(whole, stats)
    assert_close(logits(model, *folded)[0], wanted)


# --- what is added, and where ---


def layers_of(adapters, name='ResNetSmall'):
    """The paths of the layers with something added."""
    params = network(name)[1]
    added = split(extended(adapters, params, jax.random.key(0)))[1]
    return {path.partition('/adapter/')[0] for path in added}


def test_the_head_is_not_adapted():
    for name, (_, _, adapters) in NETWORKS.items():
        assert not [layer for layer in layers_of(adapters, name) if layer.startswith('head')]


def test_lora_goes_to_every_convolution_and_linear_layer_below_the_head():
    for name in NETWORKS:
        _, params, _, _ = network(name)
        kernels = {p.removesuffix('/kernel') for p in tree.flatten(params) if '/kernel' in p}
        assert layers_of((LoRA(),), name) == kernels - {'head/linear'}


def test_scale_and_shift_go_to_norms_where_convolutions_have_no_bias():
    layers = layers_of((ScaleShift(),), 'ResNet')
    assert layers
    assert all(layer.rpartition('/')[2].startswith(('bn', 'downsample_bn')) for layer in layers)
    assert 'stage1/conv1' in layers_of((ScaleShift(),), 'VGG')
    assert {'block1/qkv', 'block1/norm1'} <= layers_of((ScaleShift(),), 'ViT')


def test_residual_adapters_go_to_windows_with_a_centre():
    layers = layers_of((ResidualAdapter(),), 'ResNet in groups')
    assert layers
    assert {layer.rpartition('/')[2] for layer in layers - {'stem/conv1'}} == {'conv2'}
    stages = {layer.split('/')[0] for layer in layers_of((ResidualAdapter(),), 'ConvNeXt')}
    assert stages == {'stage1', 'stage2', 'stage3', 'stage4'}  # not the stem's 4x4 window


def test_patterns_choose_the_layers():
    assert layers_of((LoRA(layers=('stage3/*/conv1',)),)) == {
        f'stage3/block{i}/conv1' for i in (1, 2, 3)
    }


def test_two_loras_on_different_layers_merge_each_by_its_own_factor():
    model, params, stats, _ = network('Tiny')
    both = LoRA(rank=2, alpha=1.0, layers=('low',)), LoRA(rank=3, alpha=9.0, layers=('high',))
    model, whole = adapted(model, params, both, 0.05)
    merged = stages.plain(both, whole)
    plain = program('Tiny', with_adapters=False)(merged, stats)
    assert_close(plain, logits_apart(model, whole, stats))


def test_what_is_drawn_depends_on_the_key_and_the_path_alone():
    _, params, _, _ = network('ResNetSmall')
    path, key = 'stage3/block1/conv1/adapter/lora/down', jax.random.key(0)
    one = LoRA().add(params, key)[path]
    few = LoRA(layers=('stage3/block1',)).add(stages.shapes(network('ResNetSmall')[0])[0], key)
    np.testing.assert_array_equal(one, few[path])
    assert not np.array_equal(one, LoRA().add(params, jax.random.key(1))[path])
    assert not np.array_equal(one, LoRA().add(params, key)[path.replace('conv1', 'conv2')])
    np.testing.assert_allclose(one.std() * np.sqrt(np.prod(one.shape[:-1])), 1, rtol=0.1)


def test_the_stages_stay_in_forward_order():
    model, params, _, adapters = network('ResNetSmall')
    assert tuple(extended(adapters, params, jax.random.key(0))) == model.names


@pytest.mark.parametrize(
    ('adapters', 'name', 'words'),
    [
        ((LoRA(layers=('**', 'stage9')),), 'ResNetSmall', r"\['stage9'\] match no layer"),
        ((ResidualAdapter(),), 'ViT', 'window is square, of an odd side.*the model has none'),
        ((ResidualAdapter(layers=('stem',)),), 'ConvNeXt', r"\['stem'\] match no layer.*stage1"),
        ((ScaleShift(layers=('**/conv1',)),), 'ResNetSmall', 'a bias and a kernel or scale'),
        ((LoRA(), LoRA(layers=('stage1',))), 'ResNetSmall', 'exist already'),
    ],
)  # fmt: skip
def test_an_adapter_without_a_layer_of_its_own_is_refused(adapters, name, words):
    with pytest.raises(InputError, match=words):
        layers_of(adapters, name)


@pytest.mark.parametrize(
    ('adapter', 'words'),
    [
        (LoRA(rank=0), 'rank is 0'),
        (LoRA(alpha=float('nan')), 'alpha is nan'),
        (LoRA(layers=()), r'layers is \(\)'),
        (ScaleShift(layers=()), r'layers is \(\)'),
        (ResidualAdapter(layers=()), r'layers is \(\)'),
    ],
)
def test_a_field_that_cannot_be_is_named(adapter, words):
    (problem,) = adapter.problems()
    assert problem.startswith(words.replace('\\', ''))


# --- what trains of them ---


def trained(strategy, adapters=ALL, norm=Norm.AUTO):
    """A bool per leaf, for each phase of a strategy."""
    _, params, _, _ = network('ResNetSmall')
    whole = extended(adapters, params, jax.random.key(0))
    return [
        partition.trained(partition.assign(whole, p.rules, norm)) for p in strategy.phases(whole)
    ]


def test_adapters_only_trains_what_was_added_and_the_head():
    (leaves,) = map(tree.flatten, trained(AdaptersOnly()))
    wanted = {path for path in leaves if '/adapter/' in path or path.startswith('head/')}
    assert {path for path, trains in leaves.items() if trains} == wanted


def test_adapters_only_without_any_is_refused():
    _, params, _, _ = network('ResNetSmall')
    with pytest.raises(InputError, match='no adapter to train'):
        AdaptersOnly().phases(params)


def test_frozen_norms_leave_what_was_added_to_them_to_the_rules():
    (leaves,) = map(tree.flatten, trained(FineTune(), norm=Norm.FROZEN))
    of_norms = {path: trains for path, trains in leaves.items() if '/bn1/' in path}
    assert of_norms
    assert all(trains == ('/adapter/' in path) for path, trains in of_norms.items())


@pytest.mark.parametrize('strategy', [LinearProbe(), BiasOnly(), FreezeBelow(stage='stage2')])
def test_a_strategy_that_leaves_an_adapter_as_it_is_is_refused(strategy):
    with pytest.raises(InputError, match=r'stem/conv1/adapter/lora/down.*train in no phase'):
        check_trained(trained(strategy))


def test_a_strategy_that_trains_every_adapter_passes():
    check_trained(trained(AdaptersOnly()))
    check_trained(trained(FreezeBelow(stage='stage2'), (LoRA(layers=('stage2', 'stage3')),)))


class Odd(nn.Module):
    """A layer that no adapter knows, with a kernel of three axes."""

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """[B, H, W, C] to [B, H, W, C]."""
        kernel = self.param('kernel', nn.initializers.ones, (3, 2, 2))
        return layers.conv(3, 3, name='conv')(x * kernel.sum())


def test_a_layer_that_no_adapter_knows_is_left_alone():
    parts = {'odd': Odd(), 'head': layers.ClassifierHead(2)}
    model = stages.Model(stages=parts, preprocessing=SMALL, num_classes=2)
    params, _ = stages.shapes(model)
    added = LoRA().add(params, jax.random.key(0))
    assert {path.partition('/adapter/')[0] for path in added} == {'odd/conv'}
