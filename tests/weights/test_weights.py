"""Weights are found, verified and translated, or refused with the reason."""

import hashlib
import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests import golden_small
from tljax import tree
from tljax.models import port, preprocessing, stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.types import InputError, Interpolation, Preprocessing
from tljax.weights import contents, files, loading, locations, own_format

BACKBONE = ResNetSmall(depth=20)
CUSTOM = Preprocessing(
    size_px=20,
    resize_px=24,
    interpolation=Interpolation.BICUBIC,
    mean=(0.1, 0.2, 0.3),
    std=(1, 2, 3),
)
TEXT = json.dumps(preprocessing.to_fields(CUSTOM))


@pytest.fixture(scope='module')
def variables():
    """Parameters and statistics by formula, as host arrays."""
    shapes = stages.shapes(stages.build(BACKBONE, 7))
    return tuple(
        tree.map_paths(lambda path, x: golden_small.tensor(path, x.shape), part) for part in shapes
    )


@pytest.fixture
def ours(variables, tmp_path):
    """A file in our own form."""
    metadata = {'preprocessing': TEXT}
    own_format.save(tmp_path / 'ours.safetensors', *variables, metadata)
    return tmp_path / 'ours.safetensors'


def foreign(variables):
    """The same under the names of pytorch_resnet_cifar10."""
    params, stats = variables
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    return port.to_foreign(leaves, BACKBONE.port_tables()['akamaster'])


def write(path, state_dict):
    arrays = {name: np.asarray(array, order='C') for name, array in state_dict.items()}
    safetensors.numpy.save_file(arrays, path)
    return path


def test_our_own_form_comes_back_bit_by_bit(ours, variables):
    found = loading.load(str(ours), BACKBONE)
    jax.tree.map(np.testing.assert_array_equal, (found.params, found.stats), variables)


def test_preprocessing_travels_with_the_weights(ours):
    assert loading.load(str(ours), BACKBONE).preprocessing == CUSTOM


def test_foreign_names_give_the_same_leaves(variables, tmp_path):
    path = write(tmp_path / 'foreign.safetensors', foreign(variables))
    found = loading.load(str(path), BACKBONE)
    jax.tree.map(np.testing.assert_array_equal, (found.params, found.stats), variables)
    assert found.preprocessing == BACKBONE.preprocessing()


def test_a_prefix_that_all_names_carry_is_cut_off(variables):
    state_dict = {f'module.{name}': array for name, array in foreign(variables).items()}
    assert contents.choose({'state_dict': state_dict}).entries.keys() == foreign(variables).keys()


def test_half_precision_is_widened(variables, tmp_path):
    half = {name: array.astype(np.float16) for name, array in foreign(variables).items()}
    found = loading.load(str(write(tmp_path / 'half.safetensors', half)), BACKBONE)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype(np.float32)}


def test_bfloat16_is_widened(variables, tmp_path):
    short = {n: a.astype(ml_dtypes.bfloat16) for n, a in foreign(variables).items()}
    path = write(tmp_path / 'short.safetensors', short)
    found = loading.load(str(path), BACKBONE)
    kernel = found.params['stage1']['block1']['conv1']['kernel']
    wanted = np.asarray(variables[0]['stage1']['block1']['conv1']['kernel'])
    np.testing.assert_allclose(kernel, wanted, rtol=2**-8)


def test_quantised_values_are_refused_and_not_taken_for_weights(variables, tmp_path):
    state_dict = foreign(variables)
    state_dict['linear.weight'] = state_dict['linear.weight'].astype(np.int8)
    path = write(tmp_path / 'small.safetensors', state_dict)
    with pytest.raises(InputError, match=r'head/linear/kernel \(int8\)'):
        loading.load(str(path), BACKBONE)


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.', 'backbone.'])
def test_an_npz_file_loads_whatever_prefix_all_its_names_carry(prefix, variables, tmp_path):
    state_dict = {f'{prefix}{name}': array for name, array in foreign(variables).items()}
    np.savez(tmp_path / 'net.npz', **state_dict)
    found = loading.load(tmp_path / 'net.npz')
    assert (found.origin.format, found.architecture.backbone) == ('npz', BACKBONE)
    jax.tree.map(np.testing.assert_array_equal, (found.params, found.stats), variables)


def test_an_npz_file_of_python_objects_is_refused_and_nothing_in_it_runs(tmp_path):
    made = tmp_path / 'made'

    class Payload:
        def __reduce__(self):
            return made.touch, ()

    np.savez(tmp_path / 'net.npz', a=np.array([Payload()], dtype=object))
    with pytest.raises(InputError, match=r'net\.npz'):
        loading.load(tmp_path / 'net.npz')
    assert not made.exists()


