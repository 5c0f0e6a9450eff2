"""Features are the outputs of the frozen prefix, and are computed once."""

import dataclasses
import io
import os
import pathlib
import subprocess
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tljax import augment, features
from tljax.data import decode
from tljax.data.files import ImageFile
from tljax.features import Prefix, TrainingViews
from tljax.models import layers, stages
from tljax.models.backbones.resnet import ResNet
from tljax.models.layers import Pooling
from tljax.models.stages import Model
from tljax.types import BadFiles, Examples, Findings, InputError, Preprocessing

PREPROCESSING = Preprocessing(size_px=6, resize_px=8)
FLIP = (augment.RandomCrop(size_px=8, pad_px=2), augment.HorizontalFlip())
COUNT = 7
SLOW = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]


class Part(nn.Module):
    """A convolution with stride 2 and BatchNorm."""

    width: int

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """[B, H, W, C] to [B, H / 2, W / 2, width]."""
        x = layers.conv(self.width, 3, stride=2, name='conv')(x)
        x = layers.BatchNorm(name='bn')(x, use_running_average=use_running_average)
        return nn.relu(x) + 0.1 * x


STAGES = {'low': Part(3), 'mid': Part(5), 'head': layers.ClassifierHead(4)}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def network():
    """A model of three stages with its values."""
    model = Model(stages=STAGES, preprocessing=PREPROCESSING, num_classes=4)
    return model, *stages.init(model, jax.random.key(3))


def pictures(count=COUNT, first_id=100):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return Examples(
        load=lambda i: images[i],
        labels=np.arange(count, dtype=np.int32) % 4,
        ids=first_id + np.arange(count),
        class_names=('a', 'b', 'c', 'd'),
    )


@pytest.fixture
def files(tmp_path):
    """The same examples as files."""
    examples = pictures()
    encoded = []
    for i in range(len(examples)):
        buffer = io.BytesIO()
        Image.fromarray(examples.load(i)).save(buffer, 'png')
        (tmp_path / f'{i}.png').write_bytes(buffer.getvalue())
        encoded.append(ImageFile(tmp_path / f'{i}.png'))
    return dataclasses.replace(examples, encoded=encoded, load=decode.loader(encoded))


def direct(network, examples, cut='head', pooled=True):
    """What the network itself gives, without views."""
    model, params, stats = network
    images = jnp.stack([examples.load(i) for i in range(len(examples))])
    x = stages.normalise(PREPROCESSING, images)
    x, _ = stages.run(model, params, stats, x, stop=cut)
    return np.asarray(layers.pool(x) if pooled else x)


def store_files(tmp_path, suffix='values'):
    return sorted((tmp_path / 'cache' / 'features').glob(f'*/*.{suffix}'))


@pytest.mark.parametrize(
    ('cut', 'pooled'),
    [
        ('head', True),
        pytest.param('head', False, marks=SLOW),
        pytest.param('mid', True, marks=SLOW),
        pytest.param('mid', False, marks=SLOW),
    ],
)
def test_features_are_the_prefix_of_the_network(cut, pooled, network):
    pooling = Pooling.AVERAGE if pooled else None
    for _ in range(2):
        found = features.extract(*network, pictures(), cut=cut, pooling=pooling, batch_size=4)
        wanted = direct(network, pictures(), cut, pooled)
        np.testing.assert_allclose(found.values[:, 0], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.ids, pictures().ids)


def test_the_suffix_on_features_gives_the_networks_logits(network):
    model, params, stats = network
    found = features.extract(*network, pictures(), cut='mid', pooling=None)
    logits, _ = stages.run(model, params, stats, jnp.asarray(found.values)[:, 0], start='mid')
    images = jnp.stack([pictures().load(i) for i in range(COUNT)])
    wanted, _ = stages.run(model, params, stats, stages.normalise(PREPROCESSING, images))
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)


def test_all_cuts_in_one_pass_are_each_alone(network):
    both = features.extract_all(*network, pictures(), cuts=['low', 'mid', 'head'])
    assert list(both) == ['low', 'mid', 'head']
    for cut, found in both.items():
        alone = features.extract(*network, pictures(), cut=cut)
        np.testing.assert_array_equal(found.values, alone.values)
        assert (found.computed, alone.computed) == (COUNT, 0)


