"""What is said beside weights is followed or refused; what nothing says is told."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import tljax
from tljax import tree
from tljax.models import port, stages, transformer
from tljax.models.backbones import vit_tables
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.vit import ViT
from tljax.types import InputError
from tljax.weights import loading, locations, network_options, published

BACKBONE = ViT(width=192, depth=1, patch_px=4, size_px=8)


@pytest.fixture(scope='module')
def leaves():
    params, stats = stages.shapes(stages.build(BACKBONE, 3))
    rng = np.random.default_rng(0)
    return {
        path: rng.normal(size=leaf.shape).astype('f')
        for path, leaf in tree.flatten({'params': params, 'batch_stats': stats}).items()
    }


def _write(tmp_path, leaves, config):
    path = tmp_path / 'w.safetensors'
    safetensors.numpy.save_file(
        {
            name: np.ascontiguousarray(array)
            for name, array in port.to_foreign(leaves, BACKBONE.port_tables()['timm']).items()
        },
        path,
    )
    if config is not None:
        (tmp_path / 'config.json').write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ('config', 'field', 'value'),
    [
        ({'num_attention_heads': 6}, 'head_width', 32),
        ({'model_args': {'num_heads': 12}}, 'head_width', 16),
        ({'hidden_act': 'gelu_new'}, 'activation', 'gelu_tanh'),
        ({'architecture': 'vit_base_patch16_clip_quickgelu_224'}, 'activation', 'quick_gelu'),
        ({'layer_norm_eps': 1e-5}, 'epsilon', 1e-5),
    ],
)
def test_a_statement_beside_the_file_wins(config, field, value, leaves, tmp_path):
    found = loading.load(_write(tmp_path, leaves, config))
    assert getattr(found.architecture.backbone, field) == value


@pytest.mark.parametrize(
    'config', [{'hidden_act': 'mish'}, {'num_attention_heads': 7}, {'hidden_size': 384}]
)
def test_a_statement_that_cannot_be_followed_is_refused(config, leaves, tmp_path):
    with pytest.raises(InputError, match='stated'):
        loading.load(_write(tmp_path, leaves, config))


@pytest.mark.parametrize('name', ['resnetblur50', 'resnetaa50', 'seresnet50'])
def test_resnets_with_other_layers_are_refused_by_their_name(name):
    with pytest.raises(InputError, match=name):
        network_options.apply(ResNet(), {'architecture': name})


def test_what_nothing_says_is_told(leaves, tmp_path):
    (note,) = loading.load(_write(tmp_path, leaves, None)).assumed
    assert '3 attention heads' in note


def test_googles_names_give_the_same_leaves_with_the_heads_of_the_file(leaves, tmp_path):
    table = ViT(width=192, depth=1, patch_px=4, size_px=8, head_width=32).port_tables()['google']
    np.savez(tmp_path / 'g.npz', **port.to_foreign(leaves, table))
    found = loading.load(tmp_path / 'g.npz')
    assert found.architecture.backbone.head_width == 32
    assert found.origin.naming == 'google'
    got = tree.flatten({'params': found.params})
    assert all(np.array_equal(got[path], leaf) for path, leaf in leaves.items())


def test_attention_kernels_of_google_are_joined_query_first():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 8, 2, 4))
    rule = next(r for r in ViT(head_width=4).port_tables()['google'] if 'qkv/kernel' in str(r.ours))
    ours = rule.transform.to_ours(np.concatenate([q, k, v]))
    assert np.array_equal(ours, np.hstack([part.reshape(8, 8) for part in (q, k, v)]))


def test_a_short_name_is_the_current_default():
    assert published.full_name('resnet50') == 'resnet50-11ad3fa6'
    assert published.full_name('resnet18') == 'resnet18-f37072fd'


def test_a_short_name_is_recorded_in_full(leaves, tmp_path, monkeypatch):
    path = _write(tmp_path, leaves, None)
    monkeypatch.setattr(locations.download, 'download', lambda url: path)
    opened = loading.open_('torchvision:resnet18')
    assert opened.origin.source == 'torchvision:resnet18-f37072fd'


def test_googles_names_give_the_network_of_timms(leaves, tmp_path):
    np.savez(tmp_path / 'g.npz', **port.to_foreign(leaves, BACKBONE.port_tables()['google']))
    one, other = (tljax.load(p) for p in (_write(tmp_path, leaves, None), tmp_path / 'g.npz'))
    assert one.model == other.model
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_big_vision_names_give_the_same_leaves(leaves, tmp_path):
    entries = port.to_foreign(leaves, BACKBONE.port_tables()['google'])
    for theirs, other in vit_tables.BIG_VISION.items():
        entries = {name.replace(theirs, other): array for name, array in entries.items()}
    np.savez(tmp_path / 'b.npz', **entries)
    got = tree.flatten({'params': loading.load(tmp_path / 'b.npz').params})
    assert all(np.array_equal(got[path], leaf) for path, leaf in leaves.items())


@pytest.mark.parametrize(
    ('activation', 'at_minus_one'),
    [('gelu', -0.158655), ('gelu_tanh', -0.158808), ('quick_gelu', -0.154203), ('relu', 0.0)],
)
def test_the_values_of_activations(activation, at_minus_one):
    value = float(transformer.ACTIVATIONS[activation](-1.0))
    assert value == pytest.approx(at_minus_one, abs=2e-6)


def test_an_unknown_short_name_lists_near_ones():
    with pytest.raises(InputError, match='resnet50-11ad3fa6|resnet50-0676ba61'):
        published.full_name('resnet5')
