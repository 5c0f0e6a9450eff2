"""Networks leave as they came: under other libraries' names, as programs, with a card."""

import json
import re
import sys

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import Image

import tljax
from tests import golden_small, small_runs
from tests.state_dicts import foreign
from tljax.commands import export as command
from tljax.config import experiment
from tljax.data import decode
from tljax.data.digits import Digits
from tljax.models import heads, port, stages
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vit import ViT
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import LinearProbe
from tljax.training.run import train
from tljax.types import InputError, Interpolation, Preprocessing
from tljax.weights import export, loading, model_card, own_format, pretrained

SMALL = ResNetSmall()
FAMILIES = [
    ResNet(depth=18),
    SMALL,
    ViT(width=64, depth=2, size_px=32),
    ConvNeXt(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64)),
    EfficientNetLite(depths=(1, 2, 1, 1, 1, 1, 1), widths=(8, 16, 24, 32, 40, 48, 56)),
]
NAMINGS = [
    pytest.param(backbone, naming, marks=[pytest.mark.slow] if index else [])
    for backbone in FAMILIES
    for index, naming in enumerate(backbone.port_tables())
]


@pytest.mark.parametrize(('backbone', 'naming'), NAMINGS, ids=str)
def test_a_file_comes_in_and_leaves_again_bit_for_bit(backbone, naming, tmp_path):
    state_dict = foreign(backbone, naming)
    safetensors.numpy.save_file(state_dict, tmp_path / 'in.safetensors')
    export.export(str(tmp_path / 'in.safetensors'), tmp_path / 'out.safetensors', names=naming)
    found = safetensors.numpy.load_file(tmp_path / 'out.safetensors')
    assert found.keys() == state_dict.keys()
    for name, array in state_dict.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.fixture(scope='module')
def run(probe_run):
    return probe_run


@pytest.fixture(scope='module')
def images():
    """Test images of another size than the network reads [5, 8, 8, 3]."""
    split = small_runs.Blobs().splits()['test']
    return [split.load(i) for i in range(5)]


def test_a_run_is_a_source_of_weights(run, images):
    network = tljax.load(run)
    assert network.class_names == ('a', 'b', 'c')
    assert network.preprocessing.resize_px == 18
    assert network.predict(images).shape == (5, 3)


def test_a_run_can_begin_from_another_ones_weights(run):
    begun = loading.load(run, SMALL)
    assert begun.num_classes == 3
    with pytest.raises(InputError, match=r'are of ResNetSmall\(depth=20.*wanted .*depth=56'):
        loading.load(run, ResNetSmall(depth=56))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r'holds no run: there is no config\.json'):
        tljax.load(tmp_path)


@pytest.mark.parametrize('naming', ['akamaster', pytest.param(port.OWN, marks=pytest.mark.slow)])
def test_an_exported_run_predicts_as_the_run_does(naming, run, images, tmp_path):
    out = tmp_path / 'net.safetensors'
    export.export(str(run), out, names=naming)
    again = tljax.load(out)
    np.testing.assert_array_equal(again.predict(images), tljax.load(run).predict(images))


def test_what_travels_with_weights_is_in_the_file(run, tmp_path):
    export.export(str(run), tmp_path / 'net.safetensors')
    found = loading.load(tmp_path / 'net.safetensors')
    assert found.preprocessing == loading.load(run).preprocessing
    assert found.origin.class_names == ('a', 'b', 'c')
    assert found.origin.licence == 'CC0-1.0'
    with safetensors.safe_open(tmp_path / 'net.safetensors', 'numpy') as handle:
        assert handle.metadata()['format'] == 'pt'  # or timm and transformers refuse it


def test_a_run_records_where_its_weights_came_from(run):
    record = json.loads((run / 'result.json').read_text())['weights']
    path = run.parent / 'source.safetensors'
    assert record['sha256'] == loading.load(path).origin.sha256
    assert (record['licence'], record['naming']) == ('CC0-1.0', 'akamaster')
    assert record['preprocessing']['size_px'] == 32


@pytest.fixture(scope='module')
def card(run, tmp_path_factory):
    out = tmp_path_factory.mktemp('card') / 'net.safetensors'
    return export.export(str(run), out)[1].read_text()