@pytest.mark.parametrize(
    'steps',
    [pytest.param([0, 1, 5], marks=SLOW), np.arange(3 * COUNT).reshape(COUNT, 3)],
    ids=['shared', 'own'],
)
def test_views_are_what_training_sees_at_those_steps(steps, network):
    model, params, stats = network
    key = jax.random.key(9)
    views = TrainingViews(augmentations=FLIP, key=key, steps=steps)
    found = features.extract(*network, pictures(), views=views, batch_size=4)
    assert found.values.shape == (COUNT, 3, 5)
    examples, steps = pictures(), np.broadcast_to(steps, (COUNT, 3))

    @jax.jit
    def view(image, step, identity):
        keys = augment.example_keys(key, step, identity[None])
        image, _ = augment.apply(FLIP, keys, image[None], jnp.zeros((1, 4)))
        x = stages.normalise(PREPROCESSING, image)
        return layers.pool(stages.run(model, params, stats, x, stop='head')[0])[0]

    for i in range(COUNT):
        for v in range(3):
            wanted = view(examples.load(i), np.uint32(steps[i, v]), np.uint32(examples.ids[i]))
            np.testing.assert_allclose(found.values[i, v], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'dtype',
    [pytest.param('float32', marks=SLOW), pytest.param('float16', marks=SLOW), 'bfloat16'],
)
def test_features_come_back_from_the_disk_bit_by_bit(dtype, network):
    first = features.extract(*network, pictures(), dtype=dtype)
    again = features.extract(*network, pictures(), dtype=dtype)
    assert first.values.dtype == again.values.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.computed, again.computed) == (COUNT, 0)


def test_another_order_and_subset_of_the_same_files_computes_nothing(network, files):
    whole = features.extract(*network, files)
    part = features.extract(*network, files.take(np.array([5, 2, 3])))
    assert part.computed == 0
    np.testing.assert_array_equal(part.values, whole.values[np.array([5, 2, 3])])


def test_a_file_that_changed_is_computed_again(network, files, tmp_path):
    features.extract(*network, files)
    (tmp_path / '1.png').write_bytes((tmp_path / '2.png').read_bytes())
    again = features.extract(*network, files)
    assert again.computed == 0  # its content is known
    np.testing.assert_array_equal(again.values[1], again.values[2])
    Image.new('RGB', (8, 8), (10, 200, 30)).save(tmp_path / '1.png')
    assert features.extract(*network, files).computed == 1


def test_more_views_compute_only_the_new_ones(network):
    def views(steps):
        return TrainingViews(augmentations=FLIP, key=jax.random.key(0), steps=steps)

    few = features.extract(*network, pictures(), views=views([0, 1]))
    more = features.extract(*network, pictures(), views=views([0, 1, 2]))
    assert (few.computed, more.computed) == (2 * COUNT, COUNT)
    np.testing.assert_array_equal(few.values, more.values[:, :2])


def changed_weights(network):
    model, params, stats = network
    kernel = params['mid']['conv']['kernel']
    mid = {**params['mid'], 'conv': {'kernel': kernel.at[0, 0, 0, 0].add(1e-6)}}
    return model, {**params, 'mid': mid}, stats


def changed_statistics(network):
    model, params, stats = network
    mid = {'bn': {**stats['mid']['bn'], 'mean': stats['mid']['bn']['mean'] + 1e-6}}
    return model, params, {**stats, 'mid': mid}


def with_stages(network, **stages):
    model, params, stats = network
    return dataclasses.replace(model, stages={**model.stages, **stages}), params, stats


class Sharper(Part):
    """The same with another constant in its code."""

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """As above."""
        x = layers.conv(self.width, 3, stride=2, name='conv')(x)
        x = layers.BatchNorm(name='bn')(x, use_running_average=use_running_average)
        return nn.relu(x) + 0.2 * x


def with_mean(network):
    model, params, stats = network
    other = dataclasses.replace(PREPROCESSING, mean=(0.5, 0.4, 0.4))
    return dataclasses.replace(model, preprocessing=other), params, stats


OTHER_NETWORKS = {
    'weights': changed_weights,
    'statistics': changed_statistics,
    'code of a stage': lambda n: with_stages(n, mid=Sharper(5)),
    'mean': with_mean,
}


def identity(network, cut='head', pooling=Pooling.AVERAGE, dtype='float32', views=None):
    """The name of the store of features made so, and what identifies their rows beside images."""
    prefix = Prefix(network[0], (cut,), pooling, jnp.dtype(dtype), views)
    steps = prefix.steps(COUNT)
    return prefix.digest(cut, *network[1:]), prefix.marks(pictures().ids, steps)


