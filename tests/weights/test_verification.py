"""`tljax weights` says which checksum the values of a file were compared with."""

import shutil

import numpy as np
import pytest
import safetensors.numpy

from tests.state_dicts import foreign
from tljax.commands import weights
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.weights import download, loading, verify


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A file of a small network."""
    path = tmp_path_factory.mktemp('weights') / 'net.safetensors'
    safetensors.numpy.save_file(foreign(ResNetSmall(), 'akamaster'), path)
    return path


def checked_by(path):
    return verify.checked_by(loading.open_(path).origin)


def test_a_file_without_a_checksum_is_said_to_be_not_verified(network, capsys):
    assert weights.main([str(network)]) == 0
    assert 'values         not verified: ' in capsys.readouterr().out


def test_the_checksum_of_a_file_is_named(network, tmp_path, capsys):
    path = tmp_path / f'net-{download.file_sha256(network)[:8]}.safetensors'
    shutil.copy(network, path)
    assert weights.main([str(path)]) == 0
    assert 'values         verified by the SHA-256 in its name, 8 digits' in capsys.readouterr().out


def test_digits_in_a_name_that_are_not_its_sum_verify_nothing(network, tmp_path):
    path = tmp_path / 'net-01234567.safetensors'
    shutil.copy(network, path)
    assert checked_by(path) is None


@pytest.mark.parametrize('right', [True, False])
def test_a_sum_beside_a_file_verifies_it(right, network, tmp_path):
    path = tmp_path / 'net.safetensors'
    shutil.copy(network, path)
    digest = download.file_sha256(path) if right else '0' * 64
    path.with_name('net.safetensors.sha256').write_text(f'{digest}  net.safetensors\n')
    assert checked_by(path) == ('the SHA-256 in net.safetensors.sha256' if right else None)


def test_the_name_of_a_hubs_blob_verifies_it(network, tmp_path):
    blob = tmp_path / download.file_sha256(network)
    shutil.copy(network, blob)
    (tmp_path / 'model.safetensors').symlink_to(blob)
    assert checked_by(tmp_path / 'model.safetensors') == 'the SHA-256 that its hub states'


def test_an_npz_is_verified_by_its_archive(tmp_path):
    np.savez(tmp_path / 'net.npz', **foreign(ResNetSmall(), 'akamaster'))
    assert checked_by(tmp_path / 'net.npz') == verify.CHECKED_FORMATS['npz']