@pytest.mark.parametrize(
    'words',
    [
        'license: cc0-1.0',
        r'ResNetSmall\(depth=20',
        r'\| data \| Blobs\(',
        r'\| strategy \| FreezeBelow\(',
        r'\| test \| 21 \| [\d.]+ % \([\d.]+ to [\d.]+\)',
        'resized to 18 px .bilinear',
        r'mean \[0\.3, 0\.3, 0\.3\]',
        'source.safetensors',
        'SHA-256: `[0-9a-f]{64}`',
        'licence: CC0-1.0',
        'Classes, in the order of the logits: a, b, c',
        '269,267 parameters',
    ],
)
def test_the_card_says(words, card):
    assert re.search(words, card)


def test_somebody_elses_readme_is_left_alone(run, tmp_path):
    (tmp_path / 'README.md').write_text('mine')
    _, card = export.export(str(run), tmp_path / 'net.safetensors')
    assert card == tmp_path / 'net.md'
    assert (tmp_path / 'README.md').read_text() == 'mine'
    assert model_card.MARK in card.read_text()


def test_a_file_that_is_there_is_replaced_only_when_told(run, tmp_path):
    out = tmp_path / 'net.safetensors'
    out.write_text('mine')
    with pytest.raises(InputError, match='--overwrite'):
        export.export(str(run), out)
    assert out.read_text() == 'mine'
    export.export(str(run), out, overwrite=True)
    assert tljax.load(out).class_names


def test_names_that_a_family_does_not_have_are_answered_with_those_it_has(run, tmp_path):
    with pytest.raises(InputError, match=r"'timm': ResNetSmall has those of akamaster, tljax"):
        export.export(str(run), tmp_path / 'net.safetensors', names='timm')
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def headed(tmp_path_factory):
    """A file under our own paths with a head of two layers, and its architecture."""
    path = tmp_path_factory.mktemp('headed') / 'headed.safetensors'
    head = heads.MLPHead(hidden=(6,), kernel_std=0.1)
    whole = loading.load(foreign(SMALL, 'akamaster'))
    what = pretrained.Architecture(backbone=SMALL, cut_after='stage2', head=head)
    params, stats = stages.init(what.build(4), jax.random.key(0))
    values = {**params, 'stem': whole.params['stem']}
    texts = {'architecture': own_format.architecture_text(what)}
    own_format.save(path, jax.tree.map(np.asarray, values), stats, texts)
    return path, what


def test_a_network_cut_off_with_a_head_of_its_own_comes_back_as_it_was(headed, tmp_path):
    path, what = headed
    network = tljax.load(path)
    assert network.model.stages == what.build(4).stages
    out = tmp_path / 'again.safetensors'
    export.export(str(path), out, names=port.OWN)
    x = golden_small.images(1, 32)
    np.testing.assert_array_equal(tljax.load(out).logits(x), network.logits(x))


def test_a_network_that_another_library_does_not_have_is_not_written_under_its_names(
    headed, tmp_path
):
    path, _ = headed
    with pytest.raises(InputError, match=r'(?s)--names=tljax.*\+ params/head/hidden1/kernel'):
        export.export(str(path), tmp_path / 'out.safetensors', names='akamaster')


