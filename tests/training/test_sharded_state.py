"""A state of training that is split over four devices trains as a replicated one does."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.small_runs import Tiny, TinyStage, assert_identical, experiment, shared_programs
from tljax import devices, tree
from tljax.config import validation
from tljax.config.experiment import ConfigError
from tljax.models.backbones.vit import ViT
from tljax.strategies.strategies import LinearProbe
from tljax.training import compiled_step, jobs
from tljax.training.batches import Feed
from tljax.training.plan import collectives, shapes
from tljax.training.run import train
from tljax.training.signals import Paused
from tljax.types import Examples, InputError, MeshShape, Sharding


@dataclasses.dataclass(slots=True, kw_only=True)
class Wide(Tiny):
    """`Tiny` with kernels that are large enough to be split."""

    def stages(self):
        """See `types.Backbone`."""
        return {'low': TinyStage(64), 'high': TinyStage(64)}


VIT = ViT(width=64, depth=1, patch_px=4, size_px=8, head_width=32, dropout=0.1)
BOTH = pytest.mark.parametrize(
    'backbone',
    [
        pytest.param(Wide(), id='batch_norm'),
        pytest.param(VIT, id='transformer', marks=pytest.mark.slow),
    ],
)


def sharded(**changes):
    return experiment(sharding=Sharding.FSDP, **changes)


@pytest.fixture
def small_leaves_split(monkeypatch):
    """Splits the kernels of the tiny network, too."""
    monkeypatch.setattr(devices, 'SMALLEST_SHARDED', 16)


def trained(one, steps=4):
    """The job, the state and the losses after some steps."""
    job = jobs.setup(one)
    phase = job.phases[0]
    step = compiled_step.CompiledStep(job, phase, one.accumulate)
    feed, state, losses = Feed(job, phase), jobs.first_state(job), []
    for index in range(steps):
        state, sums = step(state, feed.take(index))
        losses.append(float(sums['loss']))
    return job, state, losses


@dataclasses.dataclass(slots=True, kw_only=True)
class HundredClasses:
    """200 images of 8 px; only their number is read."""

    def splits(self):
        """See `types.DataSource`."""
        examples = Examples(
            load=lambda index: np.zeros((8, 8, 3), np.uint8),
            labels=np.arange(200, dtype=np.int32) % 100,
            ids=np.arange(200),
            class_names=tuple(map(str, range(100))),
        )
        return {'train': examples, 'test': examples.take(np.arange(0))}


@dataclasses.dataclass(slots=True, kw_only=True)
class ManyFeatures(Tiny):
    """As many inputs of the head as a ResNet-50 has, above 4.7 MB of frozen parameters."""

    def stages(self):
        """See `types.Backbone`."""
        return {'low': TinyStage(64), 'high': TinyStage(2048)}


def moved(**changes):
    """The bytes that each kind of collective operation of the first phase's step moves."""
    job = shapes.setup(experiment(augmentations=(), **changes))
    compiled = compiled_step.compile_train_step(job, job.phases[0]).compiled
    operations = collectives.of_program(compiled.as_text(), job.mesh.size)
    return job, collectives.bytes_by_kind(operations)


def bytes_per_device(tree):
    """The bytes of the parts of abstract arrays that one device holds."""
    leaves = jax.tree.leaves(tree)
    return sum(np.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


@BOTH
def test_a_sharded_run_has_the_losses_of_a_replicated_one(backbone):
    _, replicated, losses = trained(experiment(backbone=backbone))
    _, state, sharded_losses = trained(sharded(backbone=backbone))
    np.testing.assert_allclose(sharded_losses, losses, rtol=1e-5)
    split = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
    assert len(split) >= 3
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        jax.device_get(state.stats),
        jax.device_get(replicated.stats),
    )


def test_a_device_of_four_holds_a_quarter_of_the_state_of_a_vit_l():
    vit_l = ViT(width=1024, depth=24, head_width=64)
    parts = {}
    for sharding in Sharding:
        job = shapes.setup(experiment(backbone=vit_l, ema_decay=0.99, sharding=sharding))
        parts[sharding] = bytes_per_device(jobs.checkpoint_shapes(job, job.phases[0])['state'])
    assert parts[Sharding.REPLICATED] > 4 * 4 * 300e6  # parameters, two moments, means
    assert parts[Sharding.FSDP] <= 1.1 / 4 * parts[Sharding.REPLICATED]


@pytest.mark.parametrize('sharding', Sharding)
def test_frozen_leaves_move_no_bytes_of_gradients(sharding):
    head = 4 * (2048 * 100 + 100)
    network = {'backbone': ManyFeatures(), 'data': HundredClasses(), 'sharding': sharding}
    _, kinds = moved(strategy=LinearProbe(), **network)
    assert head <= kinds.pop('all-reduce') + kinds.pop('reduce-scatter', 0) < 1.1 * head
    frozen = 4 * 9 * 64 * 2048
    if sharding is Sharding.FSDP:  # of the forward pass
        assert frozen <= kinds.pop('all-gather') < 1.3 * frozen
    assert not kinds


