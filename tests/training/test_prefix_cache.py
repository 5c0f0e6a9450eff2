"""Training from what frozen stages gave: the same as training through them."""

import dataclasses
import io
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from tests.small_runs import (
    Blobs,
    Tiny,
    assert_same_run,
    crash_after,
    experiment,
    last_checkpoint,
    records,
)
from tljax import features
from tljax.augment import Affine, Brightness, Copy, HorizontalFlip, MixUp
from tljax.config.experiment import ConfigError
from tljax.data import decode
from tljax.models import stages
from tljax.strategies.optimizers import SGD
from tljax.strategies.penalties import DELTA, L2SP
from tljax.strategies.strategies import FineTune, GradualUnfreeze, LinearProbe
from tljax.training import jobs, prefix_cache
from tljax.training.run import train
from tljax.types import BadFiles, Balance, CachePrefix, Dtype, Findings, Norm
from tljax.weights import own_format

ALWAYS, AUTO, NEVER = CachePrefix.ALWAYS, CachePrefix.AUTO, CachePrefix.NEVER
AUGMENTED = (Affine(rotate_degrees=20, shift_share=0.2), HorizontalFlip(), Brightness(strength=0.5))
GRADUAL = GradualUnfreeze(epochs_per_stage=1.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing is on the disk before."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))


def frozen(**changes):
    """A run with frozen stages and no augmentation."""
    return experiment(**{'strategy': LinearProbe(), 'augmentations': (), **changes})


RUNS = {
    'probe': {},
    'phases': {'strategy': GRADUAL},
    'augmented': {'strategy': GRADUAL, 'augmentations': AUGMENTED},
    'balanced': {'balance': Balance.SAMPLE, 'augmentations': AUGMENTED},
    'parts': {'accumulate': 2, 'strategy': GRADUAL},
    'folded': {'fold_prefix': True},
    'bfloat16': {'prefix_dtype': Dtype.BFLOAT16},
    'averaged': {'strategy': GRADUAL, 'ema_decay': 0.5},
    'held': {'strategy': GRADUAL, 'penalties': (L2SP(), DELTA())},
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A PNG of its number as a gray level; the fifth has vanished."""

    number: int

    def read(self):
        """See `types.Encoded`."""
        if self.number == 5:
            raise FileNotFoundError(2, 'No such file')
        buffer = io.BytesIO()
        Image.new('RGB', (8, 8), (7 * self.number % 256,) * 3).save(buffer, 'png')
        return buffer.getvalue()

    def stamp(self):
        """See `types.Encoded`."""
        return str(self)


@dataclasses.dataclass(slots=True, kw_only=True)
class Broken:
    """The labels of `Blobs`; bad files are left out."""

    def splits(self):
        """See `types.DataSource`."""
        findings, splits = Findings(policy=BadFiles.SKIP), {}
        for name, split in Blobs().splits().items():
            stored = [Stored(int(number)) for number in split.ids]
            fields = {'load': decode.loader(stored), 'encoded': stored, 'findings': findings}
            splits[name] = dataclasses.replace(split, **fields)
        return splits


def weights_file(folder):
    """Weights of the tiny network, with a head of three classes."""
    backbone: Any = Tiny()
    model = stages.build(backbone, 3)
    path = folder / 'tiny.safetensors'
    own_format.save(path, *stages.init(model, jax.random.key(3)), {})
    return str(path)


def run(what, folder, cache):
    """The end of a run and its records, with or without features made ahead."""
    what = dataclasses.replace(what, cache_prefix=cache)
    result = train(what, folder)
    return last_checkpoint(what, folder)[0]['state'], records(folder), result


@pytest.mark.parametrize('name', RUNS)
def test_it_ends_where_training_through_the_frozen_stages_does(name, tmp_path, monkeypatch):
    made, prepare = [], prefix_cache.prepare

    def watched(*args):
        made.append(prepare(*args))
        return made[-1]

    monkeypatch.setattr(prefix_cache, 'prepare', watched)
    what = frozen(**RUNS[name], backbone=Tiny(weights=weights_file(tmp_path)))
    found, lines, result = run(what, tmp_path / 'ahead', ALWAYS if what.augmentations else AUTO)
    assert any(made)
    wanted, other_lines, other_result = run(what, tmp_path / 'through', NEVER)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    pairs = [*zip(lines, other_lines, strict=True), (result['test'], other_result['test'])]
    for one, other in pairs:
        for name in ('loss', 'accuracy'):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


def passes(monkeypatch):
    """A list that grows by the number of images, whenever some are read."""
    read, canvas = [], decode.resize_square

    def counted(*args):
        read.append(1)
        return canvas(*args)

    monkeypatch.setattr(decode, 'resize_square', counted)
    return read


def test_images_are_read_once_for_all_epochs_and_a_second_run_computes_no_features(
    tmp_path, monkeypatch
):
    read = passes(monkeypatch)
    found, extract = [], features.extract

    def watched(*args, **options):
        found.append(extract(*args, **options))
        return found[-1]

    monkeypatch.setattr(features, 'extract', watched)
    train(frozen(), tmp_path / 'first')
    assert len(read) == 32 + 16 + 16 + 24  # train, val; val and test at the end, in batches of 8
    assert [one.computed for one in found] == [27, 9]
    train(frozen(optimizer=SGD(learning_rate=0.1)), tmp_path / 'second')
    assert [one.computed for one in found] == [27, 9, 0, 0]


@pytest.mark.parametrize('strategy', [LinearProbe(), GRADUAL], ids=['probe', 'phases'])
def test_a_stopped_run_resumes_bit_by_bit(strategy, tmp_path):
    what = frozen(strategy=strategy, augmentations=AUGMENTED, cache_prefix=ALWAYS)
    reference = tmp_path / 'whole', train(what, tmp_path / 'whole')
    for number in (1, 5, 9):
        crash_after(number, what, tmp_path / 'stopped')
    train(what, tmp_path / 'stopped')
    assert_same_run(what, tmp_path / 'stopped', reference)


OBSTACLES = {
    'nothing is frozen': ({'strategy': FineTune()}, 'no stage below'),
    'statistics move': ({'norm': Norm.LIVE}, 'statistics of frozen stages follow'),
    'images are mixed': ({'augmentations': (MixUp(),)}, 'MixUp looks at other images'),
    'images are copied': ({'augmentations': (Copy(views=2),)}, 'Copy looks at other images'),
}


@pytest.mark.parametrize('name', OBSTACLES)
def test_what_cannot_be_made_ahead_is_refused_when_asked_for_and_else_trained_through(
    name, tmp_path
):
    changes, said = OBSTACLES[name]
    job = jobs.setup(frozen(**changes, cache_prefix=ALWAYS))
    with pytest.raises(ConfigError, match=f'phase 1: .*{said}'):
        prefix_cache.check(job)
    job = jobs.setup(frozen(**changes))
    assert prefix_cache.prepare(job, job.phases[0], None, 0, 4) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'changes',
    [{'augmentations': AUGMENTED}, {'epochs': 0.8}, {'cache_prefix': NEVER}],
    ids=['views are seen once', 'less than an epoch', 'never'],
)
def test_by_itself_it_is_done_where_it_spares_work(changes):
    job = jobs.setup(frozen(**changes))
    assert prefix_cache.prepare(job, job.phases[0], None, 0, 4) is None  # type: ignore[arg-type]


def test_features_that_memory_has_no_room_for_are_not_made_by_itself(monkeypatch):
    monkeypatch.setattr(features.collected, '_memory_bytes', lambda: 1000)
    job = jobs.setup(frozen())
    assert prefix_cache.prepare(job, job.phases[0], None, 0, 4) is None  # type: ignore[arg-type]


def test_a_bad_image_counts_nowhere(tmp_path, monkeypatch):
    """Of 36 images one cannot be read: its row is masked, as when training through."""
    ends = []
    for cache in (AUTO, NEVER):
        what = frozen(data=Broken(), cache_prefix=cache)
        train(what, tmp_path / cache.value)
        ends.append(last_checkpoint(what, tmp_path / cache.value)[0]['state'].params)
    for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
