"""Image towers of networks of images and texts load from files and repositories in every form."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import tljax
from tests import golden_small
from tests.golden_networks import figures
from tljax import tree
from tljax.models import port
from tljax.types import InputError, Interpolation, Preprocessing
from tljax.weights import loading

CLIP_IMAGES = tljax.CLIP(size_px=32).preprocessing()
# Text towers: more entries than the image tower, and OpenAI's has entries of the same names.
OPENAI_TEXT = {
    'positional_embedding': (7, 8),
    'text_projection': (8, 24),
    'logit_scale': (),
    'token_embedding.weight': (9, 8),
    **{
        f'transformer.resblocks.{block}.{name}': shape
        for block in range(9)
        for name, shape in {
            'attn.in_proj_weight': (24, 8), 'attn.in_proj_bias': (24,), 'ln_1.weight': (8,),
            'mlp.c_fc.weight': (32, 8), 'mlp.c_fc.bias': (32,), 'ln_1.bias': (8,),
        }.items()
    },
}  # fmt: skip
TRANSFORMERS_TEXT = {
    'logit_scale': (),
    'text_projection.weight': (24, 8),
    'text_model.embeddings.position_embedding.weight': (7, 8),
    **{f'text_model.encoder.layers.{b}.self_attn.q_proj.weight': (8, 8) for b in range(60)},
}
BIG_VISION_TEXT = {'params/t': (1,), 'params/b': (1,), 'params/txt/Embed_0/embedding': (9, 8)}


def tower(family, case):
    """The entries of a case of the golden figures."""
    return figures.entries(figures.cases(family)[case]['manifest'])


def text(shapes):
    """Entries of a text tower."""
    return {name: golden_small.tensor(name, shape) for name, shape in shapes.items()}


def params_of(pretrained):
    """`{path: array}`."""
    return tree.flatten(pretrained.params)


def assert_same(one, other, dtype=np.float32):
    """Two networks have the same values, rounded to a dtype."""
    first, second = params_of(one), params_of(other)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[path].astype(dtype).astype(np.float32))


def repository(folder, files, entries, weights='model.safetensors'):
    """A folder as a hub has it, of JSON files and weights."""
    folder.mkdir(exist_ok=True)
    for name, fields in files.items():
        (folder / name).write_text(json.dumps(fields))
    safetensors.numpy.save_file(entries, folder / weights)
    return folder


@pytest.mark.parametrize(
    ('family', 'case', 'others', 'prefix'),
    [
        ('clip', 'openai', OPENAI_TEXT, ''),
        ('clip', 'openai', OPENAI_TEXT, 'module.'),
        ('clip', 'open_clip', {'text.ln_final.weight': (8,), 'logit_scale': ()}, ''),
        ('clip', 'transformers', TRANSFORMERS_TEXT, ''),
        ('siglip', 'transformers', TRANSFORMERS_TEXT, ''),
        ('siglip', 'open_clip', {'text.ln_final.weight': (8,), 'logit_bias': ()}, ''),
        ('siglip', 'big_vision', BIG_VISION_TEXT, ''),
    ],
)
def test_the_text_tower_of_a_file_is_left_out_with_a_note(family, case, others, prefix):
    entries = tower(family, case)
    every = {prefix + name: array for name, array in {**text(others), **entries}.items()}
    loaded, alone = loading.load(every), loading.load(entries)
    assert loaded.architecture == alone.architecture
    assert_same(loaded, alone)
    (note,) = loaded.origin.notes
    assert f'left out {len(others)} others' in note
    assert alone.origin.notes == ()


@pytest.mark.parametrize(
    ('family', 'case', 'prefix'),
    [
        ('clip', 'openai', 'visual.'),
        ('clip', 'transformers', 'vision_model.'),
        ('siglip', 'transformers', 'vision_model.'),
    ],
)
def test_a_tower_without_the_prefix_of_its_names_is_the_same(family, case, prefix):
    entries = tower(family, case)
    loaded = loading.load({name.removeprefix(prefix): array for name, array in entries.items()})
    assert_same(loaded, loading.load(entries))


def test_an_entry_that_no_rule_names_is_an_error():
    for family, case, name in (
        ('clip', 'openai', 'visual.transformer.resblocks.0.ls_1.gamma'),
        ('clip', 'transformers', 'vision_model.head.probe'),
        ('siglip', 'timm', 'attn_pool.q_norm.weight'),
        ('siglip', 'big_vision', 'params/img/cls'),
    ):
        with pytest.raises(InputError, match=name.replace('.', r'\.')):
            loading.load({**tower(family, case), name: np.ones(64, np.float32)})


class TestProjection:
    """CLIP's projection is the head of its files."""

    def test_it_is_kept_without_a_new_head_and_gives_the_embedding(self):
        network = tljax.load(tower('clip', 'openai'))
        assert network.params['head']['projection']['kernel'].shape == (64, 24)
        x = golden_small.images(2, 32)
        expected = figures.cases('clip')['openai']['outputs']['32']
        np.testing.assert_allclose(network.logits(x), expected, atol=1e-4, rtol=0)

    def test_a_new_head_reads_the_class_token_before_it(self):
        network = tljax.load(tower('clip', 'openai'), 3)
        assert network.params['head']['linear']['kernel'].shape == (64, 3)
        assert network.params['head']['linear']['bias'].shape == (3,)

    def test_a_backbone_that_does_not_name_it_leaves_it_out(self):
        entries = tower('clip', 'openai')
        one = loading.load(entries).architecture.backbone
        fields = {'width': 64, 'patch_px': 16, 'size_px': 32, 'depth': 3}
        pretrained = loading.load(entries, tljax.CLIP(**fields))
        assert one == tljax.CLIP(**fields, projection=24)
        assert 'head' not in pretrained.params

    def test_an_export_and_its_import_keep_it(self, tmp_path):
        network = tljax.load(tower('clip', 'openai'))
        leaves = tree.flatten({'params': jax.device_get(network.params)})
        again = loading.load(leaves)
        assert again.num_classes == 24
        assert again.architecture.backbone.projection == 24
        table = again.architecture.backbone.port_tables()['transformers']
        foreign = port.to_foreign(leaves, table)
        np.testing.assert_array_equal(
            foreign['visual_projection.weight'], leaves['params/head/projection/kernel'].T
        )