def test_a_file_cannot_make_the_reader_import_anything(tmp_path, monkeypatch):
    (tmp_path / 'stranger.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    texts = {'architecture': json.dumps({'backbone': {'class': 'stranger:ResNet'}})}
    whole = loading.load(foreign(SMALL, 'akamaster'))
    own_format.save(tmp_path / 'a.safetensors', whole.params, whole.stats, texts)
    assert loading.open_(tmp_path / 'a.safetensors').architecture is None
    assert 'stranger' not in sys.modules


# --- programs ---

OTHER_SIZES = [(61, 40), (20, 20), (33, 90), (32, 32)]


def test_a_program_gives_what_the_network_predicts(run, tmp_path):
    export.export(str(run), tmp_path / 'net.stablehlo', format='stablehlo')
    program = jax.export.deserialize(bytearray((tmp_path / 'net.stablehlo').read_bytes()))
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        images = rng.integers(0, 256, (batch, 18, 18, 3), np.uint8)
        wanted = tljax.load(run).predict(images)
        np.testing.assert_allclose(program.call(images), wanted, atol=1e-5)


def test_a_program_is_for_every_platform(run):
    found = jax.export.deserialize(bytearray(export.program(loading.load(run))))
    assert set(found.platforms) == {'cpu', 'cuda', 'tpu'}


@pytest.mark.parametrize('interpolation', list(Interpolation))
@pytest.mark.parametrize(
    'size',
    [(40, 61), *(pytest.param(size, marks=pytest.mark.slow) for size in OTHER_SIZES)],
    ids=str,
)
def test_a_programs_resizing_is_pillows_within_two_grey_levels(interpolation, size):
    shown = Preprocessing(size_px=30, resize_px=32, interpolation=interpolation)
    coarse = np.random.default_rng(1).integers(0, 256, (9, 11, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR))
    ours = export.resize(image[None].astype(np.float32), shown)[0]
    difference = np.abs(np.asarray(ours) - decode.resize_square(image, shown).astype(np.float32))
    assert difference.max() <= 2


# --- as a user types it ---


def test_a_wrong_source_is_said_in_a_line(capsys, tmp_path):
    assert command.main([str(tmp_path / 'nowhere'), f'--out={tmp_path / "out"}']) == 2
    assert capsys.readouterr().err.startswith('error: weights ')


def test_the_command_says_what_it_wrote(run, tmp_path, capsys):
    out = tmp_path / 'net.safetensors'
    assert command.main([str(run), f'--out={out}', '--names=akamaster']) == 0
    assert capsys.readouterr().out.splitlines() == [
        f'Wrote {out}',
        f'Wrote {tmp_path / "README.md"}',
    ]


# --- in torch, where it is installed ---


class Reference:
    """ViT in torch, spelt out from the paper with timm's names."""

    def __init__(self, torch, state_dict):
        self.torch = torch
        self.state = {name: torch.from_numpy(array.copy()) for name, array in state_dict.items()}

    def linear(self, x, name):
        """One linear layer."""
        return x @ self.state[f'{name}.weight'].T + self.state[f'{name}.bias']

    def norm(self, x, name):
        """One layer norm."""
        scale, bias = self.state[f'{name}.weight'], self.state[f'{name}.bias']
        return self.torch.nn.functional.layer_norm(x, scale.shape, scale, bias, 1e-6)

    def logits(self, x):
        """[B, 3, H, W] to [B, K]."""
        patch = self.state['patch_embed.proj.weight']
        x = self.torch.nn.functional.conv2d(
            x, patch, self.state['patch_embed.proj.bias'], stride=patch.shape[-1]
        )
        x = x.flatten(2).transpose(1, 2)
        token = self.state['cls_token'].expand(len(x), -1, -1)
        x = self.torch.cat([token, x], 1) + self.state['pos_embed']
        for name in ('blocks.0', 'blocks.1'):
            y = self.linear(self.norm(x, f'{name}.norm1'), f'{name}.attn.qkv')
            q, k, v = y.reshape(*y.shape[:2], 3, -1, 64).permute(2, 0, 3, 1, 4)
            y = self.torch.nn.functional.scaled_dot_product_attention(q, k, v)
            x = x + self.linear(y.transpose(1, 2).flatten(2), f'{name}.attn.proj')
            y = self.linear(self.norm(x, f'{name}.norm2'), f'{name}.mlp.fc1')
            x = x + self.linear(self.torch.nn.functional.gelu(y), f'{name}.mlp.fc2')
        return self.linear(self.norm(x, 'norm')[:, 0], 'head')


def test_a_head_trained_here_gives_the_same_logits_in_torch(tmp_path):
    torch = pytest.importorskip('torch', reason='torch is not installed')
    safetensors.numpy.save_file(foreign(FAMILIES[2], 'timm'), tmp_path / 'source.safetensors')
    train(
        experiment.Experiment(
            backbone=ViT(
                width=64, depth=2, size_px=32, weights=str(tmp_path / 'source.safetensors')
            ),
            data=Digits(),
            strategy=LinearProbe(),
            optimizer=SGD(learning_rate=0.1),
            per_class=4,
            validation_fraction=0.5,
            epochs=1,
            batch_size=4,
            report=False,
        ),
        tmp_path / 'run',
    )
    export.export(str(tmp_path / 'run'), tmp_path / 'out.safetensors', names='timm')
    state_dict = safetensors.numpy.load_file(tmp_path / 'out.safetensors')
    x = golden_small.images(2, 32)
    theirs = Reference(torch, state_dict).logits(torch.from_numpy(x).permute(0, 3, 1, 2))
    ours = tljax.load(tmp_path / 'run').logits(x)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4 * np.abs(ours).max())