def test_the_embedded_network_loads_and_knows_its_preprocessing():
    found = loading.load('embedded:glyphs', BACKBONE)
    assert found.preprocessing.size_px == 16
    assert found.params['head']['linear']['bias'].shape == (86,)


def test_the_embedded_network_is_small_enough_to_ship():
    assert (locations.EMBEDDED / 'glyphs.safetensors').stat().st_size <= 1_000_000


def test_the_sum_is_that_of_the_file(ours):
    digest = hashlib.sha256(ours.read_bytes()).hexdigest()
    assert loading.load(str(ours), BACKBONE).origin.sha256 == digest


def test_a_misfit_names_every_leaf_that_is_missing_or_too_much(variables, tmp_path):
    state_dict = foreign(variables)
    state_dict['layer1.0.conv7.weight'] = state_dict.pop('layer1.0.conv1.weight')
    state_dict['bn1.bias'] = np.zeros(5, np.float32)
    path = write(tmp_path / 'misfit.safetensors', state_dict)
    with pytest.raises(InputError) as caught:
        loading.load(str(path), BACKBONE)
    for words in ('- params/stage1/block1/conv1/kernel', 'conv7', 'stem/bn1/bias [5]', str(path)):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ('spec', 'reason'),
    [
        ('embedded:runes', 'embedded:glyphs'),
        ('nowhere.pth', 'there is no file'),
        ('{folder}/page.pth', 'it is a web page'),
        ('{folder}/empty.pth', 'it is empty'),
        ('{folder}/cut.safetensors', 'cut.safetensors'),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(spec, reason, ours, tmp_path):
    (tmp_path / 'page.pth').write_text('<!DOCTYPE html>')
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'cut.safetensors').write_bytes(ours.read_bytes()[:5000])
    with pytest.raises(InputError, match=reason):
        loading.load(spec.format(folder=tmp_path), BACKBONE)


@pytest.mark.parametrize(
    'text',
    [
        'no json',
        '{}',
        '[]',
        TEXT.replace('bicubic', 'cubic'),
        TEXT.replace('size_px', 'size_mm'),
        TEXT.replace('20', '"20"'),
    ],
)
def test_preprocessing_that_cannot_be_understood_names_the_file(text, variables, tmp_path):
    path = tmp_path / 'odd.safetensors'
    own_format.save(path, *variables, {'preprocessing': text})
    with pytest.raises(InputError, match=r'odd\.safetensors'):
        loading.load(str(path), BACKBONE)


def test_a_head_without_a_width_is_a_misfit_like_any_other(variables, tmp_path):
    state_dict = foreign(variables) | {'linear.bias': np.array(1.0, np.float32)}
    path = write(tmp_path / 'scalar.safetensors', state_dict)
    with pytest.raises(InputError, match=r'head/linear/bias \[\]'):
        loading.load(str(path), BACKBONE)


def test_a_stranger_in_our_own_form_is_the_one_problem(variables, tmp_path):
    params, stats = variables
    path = tmp_path / 'more.safetensors'
    own_format.save(path, params, stats, {})
    entries = {name: np.array(array) for name, array in files.read(path).entries.items()}
    write(path, entries | {'stranger': np.zeros(3, np.float32)})
    with pytest.raises(InputError, match=r'1 problems .*\n  \+ stranger \[3\]\n'):
        loading.load(str(path), BACKBONE)


def test_names_that_are_no_strings_are_refused():
    with pytest.raises(InputError, match='dictionary of tensors'):
        contents.choose({0: np.zeros(3)})


@pytest.mark.parametrize('wrapper', ['state_dict', 'model', 'model_state_dict'])
def test_dictionaries_around_a_state_dict_are_opened(wrapper):
    content = {'epoch': 3, wrapper: {'a.weight': np.zeros(2)}}
    assert list(contents.choose(content).entries) == ['a.weight']


def test_a_prefix_that_only_some_names_carry_stays():
    content = {'module.a': np.zeros(2), 'b': np.zeros(2)}
    assert list(contents.choose(content).entries) == ['module.a', 'b']


@pytest.mark.parametrize('content', [[], {'a': 3}, {'state_dict': {'a': None}}, np.zeros(2)])
def test_a_torch_file_without_tensors_by_name_is_refused(content):
    with pytest.raises(InputError, match='dictionary of tensors'):
        contents.choose(content)
