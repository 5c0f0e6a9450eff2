"""A tiny experiment that runs in seconds, its simulated crashes, and comparisons of results."""

import contextlib
import dataclasses
import functools
import json
import os
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.augment import HorizontalFlip
from tljax.config.experiment import Experiment
from tljax.models import layers
from tljax.records import checkpoint, writers
from tljax.sample_transfer import Guard
from tljax.strategies.optimizers import AdamW
from tljax.strategies.strategies import FineTune
from tljax.training import compiled_step, jobs, run
from tljax.training.run import train
from tljax.training.source_guard import guard
from tljax.types import CachePrefix, Examples, OnNonfinite, Phase, Preprocessing, Rule

# Fields that no evaluation depends on, with any value.
TRAINING_ONLY = {
    'strategy': FineTune(),
    'optimizer': AdamW(),
    'augmentations': (),
    'penalties': (),
    'samples': None,
    'epochs': 1.0,
    'ema_decay': None,
    'cache_prefix': CachePrefix.AUTO,
    'accumulate': 1,
}
TIMING = ('images_per_second', 'waiting_share', 'seconds_left', 'wall_time')


class TinyStage(nn.Module):
    """A convolution with stride 2, BatchNorm and dropout.

    It is XLA's own: the form that `models.convolutions` gives such small maps takes longer to trace
    and to compile than all the rest of a step.
    """

    width: int

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """[B, H, W, C] to [B, H / 2, W / 2, width]."""
        how = {
            'strides': 2,
            'padding': [(1, 1)] * 2,
            'use_bias': False,
            'kernel_init': layers.he_normal,
        }
        x = nn.Conv(self.width, (3, 3), name='conv', **how)(x)
        x = nn.relu(layers.BatchNorm(name='norm')(x, use_running_average=use_running_average))
        return nn.Dropout(0.1)(x, deterministic=deterministic)


@dataclasses.dataclass(slots=True, kw_only=True)
class Tiny:
    """Stages `low, high` of 4 and 8 channels."""

    weights: str | None = None

    def stages(self):
        """See `types.Backbone`."""
        return {'low': TinyStage(4), 'high': TinyStage(8)}

    def head(self, num_classes):
        """See `types.Backbone`."""
        return layers.ClassifierHead(num_classes)

    def port_tables(self):
        """See `types.Backbone`."""
        return {}

    def preprocessing(self):
        """See `types.Backbone`."""
        return Preprocessing(size_px=8, resize_px=8)


@dataclasses.dataclass(slots=True, kw_only=True)
class Blobs:
    """Three classes of noisy 8 px images: 36 to train on, 21 to test."""

    test_labels_shift: int = 0  # by how much the labels of the test split are wrong
    black: int | None = None  # the id of an image that is black

    def splits(self):
        """See `types.DataSource`."""
        rng = np.random.default_rng(0)
        labels = np.arange(57, dtype=np.int32) % 3
        images = rng.normal(100, 60, (57, 8, 8, 3)) + 25 * np.eye(3)[labels][:, None, None]
        images = images.clip(0, 255).astype(np.uint8)
        if self.black is not None:
            images[self.black] = 0

        def load(index):
            time.sleep(float(os.environ.get('BLOBS_SECONDS', '0')))
            return images[index]

        everything = Examples(
            load=load, labels=labels, ids=np.arange(57), class_names=('a', 'b', 'c')
        )
        test = everything.take(np.arange(36, 57))
        shifted = (test.labels + np.int32(self.test_labels_shift)) % 3
        test = dataclasses.replace(test, labels=shifted)
        return {'train': everything.take(np.arange(36)), 'test': test}


@dataclasses.dataclass(slots=True, kw_only=True)
class BlackIsNaN:
    """An augmentation that fails on black images: their values become NaN."""

    def __call__(self, key, images, targets):
        """See `types.Augmentation`."""
        black = (images == 0).all((1, 2, 3), keepdims=True)
        return jnp.where(black, jnp.nan, images), targets


@dataclasses.dataclass(slots=True, kw_only=True)
class HeadThenAll:
    """The head for one epoch, then everything, more slowly."""

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        head = (Rule(pattern='head'), Rule(pattern='**', train=False))
        everything = (Rule(pattern='**', learning_rate_scale=0.3),)
        return Phase(rules=head, epochs=1.0), Phase(rules=everything, epochs=2.0)


def experiment(**changes):
    """27 images to train on, 9 to validate: 3.375 steps an epoch, evaluated at 4, 7 and 11.

    It writes no report.html, which takes longer than its training.
    """
    fields = {
        'backbone': Tiny(),
        'data': Blobs(),
        'strategy': FineTune(),
        'optimizer': AdamW(learning_rate=0.01),
        'augmentations': (HorizontalFlip(),),
        'validation_fraction': 0.25,
        'epochs': 3.0,
        'batch_size': 8,
        'clip_norm': 1.0,
        'checkpoint_every_steps': 2,
        'log_every_steps': 5,
        'report': False,
    }
    return Experiment(**{**fields, **changes})


def short():
    """The same with 4 steps only, on all 36 images."""
    return experiment(epochs=0.8, validation_fraction=0.0, checkpoint_every_steps=None)