TRANSFORMERS_CONFIG = {
    'model_type': 'clip',
    'projection_dim': 24,
    'text_config': {'hidden_act': 'relu', 'hidden_size': 8, 'num_attention_heads': 4},
    'vision_config': {
        'model_type': 'clip_vision_model', 'hidden_act': 'gelu', 'hidden_size': 64,
        'num_hidden_layers': 2, 'num_attention_heads': 2, 'layer_norm_eps': 1e-4, 'patch_size': 16,
        'id2label': {'0': 'LABEL_0', '1': 'LABEL_1'},
    },
}  # fmt: skip
PREPROCESSOR = {
    'crop_size': 48, 'do_center_crop': True, 'do_normalize': True, 'do_resize': True,
    'image_mean': [0.4, 0.5, 0.6], 'image_std': [0.2, 0.3, 0.4], 'resample': 3, 'size': 64,
}  # fmt: skip


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16])
def test_a_repository_of_transformers_states_the_tower_and_its_images(dtype, tmp_path):
    entries = tower('clip', 'transformers')
    halves = {name: array.astype(dtype) for name, array in entries.items()}
    ids = {'vision_model.embeddings.position_ids': np.arange(5)[None]}
    files = {'config.json': TRANSFORMERS_CONFIG, 'preprocessor_config.json': PREPROCESSOR}
    folder = repository(tmp_path / 'r', files, {**halves, **text(TRANSFORMERS_TEXT), **ids})
    loaded = loading.load(folder)
    backbone = loaded.architecture.backbone
    assert (backbone.activation, backbone.head_width, backbone.epsilon) == ('gelu', 32, 1e-4)
    assert loaded.preprocessing == Preprocessing(
        size_px=48,
        resize_px=64,
        interpolation=Interpolation.BICUBIC,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
    )
    assert loaded.assumed == ()
    assert_same(loaded, loading.load(entries), dtype)


@pytest.mark.parametrize(
    ('stated', 'activation'), [({'quick_gelu': True}, 'quick_gelu'), ({}, 'gelu')]
)
def test_a_repository_of_open_clip_states_the_tower_and_its_images(stated, activation, tmp_path):
    config = {
        'model_cfg': {
            'embed_dim': 24,
            **stated,
            'vision_cfg': {
                'image_size': 32, 'layers': 3, 'width': 64, 'patch_size': 16, 'head_width': 32,
            },
            'text_cfg': {'width': 8, 'heads': 2, 'layers': 9},
        },
        'preprocess_cfg': {'mean': [0.4, 0.5, 0.6], 'std': [0.2, 0.3, 0.4]},
    }  # fmt: skip
    entries = {**tower('clip', 'openai'), **text(OPENAI_TEXT)}
    files = {'open_clip_config.json': config, 'config.json': TRANSFORMERS_CONFIG}
    folder = repository(tmp_path / 'r', files, entries, 'open_clip_model.safetensors')
    for place in (folder, folder / 'open_clip_model.safetensors'):
        loaded = loading.load(place)
        backbone = loaded.architecture.backbone
        assert (backbone.activation, backbone.head_width) == (activation, 32)
        assert (loaded.preprocessing.size_px, loaded.preprocessing.mean) == (32, (0.4, 0.5, 0.6))
        assert loaded.preprocessing.interpolation is Interpolation.BICUBIC
        assert loaded.assumed == ()


