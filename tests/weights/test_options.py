"""What files state beside their tensors is found and held against the network."""

import argparse
import json
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from tests.weights.test_network_options import BACKBONE, leaves  # noqa: F401  (a fixture)
from tljax.models import port
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.dinov2 import DINOv2
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.vit import ViT
from tljax.types import InputError, Preprocessing
from tljax.weights import image_options, loading, network_options, options, torch_file, torch_pickle
from tljax.weights.options import OptionError

ARRAY = np.zeros((2, 2), np.float32)


class Namespaced:
    """As the reader of torch files hands over an `argparse.Namespace`."""

    def __init__(self, **fields):
        self.fields = fields


@pytest.mark.parametrize(
    'content',
    [
        {'model': {'w': ARRAY}, 'num_heads': 6},
        {'model': {'w': ARRAY}, 'args': Namespaced(num_heads=6)},
        {'state_dict': {'w': ARRAY}, 'hyper_parameters': {'num_heads': 6, 'lr': 0.1}},
        {'state_dict': {'w': ARRAY}, 'config': {'model': {'num_heads': 6}}},
        {'state_dict': {'w': ARRAY}, 'architecture': {'vision_config': {'num_heads': 6}}},
    ],
)
def test_options_beside_tensors_are_found(content):
    assert options.collect(content)['num_heads'] == 6


def test_options_of_other_networks_are_not_taken():
    content = {'config': {'text_config': {'num_heads': 8}, 'decoder': {'num_heads': 4}}}
    assert 'num_heads' not in options.collect(content)


def test_two_values_of_one_fact_are_refused():
    with pytest.raises(OptionError, match='num_heads is stated as 6 and as 3'):
        options.collect({'args': {'num_heads': 6}, 'config': {'num_heads': 3}})


def test_metadata_is_read_as_json_or_text():
    texts = {'config': json.dumps({'num_heads': 6}), 'hidden_act': 'quick_gelu'}
    assert options.from_texts(texts) == {'num_heads': 6, 'hidden_act': 'quick_gelu'}


@pytest.mark.parametrize(
    ('backbone', 'stated', 'word'),
    [
        (ResNet(depth=50), {'antialiased': True}, 'antialiased'),
        (ResNet(depth=50), {'aa_layer': 'BlurPool2d'}, 'aa_layer'),
        (ResNet(depth=50), {'arch': 'resnet18'}, 'resnet18'),
        (ResNet(depth=50), {'layers': [3, 4, 23, 3]}, 'layers'),
        (ResNet(depth=50), {'hidden_sizes': [64, 128, 256, 512]}, 'hidden_sizes'),
        (ResNet(depth=50), {'bn_eps': 1e-3}, 'bn_eps'),
        (ResNet(depth=50), {'output_stride': 16}, 'output_stride'),
        (ResNet(depth=50), {'downsample_in_bottleneck': True}, 'downsample_in_bottleneck'),
        (ResNet(depth=50), {'activation': 'silu'}, 'silu'),
        (ConvNeXt(), {'depths': [3, 3, 27, 3]}, 'depths'),
        (ConvNeXt(), {'hidden_sizes': [128, 256, 512, 1024]}, 'hidden_sizes'),
        (ConvNeXt(), {'norm_eps': 1e-5}, 'norm_eps'),
        (ViT(), {'global_pool': 'avgmax'}, 'global_pool'),
        (DINOv2(), {'global_pool': 'avg'}, 'global_pool'),
        (ViT(), {'embed_dim': 384}, 'embed_dim'),
        (ViT(), {'architecture': 'vit', 'depth': 24}, 'depth'),
    ],
)
def test_another_network_than_the_entries_show_is_refused(backbone, stated, word):
    with pytest.raises(OptionError, match=word):
        network_options.apply(backbone, stated)


