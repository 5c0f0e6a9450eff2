"""Files of self-supervised pretraining: several networks, decoders, other heads, half precision."""

import jax
import ml_dtypes
import numpy as np
import pytest

from tljax import tree
from tljax.models import port, stages
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.dinov2 import DINOv2
from tljax.models.backbones.vit import ViT
from tljax.weights import loading

VIT = ViT(width=64, depth=2, size_px=32)
DINO = DINOv2(width=64, depth=2, size_px=28, registers=4)


def entries(backbone, naming, value=0.0):
    """A state dict without a head, of one value."""
    params, _ = stages.shapes(stages.build(backbone, 3))
    leaves = {
        path: np.full(leaf.shape, value, np.float32)
        for path, leaf in tree.flatten({'params': params}).items()
        if not path.startswith('params/head/')
    }
    return port.to_foreign(leaves, backbone.port_tables()[naming])


def under(prefix, names):
    """The entries with a prefix."""
    return {prefix + name: value for name, value in names.items()}


def value_of(pretrained):
    """The value of every leaf."""
    return {float(x.flat[0]) for x in jax.tree.leaves(pretrained.params)}


def test_dinov2_loads_its_teacher_from_a_checkpoint_of_training_with_chunks_of_blocks():
    names = entries(DINO, 'facebook', 1.0)
    chunked = {name.replace('blocks.', 'blocks.0.'): value for name, value in names.items()}
    heads = {f'dino_head.mlp.{i}.weight': np.zeros((64, 64), np.float32) for i in (0, 2, 4)}
    network = under('backbone.', chunked) | heads
    other = {name: value + 1 for name, value in network.items()}
    pretrained = loading.load({'student': other, 'teacher': network})
    assert pretrained.architecture.backbone == loading.load(names).architecture.backbone
    assert value_of(pretrained) == {1.0}
    assert any('left out: dino_head.mlp.0.weight' in note for note in pretrained.origin.notes)


def test_mocov3_loads_its_trained_encoder_without_the_projection():
    projection = {
        'head.0.weight': np.zeros((32, 64), np.float32),
        'head.1.running_mean': np.zeros(32, np.float32),
    }
    trained = entries(VIT, 'timm', 1.0) | projection
    content = under('module.base_encoder.', trained) | under(
        'module.momentum_encoder.', entries(VIT, 'timm', 2.0) | projection
    )
    pretrained = loading.load({'epoch': 300, 'state_dict': content})
    assert value_of(pretrained) == {1.0}
    assert pretrained.num_classes is None
    assert any('another form' in note for note in pretrained.origin.notes)


@pytest.mark.parametrize('naming', ['timm', 'transformers'])
def test_mae_loads_its_encoder_and_names_what_is_left_out(naming):
    decoder = {
        'timm': {'mask_token': np.zeros((1, 1, 32)), 'decoder_embed.bias': np.zeros(32)},
        'transformers': {'decoder.mask_token': np.zeros((1, 1, 32))},
    }[naming]
    pretrained = loading.load({**entries(VIT, naming), **decoder})
    notes = ' '.join(pretrained.origin.notes)
    assert all(name in notes for name in decoder)


def test_dinov3s_convnext_loads_although_its_last_norm_is_there_twice():
    names = entries(ConvNeXt(depths=(1, 1, 1, 1), widths=(8, 16, 32, 64)), 'facebook', 1.0)
    again = {f'norms.3.{kind}': names[f'norm.{kind}'] for kind in ('weight', 'bias')}
    assert value_of(loading.load({**names, **again})) == {1.0}


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize('backbone', [DINO, VIT], ids=['dinov2', 'vit'])
def test_half_precision_becomes_float32(backbone, dtype):
    half = {n: x.astype(dtype) for n, x in entries(backbone, 'transformers', 0.5).items()}
    pretrained = loading.load(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(pretrained.params)} == {np.dtype('float32')}
    assert value_of(pretrained) == {0.5}
