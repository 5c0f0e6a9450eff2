"""Starting values of an experiment: loaded, new and adapted leaves."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests import golden_small
from tljax import tree
from tljax.config.experiment import Experiment
from tljax.data.digits import Digits
from tljax.models import heads, port, stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vit import ViT
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FromScratch, LinearProbe
from tljax.training import baselines, jobs
from tljax.types import InputError, Preprocessing

VIT = ViT(width=64, depth=2, size_px=32)
GRAY = Preprocessing(size_px=32, resize_px=32, mean=(0.5,), std=(0.2,))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """`{family: file}` of networks for ten classes, with the names of their libraries."""
    folder = tmp_path_factory.mktemp('files')
    for backbone in (ResNetSmall(), VIT):
        params, stats = stages.shapes(stages.build(backbone, 10))
        leaves = tree.flatten({'params': params, 'batch_stats': stats})
        values = {path: golden_small.tensor(path, leaf.shape) for path, leaf in leaves.items()}
        table = next(iter(backbone.port_tables().values()))
        foreign = port.to_foreign(values, table)
        arrays = {name: np.asarray(array, order='C') for name, array in foreign.items()}
        path = folder / f'{type(backbone).__name__}.safetensors'
        safetensors.numpy.save_file(arrays, path)
    return {path.stem: str(path) for path in folder.iterdir()}


def setup(backbone, files, **changes):
    """A job on the digits from a network's file."""
    experiment = Experiment(
        backbone=dataclasses.replace(backbone, weights=files[type(backbone).__name__]),
        data=Digits(),
        strategy=LinearProbe(),
        optimizer=SGD(learning_rate=0.1),
        per_class=4,
        batch_size=8,
        epochs=1,
    )
    return jobs.setup(dataclasses.replace(experiment, **changes))


def value(path):
    """The function from a parameter's shape to its value in the files."""
    return lambda shape: golden_small.tensor(f'params/{path}', shape)


def test_every_stage_but_the_head_starts_from_the_weights(files):
    job = setup(ResNetSmall(), files)
    kernel = job.params['stage3']['block1']['conv1']['kernel']
    expected = value('stage3/block1/conv1/kernel')(kernel.shape)
    np.testing.assert_array_equal(kernel, expected)
    assert not np.any(job.params['head']['linear']['kernel'])
    assert job.notes == ('The head is new: 10 classes instead of 10.',)


def test_the_head_of_the_weights_is_kept_if_the_experiment_says_so(files):
    job = setup(ResNetSmall(), files, head='pretrained')
    kernel = job.params['head']['linear']['kernel']
    np.testing.assert_array_equal(kernel, value('head/linear/kernel')(kernel.shape))
    assert job.notes == ()


def test_a_head_for_other_classes_cannot_be_kept(files):
    with pytest.raises(InputError, match='is for 86 classes, wanted 10'):
        setup(ResNetSmall(), {'ResNetSmall': 'embedded:glyphs'}, head='pretrained')


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'head': 'pretraind'}, "config.head is 'pretraind', wanted 'pretrained'"),
        ({'head': 'pretrained', 'cut_after': 'stage2'}, 'wanted cut_after None with it'),
        ({'head': heads.MLPHead(hidden=())}, r'config\.head\.hidden is \(\)'),
        ({'head': heads.LinearHead(dropout=1.0)}, r'config\.head\.dropout is 1\.0'),
    ],
)
def test_an_invalid_head_is_refused_with_its_reason(changes, reason, files):
    with pytest.raises(InputError, match=reason):
        setup(ResNetSmall(), files, **changes)


def test_another_head_follows_the_last_kept_stage(files):
    job = setup(ResNetSmall(), files, cut_after='stage2', head=heads.MLPHead(hidden=(12,)))
    assert job.params['head']['hidden1']['kernel'].shape == (32, 12)
    assert job.dropped == ('stage3',)


def test_a_network_is_adapted_to_gray_input(files):
    job = setup(ResNetSmall(), files, preprocessing=GRAY)
    assert job.params['stem']['conv1']['kernel'].shape == (3, 3, 1, 16)
    assert 'stem/conv1/kernel reads 1 channels instead of 3.' in job.notes
    x = stages.normalise(job.model.preprocessing, np.zeros((1, 32, 32, 3), np.uint8))
    assert x.shape == (1, 32, 32, 1)


@pytest.mark.slow
def test_a_dry_run_prints_how_the_network_was_adapted(files, capsys):
    job = setup(ResNetSmall(), files, preprocessing=GRAY)
    baselines.dry_run(job.experiment)
    assert 'reads 1 channels' in capsys.readouterr().out


def test_a_vit_is_adapted_to_the_image_size_of_the_experiment(files):
    larger = Preprocessing(size_px=48, resize_px=48)
    job = setup(VIT, files, preprocessing=larger)
    assert job.params['embed']['position_embedding'].shape == (1, 1 + 9, 64)
    assert any('resized from 4 patches to 9' in note for note in job.notes)


def test_from_scratch_only_the_preprocessing_of_the_weights_is_used(files):
    job = setup(ResNetSmall(), {'ResNetSmall': 'embedded:glyphs'}, strategy=FromScratch())
    assert job.model.preprocessing.size_px == 16
    assert job.weights is None
    init_key, _ = jobs.keys(job.experiment.seed)
    params, _ = stages.init(job.model, init_key)
    jax.tree.map(np.testing.assert_array_equal, job.params, params)


def test_the_seed_of_the_images_chooses_them_and_nothing_else(files):
    def drawn(**seeds):
        job = setup(ResNetSmall(), files, strategy=FromScratch(), validation_fraction=0.25, **seeds)
        images = {name: job.splits[name].ids.tolist() for name in ('train', 'val')}
        return images, jax.tree.leaves(job.params['stem'])

    images, values = drawn(seed=1)
    same_images, other_values = drawn(seed=2, data_seed=1)
    other_images, same_values = drawn(seed=1, data_seed=2)
    assert same_images == images
    assert other_images != images
    jax.tree.map(np.testing.assert_array_equal, same_values, values)
    assert any((a != b).any() for a, b in zip(values, other_values, strict=True))