@pytest.mark.parametrize(
    ('backbone', 'stated'),
    [
        (ResNet(depth=50), {'arch': 'resnext50_32x4d', 'antialiased': False, 'bn_eps': 1e-5}),
        (ResNet(depth=50), {'layers': [3, 4, 6, 3], 'hidden_sizes': [256, 512, 1024, 2048]}),
        (ResNet(depth=50), {'activation': 'softmax', 'hidden_act': 'relu'}),
        (ConvNeXt(), {'depths': [3, 3, 9, 3], 'hidden_sizes': [96, 192, 384, 768]}),
        (ConvNeXt(), {'layer_norm_eps': 1e-6, 'hidden_act': 'gelu'}),
        (ViT(), {'global_pool': 'token', 'act_layer': 'nn.GELU', 'num_heads': 12}),
    ],
)
def test_a_statement_that_agrees_changes_nothing(backbone, stated):
    assert network_options.apply(backbone, stated) == backbone


def test_the_stated_epsilon_of_transformers_convnext_is_that_of_its_last_norm():
    found = network_options.apply(ConvNeXt(), {'layer_norm_eps': 1e-5}, 'transformers')
    assert found.pool_epsilon == 1e-5


@pytest.mark.parametrize(
    ('stated', 'mean', 'std'),
    [
        ({'mean': [0.5] * 3, 'std': [0.25] * 3}, 0.5, 0.25),
        ({'mean': [127.5] * 3, 'std': [51.0] * 3}, 0.5, 0.2),
        ({'image_mean': [127.5] * 3, 'image_std': [1.0] * 3}, 0.5, 1 / 255),
        ({'input_range': [0, 255]}, 0.0, 1 / 255),
        ({'input_range': '0..255', 'mean': [51.0] * 3, 'std': [1.0] * 3}, 0.2, 1 / 255),
        ({'input_range': [-1, 1]}, 0.5, 0.5),
    ],
)
def test_the_range_mean_and_deviation_that_are_stated_are_used(stated, mean, std):
    found = image_options.apply(Preprocessing(size_px=20, resize_px=24), stated)
    assert found is not None
    assert found.mean == pytest.approx((mean,) * 3)
    assert found.std == pytest.approx((std,) * 3)
    assert (found.size_px, found.resize_px) == (20, 24)


@pytest.mark.parametrize(
    'stated', [{'input_space': 'BGR'}, {'channel_order': 'bgr'}, {'to_rgb': False}, {'bgr': True}]
)
def test_a_network_that_reads_bgr_is_refused(stated):
    with pytest.raises(OptionError, match='RGB'):
        image_options.apply(Preprocessing(), stated)


def _timm(leaves):  # noqa: F811
    found = port.to_foreign(leaves, BACKBONE.port_tables()['timm'])
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def test_metadata_of_a_safetensors_file_is_followed(leaves, tmp_path):  # noqa: F811
    texts = {'config': json.dumps({'num_heads': 6, 'mean': [0.5] * 3, 'std': [0.5] * 3})}
    safetensors.numpy.save_file(_timm(leaves), tmp_path / 'w.safetensors', texts)
    found = loading.load(tmp_path / 'w.safetensors')
    assert found.architecture.backbone.head_width == 32  # type: ignore[attr-defined]
    assert found.preprocessing.mean == (0.5,) * 3
    assert found.origin.preprocessing_is_stated


def test_preprocessor_config_beside_a_single_file_is_followed(leaves, tmp_path):  # noqa: F811
    safetensors.numpy.save_file(_timm(leaves), tmp_path / 'w.safetensors')
    fields = {'size': 8, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(fields))
    assert loading.load(tmp_path / 'w.safetensors').preprocessing.mean == (0.5,) * 3


def test_a_backbone_that_contradicts_a_statement_is_refused(leaves):  # noqa: F811
    content = {'model': _timm(leaves), 'args': {'num_heads': 6}}
    with pytest.raises(InputError, match=r'head_width=32 \(not 64\)'):
        loading.load(content, BACKBONE)


class Fields(dict):
    """A kind of dictionary, as EasyDict and Lightning's AttributeDict are."""


@pytest.mark.parametrize('kind', [argparse.Namespace, Fields])
def test_fields_of_objects_in_a_torch_file_are_kept_as_data(kind, tmp_path):
    with zipfile.ZipFile(tmp_path / 'w.pth', 'w') as archive:
        archive.writestr('w/data.pkl', pickle.dumps({'args': kind(num_heads=6)}, 2))
    content = torch_file.read(tmp_path / 'w.pth')
    assert isinstance(content['args'], torch_pickle.StandIn)
    assert options.collect(content) == {'num_heads': 6}