def test_a_tower_of_timm_in_a_repository_of_open_clip(tmp_path):
    tower_fields = {'image_size': 30, 'timm_model_name': 'vit_base_patch16_siglip_224'}
    config = {'model_cfg': {'embed_dim': 99, 'vision_cfg': {**tower_fields, 'timm_pool': 'map'}}}
    files = {'open_clip_config.json': config}
    entries = {**tower('siglip', 'open_clip'), 'logit_bias': np.ones((), np.float32)}
    loaded = loading.load(repository(tmp_path / 'r', files, entries, 'open_clip_model.safetensors'))
    assert loaded.origin.naming == 'open_clip'
    assert loaded.preprocessing.size_px == 30


def test_averages_are_refused_where_the_tower_has_another_pooling(tmp_path):
    for family, case in (('clip', 'timm'), ('siglip', 'timm')):
        config = {'model_args': {'global_pool': 'avg'}}
        folder = repository(tmp_path / family, {'config.json': config}, tower(family, case))
        with pytest.raises(InputError, match='global_pool is stated'):
            loading.load(folder)


def test_a_bare_file_of_openai_gets_its_activation_and_images_with_a_note():
    loaded = loading.load(tower('clip', 'openai'))
    assert loaded.architecture.backbone.activation == 'quick_gelu'
    assert loaded.preprocessing == CLIP_IMAGES
    (note,) = loaded.assumed
    assert "activation quick_gelu (OpenAI's; most of open_clip's networks have gelu)" in note


def test_a_repository_of_siglip_states_its_images(tmp_path):
    config = {'vision_config': {'hidden_size': 128, 'num_attention_heads': 2, 'image_size': 30}}
    preprocessor = {
        'do_normalize': True, 'do_resize': True, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3,
        'resample': 3, 'rescale_factor': 1 / 255, 'size': {'height': 30, 'width': 30},
    }  # fmt: skip
    files = {'config.json': config, 'preprocessor_config.json': preprocessor}
    loaded = loading.load(repository(tmp_path / 'r', files, tower('siglip', 'transformers')))
    assert loaded.architecture.backbone.size_px == 28
    assert (loaded.preprocessing.size_px, loaded.preprocessing.resize_px) == (30, 30)
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ('width', 'patch_px', 'grid', 'naming', 'activation'),
    [
        (768, 16, 14, 'timm', 'gelu'),
        (1152, 14, 27, 'open_clip', 'gelu'),
        (1152, 16, 16, 'timm', 'gelu_tanh'),
        (768, 16, 14, 'transformers', 'gelu_tanh'),
    ],
)
def test_siglip_of_timm_has_the_activation_of_its_definition(
    width, patch_px, grid, naming, activation
):
    shapes = {
        'params/embed/patch/kernel': (patch_px, patch_px, 3, width),
        'params/embed/position_embedding': (1, grid**2, width),
        'params/block1/fc1/kernel': (width, 4 * width),
        'params/block1/norm2/scale': (width,),
        'params/pool/probe': (1, 1, width),
    }
    assert tljax.SigLIP().fitted(shapes, naming).activation == activation


def in_parts(folder, entries, change=None):
    """A repository with weights in two files and their index."""
    names = sorted(entries)
    files = [f'model-0000{i}-of-00002.safetensors' for i in (1, 2)]
    for i, file in enumerate(files):
        repository(folder, {}, {n: entries[n] for n in names[i::2]}, file)
    weight_map = {name: files[i % 2] for i, name in enumerate(names)} | (change or {})
    repository(folder, {'model.safetensors.index.json': {'weight_map': weight_map}}, {}, 'x.bin')
    (folder / 'x.bin').unlink()
    return folder


@pytest.mark.parametrize(('family', 'case'), [('clip', 'transformers'), ('siglip', 'transformers')])
def test_weights_in_several_parts_are_those_of_one_file(family, case, tmp_path):
    entries = tower(family, case)
    folder = in_parts(tmp_path / 'r', {**entries, **text(TRANSFORMERS_TEXT)})
    loaded = loading.load(folder)
    assert loaded.origin.format == 'safetensors in 2 parts'
    assert_same(loaded, loading.load(entries))
    assert_same(loaded, loading.load(folder / 'model.safetensors.index.json'))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'visual_projection.weight': '../w.safetensors'}, 'wanted one beside it'),
        ({'visual_projection.weight': 'model-00001-of-00003.safetensors'}, 'no regular file'),
        ({'lacking': 'model-00001-of-00002.safetensors'}, '1 entries are not in .*: lacking'),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(change, reason, tmp_path):
    folder = in_parts(tmp_path / 'r', tower('clip', 'transformers'), change)
    with pytest.raises(InputError, match=reason):
        loading.load(folder)