def one_device(*_):
    """A mesh of the first device alone."""
    return devices._mesh(1, 1, jax.devices()[:1])


@pytest.mark.slow
@pytest.mark.parametrize('starts_split', [False, True])
def test_a_run_goes_on_with_other_devices_and_says_so(
    starts_split, tmp_path, monkeypatch, capsys, small_leaves_split
):
    """It trains three or four times, as a checkpoint has to go to other devices and back."""
    together = {'ema_decay': 0.9}
    expected = train(experiment(**together), tmp_path / 'replicated')
    if starts_split:
        with pytest.raises(Paused):
            train(sharded(**together), tmp_path / 'run', until_step=4)
    with monkeypatch.context() as patch:
        patch.setattr(devices, 'make_mesh', one_device)
        with pytest.raises(Paused):
            train(experiment(**together), tmp_path / 'run', until_step=7)
    capsys.readouterr()
    table = MeshShape(data=2, model=2)
    result = train(sharded(mesh=table, **together), tmp_path / 'run')
    for split in ('val', 'test'):
        assert result[split]['loss'] == pytest.approx(expected[split]['loss'], rel=1e-3)
    printed = capsys.readouterr().out
    assert 'saved on 1 cpu device and goes on with 4 cpu devices, the state split over 2' in printed


@pytest.mark.slow
def test_the_same_devices_are_not_mentioned(tmp_path, capsys, small_leaves_split):
    one = sharded(epochs=1.5, evaluate=())
    with shared_programs():
        with pytest.raises(Paused):
            train(one, tmp_path, until_step=4)
        train(one, tmp_path)
    printed = capsys.readouterr().out
    assert 'Resuming at step 4' in printed
    assert 'rounding' not in printed


def test_frozen_parameters_are_gathered_a_stage_at_a_time():
    deep = dataclasses.replace(VIT, width=128, depth=8)
    one = sharded(backbone=deep, strategy=LinearProbe(), augmentations=())
    job = shapes.setup(one)
    compiled = compiled_step.compile_train_step(job, job.phases[0]).compiled
    frozen = tree.size_bytes(job.params)
    moved_bytes = collectives.bytes_by_kind(collectives.of_program(compiled.as_text(), 4))
    assert moved_bytes['all-gather'] > 0.95 * frozen
    assert compiled.memory_analysis().temp_size_in_bytes < 0.5 * frozen


def test_a_step_that_runs_out_of_memory_is_repeated_from_a_copy_of_its_parts(small_leaves_split):
    state = jobs.first_state(jobs.setup(sharded()))
    copy = devices.HostCopy(state)
    again = copy.put()
    assert_identical(again, state)
    assert jax.tree.map(lambda x: x.sharding, again) == jax.tree.map(lambda x: x.sharding, state)
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(again))


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((4096, 8), (1024, 8)),
        ((6, 4096), (6, 1024)),
        ((3, 3, 64, 64), (3, 3, 16, 64)),
        ((4099, 8), (4099, 2)),
        ((4099, 7), (4099, 7)),  # four divides no axis
        ((4096,), (4096,)),  # fewer than 2^14 values
    ],
)
def test_the_largest_axis_that_can_be_split_is_split(shape, expected):
    mesh = devices.make_mesh(sharding=Sharding.FSDP)
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    assert devices.sharded(mesh, leaf).shard_shape(shape) == expected


@pytest.mark.parametrize(
    ('shape', 'sharding', 'axes'),
    [
        (MeshShape(), Sharding.REPLICATED, (8, 1)),
        (MeshShape(), Sharding.FSDP, (1, 8)),
        (MeshShape(data=2), Sharding.FSDP, (2, 4)),
        (MeshShape(model=2), Sharding.FSDP, (4, 2)),
    ],
)
def test_what_a_mesh_does_not_say_follows_from_the_devices(shape, sharding, axes):
    assert devices.mesh_axes(shape, sharding, 8) == axes


def test_a_mesh_of_another_number_of_devices_is_refused():
    with pytest.raises(InputError, match='data=3 times model=2 is 6, wanted the number of dev'):
        devices.mesh_axes(MeshShape(data=3, model=2), Sharding.FSDP, 8)


def test_a_mesh_that_would_have_no_effect_is_refused():
    with pytest.raises(ConfigError, match=r'mesh.model is 2, wanted sharding fsdp'):
        validation.validate(experiment(mesh=MeshShape(model=2)))
    with pytest.raises(ConfigError, match=r'config.mesh.data is 0, wanted more than 0'):
        validation.validate(experiment(mesh=MeshShape(data=0)))
