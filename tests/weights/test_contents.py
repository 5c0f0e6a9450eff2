"""Of all that a file holds, the network that is meant is found, and what is left out is said."""

import pathlib
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.types import InputError
from tljax.weights import contents, files, loading, locations, translation

NAMES = [rule.names[0] for rule in ResNetSmall(depth=20).port_tables()['akamaster'] if rule.ours]


def network(value=0.0):
    """Entries under names of a known family; shapes are of no account here."""
    names = {n.format(**dict.fromkeys('sbcnij', 1), stage=1, block=0) for n in NAMES}
    return {name: np.full(2, value, np.float32) for name in sorted(names)}


def under(prefix, entries):
    return {prefix + name: array for name, array in entries.items()}


RAW, OTHER = network(0.0), network(1.0)


def taken(content, part=None):
    found = contents.choose(content, part)
    return {float(array[0]) for array in found.entries.values()}, ' '.join(found.notes)


@pytest.mark.parametrize(
    ('content', 'other'),
    [
        ({'state_dict': RAW, 'state_dict_ema': OTHER}, 'state_dict'),
        ({'model': RAW, 'model_ema': OTHER}, 'model'),
        ({'model': RAW, 'ema': {'decay': 0.9, 'module': OTHER}}, 'model'),
        ({'model': RAW, 'ema_state_dict': OTHER, 'epoch': 3}, 'model'),
        ({'module': RAW, 'module_ema': OTHER}, 'module'),
        ({'student': RAW, 'teacher': OTHER}, 'student'),
        ({'target': RAW, 'online': OTHER}, 'target'),
    ],
)
def test_what_authors_evaluate_is_taken_and_the_other_named(content, other):
    values, notes = taken(content)
    assert values == {1.0}
    assert f"the others are '{other}'" in notes
    assert taken(content, other)[0] == {0.0}


@pytest.mark.parametrize(
    ('content', 'left'),
    [
        ({**under('module.encoder_q.', OTHER), **under('module.encoder_k.', RAW)}, 'encoder_k.'),
        ({**under('backbone.', OTHER), 'projection_head.0.weight': np.zeros(2)}, 'projection'),
        ({'n_averaged': np.zeros(1), **under('module.', OTHER)}, 'n_averaged'),
        ({'net': {**under('model.', OTHER), 'criterion.weight': np.zeros(2)}}, 'criterion.weight'),
    ],
)
def test_a_network_under_a_prefix_is_found_and_the_rest_listed(content, left):
    found = contents.choose(content)
    assert found.entries.keys() == OTHER.keys()
    assert taken(content)[0] == {1.0}
    assert left in ' '.join(found.notes)


@pytest.mark.parametrize(
    'content',
    [{'first': RAW, 'second': OTHER}, {**under('first.', RAW), **under('second.', OTHER)}],
)
def test_two_networks_between_which_nothing_decides_are_refused(content):
    with pytest.raises(InputError, match=r"several networks.*'first.*'second.*#first"):
        contents.choose(content)
    assert taken(content, 'second')[0] == {1.0}


def test_an_unknown_part_lists_what_is_there():
    with pytest.raises(InputError, match="no network 'ema'; it has model"):
        contents.choose({'model': RAW}, 'ema')


def test_a_file_without_tensors_lists_its_keys():
    with pytest.raises(InputError, match="'epoch': int"):
        contents.choose({'epoch': 3, 'args': None})


def test_a_file_whose_own_name_contains_the_mark_is_meant_before_a_part(tmp_path):
    (tmp_path / 'a#b.pth').touch()
    assert locations.split_part(f'{tmp_path}/a#b.pth') == (f'{tmp_path}/a#b.pth', None)
    assert locations.split_part(f'{tmp_path}/a#b.pth#ema') == (f'{tmp_path}/a#b.pth', 'ema')
    assert locations.split_part('https://a.b/c.pth#ema') == ('https://a.b/c.pth', 'ema')


def write_zip(path, *names):
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, 'x')


def foreign(path: pathlib.Path, kind: str) -> None:
    match kind:
        case 'keras':
            write_zip(path, 'metadata.json', 'model.weights.h5')
        case 'zip':
            write_zip(path, 'photo.jpg')
        case 'tar':
            with tarfile.open(path, 'w') as archive:
                archive.addfile(tarfile.TarInfo('a'))
        case 'msgpack':
            path.write_bytes(b'\x82\xa6params\x80\xa1b\x01')
        case 'hdf5':
            path.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(50))
        case 'gzip':
            path.write_bytes(b'\x1f\x8b' + bytes(50))
        case 'pointer':
            path.write_text('version https://git-lfs.github.com/spec/v1\n')
        case 'page':
            path.write_text('<!DOCTYPE html><html></html>')


@pytest.mark.parametrize(
    ('kind', 'said'),
    [
        ('keras', 'a Keras file'),
        ('zip', 'a zip archive without weights; it holds photo.jpg'),
        ('tar', 'a tar archive'),
        ('msgpack', 'a MessagePack file'),
        ('hdf5', 'an HDF5 file'),
        ('gzip', 'a gzip archive'),
        ('pointer', 'a git-lfs pointer'),
        ('page', 'a web page'),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(kind, said, tmp_path):
    foreign(tmp_path / 'a.pth', kind)
    with pytest.raises(InputError, match=f'a.pth: it is {said}'):
        files.read(tmp_path / 'a.pth')


@pytest.fixture(scope='module')
def glyphs():
    path = locations.EMBEDDED / 'glyphs.safetensors'
    with safetensors.safe_open(path, 'numpy') as file:
        metadata = file.metadata()
    return safetensors.numpy.load_file(path), metadata


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('dtype', [np.float32, np.float16])
def test_values_that_are_not_finite_are_refused_with_their_leaf(value, dtype, glyphs, tmp_path):
    entries, metadata = glyphs
    path = next(name for name in entries if name.endswith('kernel'))
    bad = entries[path].astype(dtype)
    bad.flat[-1] = value
    safetensors.numpy.save_file(entries | {path: bad}, tmp_path / 'a.safetensors', metadata)
    with pytest.raises(InputError, match=f'NaN or infinite values, in {path}'):
        loading.load(tmp_path / 'a.safetensors')
    assert loading.load(tmp_path / 'a.safetensors', allow_nonfinite=True)


def test_large_finite_values_whose_sum_overflows_are_finite():
    assert translation.is_finite(np.full(4, 3e38, np.float32))


def test_a_network_beside_another_under_a_prefix_is_refused():
    with pytest.raises(InputError, match=r"several networks, under '', 'second\.'"):
        contents.choose({**RAW, **under('second.', OTHER)})