@pytest.mark.parametrize('name', OTHER_NETWORKS)
def test_another_network_has_another_identity(name, network):
    assert identity(OTHER_NETWORKS[name](network)) != identity(network)


def test_what_another_network_made_is_not_used(network):
    features.extract(*network, pictures())
    assert features.extract(*changed_weights(network), pictures()).computed == COUNT


def test_a_change_above_the_cut_computes_nothing(network):
    features.extract(*network, pictures(), cut='mid')
    assert features.extract(*changed_weights(network), pictures(), cut='mid').computed == 0


def test_another_head_leaves_the_identity_of_features_before_it(network):
    other = with_stages(network, head=layers.ClassifierHead(9))
    assert identity(other, cut='mid') == identity(network, cut='mid')


VIEWS = TrainingViews(augmentations=FLIP, key=jax.random.key(0), steps=[0])


OTHER_KEY = dataclasses.replace(VIEWS, key=jax.random.key(1))


@pytest.mark.parametrize(
    'other',
    [
        {'cut': 'mid'},
        {'pooling': Pooling.CONCATENATED},
        {'dtype': 'float16'},
        {'views': None},
        {'views': OTHER_KEY},
        {'views': dataclasses.replace(VIEWS, steps=[1])},
        {'views': dataclasses.replace(VIEWS, augmentations=FLIP[::-1])},
    ],
    ids=str,
)
def test_features_made_otherwise_have_another_identity(other, network):
    assert identity(network, **{'views': VIEWS, **other}) != identity(network, views=VIEWS)


def test_features_made_otherwise_are_kept_apart(network):
    features.extract(*network, pictures(), views=VIEWS)
    assert features.extract(*network, pictures(), views=OTHER_KEY).computed == COUNT
    assert features.extract(*network, pictures(), views=VIEWS).computed == 0


def test_views_of_other_ids_are_others(network):
    first = features.extract(*network, pictures(), views=VIEWS)
    other = features.extract(*network, pictures(first_id=500), views=VIEWS)
    assert other.computed == COUNT
    assert not np.array_equal(first.values, other.values)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[2 * 20 + 3] ^= 1
    path.write_bytes(content)


DAMAGE = {
    'a bit': (flip_a_bit, 1),
    'values cut off': (lambda path: os.truncate(path, 2 * 20 + 5), COUNT - 2),
    'no records': (lambda path: path.with_suffix('.records').unlink(), COUNT),
}


@pytest.mark.parametrize(
    'name', ['a bit', *[pytest.param(n, marks=SLOW) for n in list(DAMAGE)[1:]]]
)
def test_damaged_features_are_computed_again(name, network, tmp_path):
    first = features.extract(*network, pictures())
    damage, lost = DAMAGE[name]
    damage(store_files(tmp_path)[0])
    for computed in (lost, 0):
        again = features.extract(*network, pictures())
        np.testing.assert_allclose(again.values, first.values, rtol=1e-5, atol=1e-6)
        assert again.computed == computed


def test_without_a_cache_nothing_is_written(network, tmp_path):
    for _ in range(2):
        found = features.extract(*network, pictures(), cache_gigabytes=0)
        assert found.computed == COUNT
    assert not store_files(tmp_path)


def test_the_disk_is_kept_within_its_bound(network, tmp_path):
    limit = 20 * 20  # of 7 rows of 20 bytes, in files of 5
    for seed in range(4):
        values = stages.init(network[0], jax.random.key(seed))
        features.extract(network[0], *values, pictures(), cache_gigabytes=limit / 1e9)
        assert sum(path.stat().st_size for path in store_files(tmp_path)) <= limit + 200


def test_what_memory_has_no_room_for_is_gathered_from_the_disk(network, monkeypatch):
    wanted = features.extract(*network, pictures(), views=VIEWS)
    monkeypatch.setattr(features.collected, 'MEMORY_SHARE', 1e-12)
    for options in ({}, {'dtype': 'float16'}):
        found = features.extract(*network, pictures(), views=VIEWS, **options)
        assert isinstance(found.values, features.Rows)
        assert found.values.shape == (COUNT, 1, 5)
        atol = 1e-2 if options else 0
        np.testing.assert_allclose(
            found.values[[4, 1]], np.asarray(wanted.values)[[4, 1]], atol=atol, rtol=0
        )
        np.testing.assert_allclose(found.values[2], wanted.values[2], atol=atol, rtol=0)
        np.testing.assert_allclose(found.matrix()[0], wanted.matrix()[0], atol=atol, rtol=0)


