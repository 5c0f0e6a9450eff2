"""Training on cached outputs of frozen stages ends like training through these stages."""

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
from tljax.types import BadFiles, Balance, CachePrefix, Dtype, Findings, Norm, Phase, Rule
from tljax.weights import own_format

pytestmark = pytest.mark.usefixtures('shared_programs')
ALWAYS, AUTO, NEVER = CachePrefix.ALWAYS, CachePrefix.AUTO, CachePrefix.NEVER
AUGMENTED = (Affine(rotate_degrees=20, shift_share=0.2), HorizontalFlip(), Brightness(strength=0.5))
GRADUAL = GradualUnfreeze(epochs_per_stage=1.0)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Every test starts without features on the disk."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))


@dataclasses.dataclass(slots=True, kw_only=True)
class HeadThenHigh:
    """The head for 4 steps, then the head and the last stage for 4; `low` is always frozen."""

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        head, high = Rule(pattern='head'), Rule(pattern='high', learning_rate_scale=0.5)
        frozen = Rule(pattern='**', train=False)
        return Phase(rules=(head, frozen), steps=4), Phase(rules=(head, high, frozen), steps=4)


def frozen(**changes):
    """A run with frozen stages and no augmentation."""
    fields = {'strategy': LinearProbe(), 'augmentations': (), 'checkpoint_every_steps': None}
    return experiment(**{**fields, **changes})


