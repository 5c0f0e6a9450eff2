"""What `tljax weights` shows of a file."""

import numpy as np
import pytest
import safetensors.numpy

from tests.state_dicts import foreign
from tljax.commands import weights
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vit import ViT
from tljax.weights import loading, translation, verify


@pytest.fixture
def small():
    return foreign(ResNetSmall(), 'akamaster')


def show(entries, tmp_path, capsys, *flags):
    """The exit code and what is printed for a file of entries."""
    safetensors.numpy.save_file(entries, tmp_path / 'net.safetensors')
    code = weights.main([str(tmp_path / 'net.safetensors'), *flags])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    'words',
    [
        'safetensors, 116 entries',
        'ResNetSmall(depth=20',
        'those of akamaster',
        '7 classes',
        "the family's, because the file states none",
        'layer3.2.conv2.weight [64, 64, 3, 3] params/stage3/block3/conv2/kernel [3, 3, 64, 64]',
        'Dropped because tljax does not use them (19): bn1.num_batches_tracked',
        'every value is finite',
    ],
)
def test_it_shows(words, small, tmp_path, capsys):
    code, printed = show(small, tmp_path, capsys)
    assert code == 0
    assert words in ' '.join(printed.out.split())


def test_the_sum_is_shown(small, tmp_path, capsys):
    _, printed = show(small, tmp_path, capsys)
    assert str(loading.load(tmp_path / 'net.safetensors').origin.sha256) in printed.out


def test_entries_that_are_joined_are_shown_as_such(tmp_path, capsys):
    entries = foreign(ViT(width=64, depth=1, size_px=32), 'transformers4')
    code, printed = show(entries, tmp_path, capsys)
    assert code == 0
    assert printed.out.count('joined to the entry above') == 4


def test_a_misfit_is_an_error_with_its_lines(small, tmp_path, capsys):
    small['bn9.weight'] = small.pop('bn1.weight')
    code, printed = show(small, tmp_path, capsys)
    assert code == 2
    assert '+ bn9.weight [16]' in printed.err
    assert '- params/stem/bn1/scale [16]' in printed.err


def test_a_value_that_is_not_finite_is_named(small, tmp_path, capsys):
    small['linear.weight'][2, 3] = np.inf
    code, printed = show(small, tmp_path, capsys)
    assert code == 1
    assert 'not finite: params/head/linear/kernel' in printed.out


def test_what_every_stage_gives_is_shown_on_request(small, tmp_path, capsys):
    code, printed = show(small, tmp_path, capsys, '--verify')
    assert code == 0
    assert '32 × 32 × 16' in printed.out
    assert 'No stage is flawed.' in printed.out


def flaws(entries):
    opened = loading.open_(entries)
    found = translation.recognised(opened)
    pretrained = translation.translate(opened, found, allow_nonfinite=True)
    rows = verify.activations(pretrained, found.model)
    return {row.stage: row.flaw for row in rows}


def test_a_healthy_network_has_no_flaws(small):
    assert set(flaws(small).values()) == {''}


def test_a_stage_whose_channels_never_change_is_dead(small):
    small['bn1.weight'][:] = 0
    small['bn1.bias'][:] = -1
    assert flaws(small)['stem'] == 'dead'


def test_a_stage_whose_values_grow_without_bounds_explodes(small):
    small['layer2.2.bn2.weight'] *= 1e6
    found = flaws(small)
    assert (found['stage1'], found['stage2']) == ('', 'exploding')


def test_a_stage_that_gives_no_numbers_is_not_finite(small):
    small['layer3.0.conv1.weight'][0, 0, 0, 0] = np.nan
    found = flaws(small)
    assert (found['stage2'], found['stage3'], found['head']) == ('', 'not finite', 'not finite')


@pytest.mark.parametrize('spec', ['nowhere.pth', 'embedded:runes', 'hf:nobody', 'ftp://a/b.pth'])
def test_what_cannot_be_found_is_an_error_of_one_line(spec, capsys):
    assert weights.main([spec]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
