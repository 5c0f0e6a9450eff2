"""Training on cached outputs of frozen stages ends like training through these stages."""

import dataclasses
import functools
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


COMBINED = 'two phases, augmented, in parts, balanced, averaged, folded, bfloat16'
RUNS = {
    'probe': {},
    COMBINED: {
        'strategy': HeadThenHigh(),
        'augmentations': AUGMENTED,
        'accumulate': 2,
        'balance': Balance.SAMPLE,
        'ema_decay': 0.5,
        'fold_prefix': True,
        'prefix_dtype': Dtype.BFLOAT16,
        'checkpoint_every_steps': 2,
    },
    'gradual, averaged, with penalties': {
        'strategy': GRADUAL, 'ema_decay': 0.5, 'penalties': (L2SP(), DELTA())
    },
    'gradual, augmented, in parts': {
        'strategy': GRADUAL, 'augmentations': AUGMENTED, 'accumulate': 2
    },
    'folded': {'fold_prefix': True},
    'bfloat16': {'prefix_dtype': Dtype.BFLOAT16},
}  # fmt: skip
MEMBERS = [n if n == 'probe' else pytest.param(n, marks=pytest.mark.slow) for n in RUNS]


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


@pytest.fixture(scope='module')
def settings_of(weights):
    """The function from a run's name to its experiment, with a prefix cache."""

    def settings(name):
        one = frozen(**RUNS[name], backbone=Tiny(weights=weights))
        return dataclasses.replace(one, cache_prefix=ALWAYS if one.augmentations else AUTO)

    return settings


@pytest.fixture(scope='module')
def cached_run(shared_programs, settings_of, tmp_path_factory):
    """The function from a run's name to its folder and result; it trains each run once."""
    folder = tmp_path_factory.mktemp('cached')

    @functools.cache
    def trained(name):
        caches, prepare = [], prefix_cache.prepare

        def watched(*args):
            caches.append(prepare(*args))
            return caches[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prefix_cache, 'prepare', watched)
            result = train(settings_of(name), folder / name)
        assert any(caches)
        return folder / name, result

    return trained


def last_state(settings, folder):
    """The last state of a run."""
    return last_checkpoint(settings, folder)[0]['state']


def assert_close_states(actual, expected):
    """Two states are equal up to rounding."""
    for one, other in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', MEMBERS)
def test_a_run_with_a_prefix_cache_ends_like_one_without(name, settings_of, cached_run, tmp_path):
    folder, result = cached_run(name)
    through = dataclasses.replace(settings_of(name), cache_prefix=NEVER)
    expected = train(through, tmp_path / 'through')
    assert_close_states(
        last_state(settings_of(name), folder), last_state(through, tmp_path / 'through')
    )
    lines = (records(one) for one in (folder, tmp_path / 'through'))
    for one, other in [*zip(*lines, strict=True), (result['test'], expected['test'])]:
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
    settings_of, tmp_path, monkeypatch
):
    settings = settings_of('probe')
    images = decoded_images(monkeypatch)
    extracted, extract = [], features.extract

    def watched(*args, **options):
        extracted.append(extract(*args, **options))
        return extracted[-1]

    monkeypatch.setattr(features, 'extract', watched)
    train(settings, tmp_path / 'first')
    # train and val once, then val and test in the final evaluation; in batches of 8
    assert len(images) == 32 + 16 + 16 + 24
    assert [one.computed for one in extracted] == [27, 9]
    other = dataclasses.replace(settings, optimizer=SGD(learning_rate=0.1), epochs=1.5)
    train(other, tmp_path / 'second')
    assert [one.computed for one in extracted] == [27, 9, 0, 0]


@pytest.mark.parametrize('name', ['probe', pytest.param(COMBINED, marks=pytest.mark.slow)])
def test_a_resumed_run_with_a_prefix_cache_is_bit_identical(
    name, settings_of, cached_run, tmp_path
):
    for number in (3, 7):  # of several phases, in the first and in the second
        crash_after(number, settings_of(name), tmp_path)
    train(settings_of(name), tmp_path)
    assert_same_run(settings_of(name), tmp_path, cached_run(name))


@pytest.mark.slow
@pytest.mark.parametrize('strategy', [LinearProbe(), GRADUAL], ids=['probe', 'gradual'])
def test_a_run_that_crashed_three_times_is_bit_identical(strategy, tmp_path):
    settings = frozen(
        strategy=strategy, augmentations=AUGMENTED, cache_prefix=ALWAYS, checkpoint_every_steps=2
    )
    reference = tmp_path / 'reference', train(settings, tmp_path / 'reference')
    for number in (1, 5, 9):
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


def test_an_unreadable_image_is_masked():
    """One of 36 images cannot be read."""
    job = jobs.setup(frozen(data=Broken()))
    cache = prefix_cache.prepare(job, job.phases[0], jobs.first_state(job), 0, 4)
    readable = {}
    for name, cached in {'train': cache.train, **cache.evaluated}.items():
        for index, number in enumerate(job.splits[name].ids.tolist()):
            readable[number] = cached(index, index)[1]
    assert readable == {number: number != 5 for number in range(36)}


@pytest.mark.slow
def test_a_run_with_an_unreadable_image_ends_like_one_without_a_prefix_cache(tmp_path):
    states = []
    for cache in (AUTO, NEVER):
        settings = frozen(data=Broken(), epochs=1.5, cache_prefix=cache)
        train(settings, tmp_path / cache.value)
        states.append(last_state(settings, tmp_path / cache.value))
    assert_close_states(*states)