def test_features_without_room_anywhere_are_an_error(network, monkeypatch):
    monkeypatch.setattr(features.collected, 'MEMORY_SHARE', 1e-12)
    with pytest.raises(InputError, match='cache_gigabytes'):
        features.extract(*network, pictures(), cache_gigabytes=1e-8)


def test_a_matrix_has_every_view_with_its_label():
    values = np.arange(2 * COUNT * 5.0).reshape(COUNT, 2, 5)
    places, labels = np.arange(COUNT), pictures().labels
    found = features.Features(values=values, labels=labels, ids=places, places=places, computed=0)
    x, labels = found.matrix()
    assert x.shape == (2 * COUNT, 5)
    np.testing.assert_array_equal(x[3], found.values[1, 1])
    assert labels[3] == found.labels[1]
    several = dataclasses.replace(found, labels=np.eye(4, dtype=np.uint8)[found.labels])
    np.testing.assert_array_equal(several.matrix()[1][3], several.labels[1])


def test_bad_images_are_left_out_where_the_source_says_so(network, files, tmp_path):
    (tmp_path / '3.png').write_bytes(b'no image')
    (tmp_path / '5.png').unlink()
    with pytest.raises(decode.ImageError, match=r'[35]\.png'):
        features.extract(*network, files)
    findings = Findings(policy=BadFiles.SKIP)
    skipping = dataclasses.replace(files, findings=findings)
    found = features.extract(*network, skipping)
    assert found.ids.tolist() == [100, 101, 102, 104, 106]
    assert len(findings.bad) == 2
    good = features.extract(*network, files.take(np.array([0, 1, 2, 4, 6])))
    np.testing.assert_array_equal(found.values, good.values)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'cut': 'top'}, "a cut is 'top', wanted one of"),
        ({'dtype': 'int8'}, 'dtype is int8'),
        ({'views': dataclasses.replace(VIEWS, augmentations=(augment.MixUp(),))}, 'MixUp'),
        ({'views': dataclasses.replace(VIEWS, steps=[])}, 'steps of views'),
        ({'views': dataclasses.replace(VIEWS, steps=np.zeros((2, 2)))}, 'steps of views'),
    ],
)
def test_what_cannot_be_extracted_is_said(options, words, network):
    with pytest.raises(InputError, match=words):
        features.extract(*network, pictures(), **options)


def test_features_beyond_the_range_of_their_dtype_are_an_error(network):
    model, params, stats = network
    large = jax.tree.map(lambda leaf: leaf * 1e6, params)
    with pytest.raises(InputError, match='not finite as float16'):
        features.extract(model, large, stats, pictures(), dtype='float16')


def digest_of_resnext():
    """Its grouped convolutions are functions whose names contain an address."""
    model = stages.build(ResNet(depth=50, groups=32, width_per_group=4), 2)
    kept = {name: model.stages[name] for name in ('stem', 'stage1', 'head')}
    model = dataclasses.replace(model, stages=kept)
    params, stats = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stages.shapes(model))
    views = dataclasses.replace(VIEWS, augmentations=FLIP[1:])
    prefix = Prefix(model, ('head',), None, jnp.dtype('float32'), views)
    return prefix.digest('head', params, stats)


def extract_with_another(root, number, running=lambda: True):
    """Extracts while process `1 - number` does, and compares with the network itself."""
    model = Model(stages=STAGES, preprocessing=PREPROCESSING, num_classes=4)
    network = (model, *stages.init(model, jax.random.key(3)))
    wanted = direct(network, pictures(50))
    (root / f'ready{number}').touch()
    while not (root / f'ready{1 - number}').exists():
        assert running()
        time.sleep(0.01)
    for _ in range(3):
        found = features.extract(*network, pictures(50), batch_size=8)
        np.testing.assert_allclose(found.values[:, 0], wanted, rtol=1e-5, atol=1e-5)


PROCESS = """
import pathlib, sys
from tests.features import test_features
test_features.extract_with_another(pathlib.Path(sys.argv[1]), 1)
print(test_features.digest_of_resnext())
"""


@pytest.mark.slow
def test_two_processes_extract_at_once_and_name_a_program_alike(network, tmp_path):
    command = [sys.executable, '-c', PROCESS, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        extract_with_another(tmp_path, 0, running=lambda: other.poll() is None)
        output, _ = other.communicate(timeout=600)
    assert other.returncode == 0
    assert output.strip() == digest_of_resnext()
    assert features.extract(*network, pictures(50)).computed == 0