PENALTIES = (L2SP(), DELTA())
RUNS = {
    'probe': {},
    'augmented, in parts, balanced, averaged, folded, bfloat16, with penalties': {
        'strategy': HeadThenHigh(),
        'augmentations': AUGMENTED,
        'accumulate': 2,
        'balance': Balance.SAMPLE,
        'ema_decay': 0.5,
        'fold_prefix': True,
        'prefix_dtype': Dtype.BFLOAT16,
        'penalties': PENALTIES,
    },
    'gradual, averaged, with penalties': {
        'strategy': GRADUAL, 'ema_decay': 0.5, 'penalties': PENALTIES
    },
    'gradual, augmented, in parts': {
        'strategy': GRADUAL, 'augmentations': AUGMENTED, 'accumulate': 2
    },
    'folded': {'fold_prefix': True},
    'bfloat16': {'prefix_dtype': Dtype.BFLOAT16},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Stored:
    """A PNG file of one gray level; the fifth file is missing."""

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
    """`Blobs` as PNG files, of which unreadable ones are skipped."""

    def splits(self):
        """See `types.DataSource`."""
        findings, splits = Findings(policy=BadFiles.SKIP), {}
        for name, split in Blobs().splits().items():
            stored = [Stored(int(number)) for number in split.ids]
            fields = {'load': decode.loader(stored), 'encoded': stored, 'findings': findings}
            splits[name] = dataclasses.replace(split, **fields)
        return splits


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A file of weights of the tiny network, with a head of three classes."""
    backbone: Any = Tiny()
    model = stages.build(backbone, 3)
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    own_format.save(path, *stages.init(model, jax.random.key(3)), {})
    return str(path)


def run(settings, folder, cache):
    """The last state of a run, its records and its result, with or without a prefix cache."""
    settings = dataclasses.replace(settings, cache_prefix=cache)
    result = train(settings, folder)
    return last_checkpoint(settings, folder)[0]['state'], records(folder), result


def members(names, *fast):
    """The names of runs; all except `fast` are slow."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize('name', members(RUNS, *list(RUNS)[:2]))
def test_a_run_with_a_prefix_cache_ends_like_one_without(name, weights, tmp_path, monkeypatch):
    caches, prepare = [], prefix_cache.prepare

    def watched(*args):
        caches.append(prepare(*args))
        return caches[-1]

    monkeypatch.setattr(prefix_cache, 'prepare', watched)
    settings = frozen(**RUNS[name], backbone=Tiny(weights=weights))
    state, lines, result = run(
        settings, tmp_path / 'cached', ALWAYS if settings.augmentations else AUTO
    )
    assert any(caches)
    expected, other_lines, other_result = run(settings, tmp_path / 'through', NEVER)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    pairs = [*zip(lines, other_lines, strict=True), (result['test'], other_result['test'])]
    for one, other in pairs:
        for metric in ('loss', 'accuracy'):
            assert one[metric] == pytest.approx(other[metric], rel=1e-4), metric


def decoded_images(monkeypatch):
    """A list with an entry for every image that was read."""
    images, resize = [], decode.resize_square

    def counted(*args):
        images.append(1)
        return resize(*args)

    monkeypatch.setattr(decode, 'resize_square', counted)
    return images


def test_images_are_read_once_for_all_epochs_and_a_second_run_computes_no_features(
    tmp_path, monkeypatch
):
    images = decoded_images(monkeypatch)
    extracted, extract = [], features.extract

    def watched(*args, **options):
        extracted.append(extract(*args, **options))
        return extracted[-1]

    monkeypatch.setattr(features, 'extract', watched)
    train(frozen(), tmp_path / 'first')
    # train and val once, then val and test in the final evaluation; in batches of 8
    assert len(images) == 32 + 16 + 16 + 24
    assert [one.computed for one in extracted] == [27, 9]
    train(frozen(optimizer=SGD(learning_rate=0.1), epochs=1.5), tmp_path / 'second')
    assert [one.computed for one in extracted] == [27, 9, 0, 0]


@pytest.mark.parametrize(
    ('strategy', 'crashes'),
    [
        (HeadThenHigh(), (3, 7)),
        pytest.param(LinearProbe(), (1, 5, 9), marks=pytest.mark.slow),
        pytest.param(GRADUAL, (1, 5, 9), marks=pytest.mark.slow),
    ],
    ids=['two cached phases', 'probe', 'gradual'],
)
def test_a_resumed_run_with_a_prefix_cache_is_bit_identical(strategy, crashes, tmp_path):
    settings = frozen(
        strategy=strategy, augmentations=AUGMENTED, cache_prefix=ALWAYS, checkpoint_every_steps=2
    )
    reference = tmp_path / 'reference', train(settings, tmp_path / 'reference')
    for number in crashes:
        crash_after(number, settings, tmp_path / 'resumed')
    train(settings, tmp_path / 'resumed')
    assert_same_run(settings, tmp_path / 'resumed', reference)


OBSTACLES = {
    'nothing is frozen': ({'strategy': FineTune()}, 'no stage below'),
    'statistics follow the batch': ({'norm': Norm.LIVE}, 'statistics of frozen stages follow'),
    'images are mixed': ({'augmentations': (MixUp(),)}, 'MixUp looks at other images'),
    'images are copied': ({'augmentations': (Copy(views=2),)}, 'Copy looks at other images'),
}


def cache_of(job):
    """What `prefix_cache.prepare` returns for the first phase, if it computes nothing."""
    return prefix_cache.prepare(job, job.phases[0], None, 0, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize('name', OBSTACLES)
def test_an_impossible_prefix_cache_is_an_error_only_if_it_was_required(name):
    changes, reason = OBSTACLES[name]
    job = jobs.setup(frozen(**changes))
    assert cache_of(job) is None
    required = dataclasses.replace(job.experiment, cache_prefix=ALWAYS)
    with pytest.raises(ConfigError, match=f'phase 1: .*{reason}'):
        prefix_cache.check(dataclasses.replace(job, experiment=required))


@pytest.mark.parametrize(
    'changes',
    [{'augmentations': AUGMENTED}, {'epochs': 0.8}, {'cache_prefix': NEVER}],
    ids=['each view is used once', 'less than an epoch', 'never'],
)
def test_by_default_there_is_no_prefix_cache_where_it_saves_nothing(changes):
    assert cache_of(jobs.setup(frozen(**changes))) is None


def test_by_default_there_is_no_prefix_cache_that_does_not_fit_in_memory(monkeypatch):
    monkeypatch.setattr(features.collected, '_memory_bytes', lambda: 1000)
    assert cache_of(jobs.setup(frozen())) is None


def test_an_unreadable_image_is_masked_as_without_a_prefix_cache(tmp_path):
    """One of 36 images cannot be read."""
    states = [
        run(frozen(data=Broken(), epochs=1.5), tmp_path / cache.value, cache)[0]
        for cache in (AUTO, NEVER)
    ]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