def two_phases():
    """4 steps of the head, then 7 of everything."""
    return experiment(strategy=HeadThenAll())


def with_a_bad_image(**changes):
    """The same with an image, of id 5, that makes every step it is in not finite."""
    fields = {
        'data': Blobs(black=5),
        'augmentations': (BlackIsNaN(),),
        'on_nonfinite': OnNonfinite.SKIP,
        'log_every_steps': 1,
    }
    return experiment(**fields | changes)


class Crash(Exception):  # noqa: N818
    """Stands for a kill."""


@contextlib.contextmanager
def before_step(number, action):
    """Calls `action` instead of starting the step after step `number`."""
    compiled = compiled_step.compile_train_step

    def compile_train_step(*args):
        step = compiled(*args)

        def act_or_step(key, state, batch, *arrays):
            if int(state.step) == number:
                action()
            return step(key, state, batch, *arrays)

        return act_or_step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_step, 'compile_train_step', compile_train_step)
        yield


def crash(*_, **__):
    """Ends a run as an unforeseen error would."""
    raise Crash


def crash_after(number, experiment, workdir):
    """Runs an experiment that crashes after step `number`."""
    with before_step(number, crash), pytest.raises(Crash):
        train(experiment, workdir)


def identity(value):
    """What an equal value has, too: classes count as themselves, and not by their names."""
    if dataclasses.is_dataclass(value):
        fields = (identity(getattr(value, f.name)) for f in dataclasses.fields(value))
        return type(value), tuple(fields)
    return tuple(map(identity, value)) if isinstance(value, tuple) else repr(value)


@contextlib.contextmanager
def shared_programs(kept=None):
    """Runs of equal experiments share their job and their compiled programs in this block.

    A resumed run then costs its steps and checkpoints only. The data must not change meanwhile.
    With one dictionary `kept`, they share them with other blocks, too.
    """
    kept = {} if kept is None else kept

    def shared(function, key):
        results = kept.setdefault(function.__name__, {})

        @functools.wraps(function)
        def call(*args, **options):
            name = key(*args, **options)
            if name not in results:
                results[name] = function(*args, **options)
            return results[name]

        return call

    def of_step(job, phase, accumulate=None, features=None, with_samples=False, skip=False):
        samples = job.samples and dataclasses.replace(
            job.samples.config, guard=Guard.OFF, trial_pairs=1, trial_steps=1
        )
        unused = {'cache_prefix': CachePrefix.AUTO, 'baselines': ()}
        experiment = dataclasses.replace(job.experiment, samples=samples, **unused)
        accumulate = accumulate or job.experiment.accumulate
        options = (phase.index, accumulate, features, with_samples, skip)
        return identity(experiment), repr(options)

    def of_evaluation(job):
        return identity(dataclasses.replace(job.experiment, **TRAINING_ONLY))

    with pytest.MonkeyPatch.context() as patch:
        setup = shared(jobs.setup, identity)
        # Copies, because a job keeps the arrays of its penalties.
        patch.setattr(jobs, 'setup', lambda experiment: dataclasses.replace(setup(experiment)))
        step = shared(compiled_step.compile_train_step, of_step)
        patch.setattr(compiled_step, 'compile_train_step', step)
        evaluate = shared(run.make_evaluate, of_evaluation)
        patch.setattr(run, 'make_evaluate', evaluate)
        patch.setattr(guard, 'LossReader', shared(guard.LossReader, of_evaluation))
        yield


def last_checkpoint(experiment, workdir):
    """Parameters, statistics, optimizer state and sums of the latest checkpoint, and its step."""
    job = jobs.setup(experiment)
    checkpoints = checkpoint.Checkpoints(workdir / 'checkpoints')
    step = checkpoints.steps()[-1]
    phase = job.phases[len(checkpoints.record(step)['starts']) - 1]
    arrays, _ = checkpoints.restore(step, jobs.checkpoint_shapes(job, phase))
    checkpoints.close()
    return arrays, step


def assert_identical(actual, expected):
    """Two trees of arrays are the same, bit by bit."""
    flat = [jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (actual, expected)]
    paths = [[path for path, _ in leaves] for leaves in flat]
    assert paths[0] == paths[1]
    differing = [
        jax.tree_util.keystr(path)
        for (path, one), (_, other) in zip(*flat, strict=True)
        if np.asarray(one).tobytes() != np.asarray(other).tobytes()
    ]
    assert not differing


def records(workdir):
    """The records in metrics.jsonl, without those of speed."""
    lines = writers.read_metrics(workdir / 'metrics.jsonl')
    return [{k: v for k, v in record.items() if k not in TIMING} for record in lines]


def assert_same_run(experiment, workdir, reference):
    """A run left the same checkpoint, records and result as the reference."""
    folder, result = reference
    actual, step = last_checkpoint(experiment, workdir)
    expected, last = last_checkpoint(experiment, folder)
    assert step == last == result['steps']
    assert_identical(actual, expected)
    assert records(workdir) == records(folder)
    saved = json.loads((workdir / 'result.json').read_text())
    for name in ('val', 'test', 'step', 'steps', 'seed', 'class_names', 'trained_parameters'):
        assert saved[name] == result[name], name
