"""Preparation of a run with samples: their weights, the guard's decision, and their records."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.small_runs import (
    Blobs,
    assert_identical,
    crash_after,
    experiment,
    last_checkpoint,
    records,
)
from tests.training.test_source_data import sourced
from tljax.augment import Cutout
from tljax.data.synthetic import Synthetic
from tljax.records import checkpoint_reading
from tljax.sample_transfer import (
    ClassImportance,
    Guard,
    KernelMeanMatching,
    Kliep,
    LogisticRatio,
    NearestSelection,
    TrAdaBoost,
    Uniform,
    UnlabelledPool,
    WithoutSource,
    effective_sample_size,
)
from tljax.sample_transfer.source import SampleLabels
from tljax.training import baselines, jobs
from tljax.training.run import train
from tljax.training.source_guard import guard, preparation
from tljax.training.source_guard import records as source_records
from tljax.training.source_guard.verdict import Losses, verdict
from tljax.types import InputError

pytestmark = pytest.mark.usefixtures('shared_programs')
WEIGHINGS = (
    Uniform(), LogisticRatio(), KernelMeanMatching(), Kliep(centres=10), ClassImportance(),
    NearestSelection(neighbours=2), TrAdaBoost(),
)  # fmt: skip
HALF = np.array([0.9, 0.7, 0.8, 1.1, 0.6, 1.0])


@dataclasses.dataclass(slots=True, kw_only=True)
class Mixed:
    """The blobs, as classes `a`, `b` and `c`, and as many images of noise, of a class `noise`."""

    def splits(self):
        """See `types.DataSource`."""
        blobs = Blobs().splits()['train']
        noise = np.random.default_rng(1).integers(0, 256, (36, 8, 8, 3), np.uint8)
        load = lambda i: blobs.load(i) if i < 36 else noise[i - 36]  # noqa: E731
        return {
            'train': dataclasses.replace(
                blobs,
                load=load,
                labels=np.concatenate([blobs.labels, np.full(36, 3, np.int32)]),
                ids=np.arange(72),
                class_names=('a', 'b', 'c', 'noise'),
            )
        }


@pytest.fixture(scope='module')
def mixed(shared_programs, tmp_path_factory):
    """A job with half of its samples like the target, and a cache of features of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield jobs.setup(sourced(data=Mixed()))


def measured(job, **changes):
    """The weights of a job's samples with other fields, and whether they were clipped."""
    config = dataclasses.replace(job.samples.config, **changes)
    return preparation.measure(job, dataclasses.replace(job.samples, config=config))


@pytest.mark.parametrize('weighing', WEIGHINGS, ids=lambda one: type(one).__name__)
def test_initial_weights_have_mean_1_and_are_reproducible(weighing, mixed):
    (weights, _), (again, _) = (measured(mixed, weights=weighing) for _ in range(2))
    assert (weights.shape, weights.dtype) == ((72,), np.float32)
    assert weights.min() >= 0
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(weights, again)
    if not isinstance(weighing, Uniform | TrAdaBoost):
        assert weights[:36].mean() > 1.2 * weights[36:].mean()  # noise is not like the target


def test_weights_with_a_small_effective_size_are_clipped_to_the_smallest_share(mixed):
    weights, clipped = measured(mixed, weights=LogisticRatio(), least_share=0.99)
    assert clipped
    assert effective_sample_size(weights) == pytest.approx(0.99 * 72, rel=1e-3)
    free, clipped = measured(mixed, weights=LogisticRatio(), least_share=0.01)
    assert not clipped
    assert effective_sample_size(free) < 0.95 * 72


class FixedVerdict:
    """Replaces the short runs: counts them, and gives a fixed verdict."""

    def __init__(self, monkeypatch, by):
        self.asked = 0
        monkeypatch.setattr(guard, 'compare', self.compare)
        self.by = by

    def compare(self, job, source):
        """See `guard.compare`."""
        self.asked += 1
        losses = (Losses(ids=np.arange(6), values=v) for v in (HALF + self.by, HALF))
        return verdict(*([one] for one in losses), 4, 9)


def test_samples_that_hurt_are_dropped_and_the_run_equals_one_without_samples(
    monkeypatch, tmp_path, capsys
):
    FixedVerdict(monkeypatch, by=0.5)
    what = sourced(guard=Guard.DROP, epochs=1.0)
    result = train(what, tmp_path / 'one')
    output = ' '.join(capsys.readouterr().out.split())
    assert 'samples hurt. The run continues without samples.' in output
    assert not result['source']['kept']
    assert result['source']['trial']['says'] == 'hurts'
    plain = dataclasses.replace(what, samples=None)
    train(plain, tmp_path / 'other')
    arrays = [
        checkpoint_reading.read_variables(tmp_path / n / 'checkpoints')[1:]
        for n in ('one', 'other')
    ]
    assert_identical(*arrays)
    assert records(tmp_path / 'one') == records(tmp_path / 'other')


@pytest.mark.slow
@pytest.mark.parametrize(('choice', 'by'), [(Guard.WARN, 0.5), (Guard.DROP, -0.5)])
def test_samples_stay_if_the_guard_only_warns_or_they_help(choice, by, monkeypatch, tmp_path):
    FixedVerdict(monkeypatch, by=by)
    result = train(sourced(guard=choice, epochs=1.0), tmp_path)
    assert result['source']['kept']
    assert any('source_loss' in record for record in records(tmp_path))


def test_a_resumed_run_reads_weights_and_decision_from_its_folder(monkeypatch, tmp_path):
    fixed = FixedVerdict(monkeypatch, by=-0.5)
    what = sourced(
        guard=Guard.DROP, weights=NearestSelection(neighbours=2), data=Mixed(), epochs=1.0
    )
    crash_after(3, what, tmp_path)
    assert fixed.asked == 1
    monkeypatch.setattr(preparation, 'measure', None)
    train(what, tmp_path)
    assert fixed.asked == 1


def test_a_resumed_run_refuses_another_number_of_samples(monkeypatch, tmp_path):
    crash_after(3, sourced(epochs=1.0), tmp_path)
    short = Synthetic(num_classes=4, train_per_class=9, test_per_class=1, size_px=8).splits()
    monkeypatch.setattr(Synthetic, 'splits', lambda _: short)
    with pytest.raises(InputError, match='the source has 36 images, and had 40'):
        # With another number of threads, because equal experiments share their data here.
        train(sourced(epochs=1.0, data_threads=0), tmp_path)


def test_a_damaged_file_of_weights_is_named(tmp_path):
    (tmp_path / 'source_weights.npz').write_bytes(b'PK\x03\x04nothing')
    with pytest.raises(InputError, match=r'source_weights.npz is damaged'):
        source_records.read_weights(tmp_path)


def test_the_weights_of_classes_and_images_are_listed_and_drawn(tmp_path):
    train(sourced(data=Mixed(), weights=NearestSelection(neighbours=2), epochs=1.0), tmp_path)
    found = json.loads((tmp_path / 'source.json').read_text())
    assert {row['class'] for row in found['classes']} == {'a', 'b', 'c', 'noise'}
    assert found['classes'][-1]['class'] == 'noise'
    assert sum(row['share_of_weight'] for row in found['classes']) == pytest.approx(1)
    assert found['highest'][0]['weight'] >= found['highest'][-1]['weight'] >= 1
    assert found['lowest'][0]['weight'] == 0
    sheet = Image.open(tmp_path / 'source_sheet.png')
    assert sheet.size[0] == 10 * (96 + 8)
    assert np.asarray(sheet).std() > 20
    assert (tmp_path / 'source_histogram.png').read_bytes().startswith(b'\x89PNG')


def test_the_baseline_without_samples_gives_the_gain_of_each_class(tmp_path, capsys):
    what = sourced(baselines=(WithoutSource(),), epochs=1.0)
    results = baselines.train_all(what, tmp_path)
    assert list(results) == ['fine tune', 'fine tune, no source']
    rows = json.loads((tmp_path / 'source_gain.json').read_text())
    both = [results[name]['test']['class_accuracy'] for name in results]
    for row in rows:
        index = ('a', 'b', 'c').index(row['class'])
        assert row['with_source'] == both[0][index]
        assert row['gain'] == both[0][index] - both[1][index]
    assert [row['gain'] for row in rows] == sorted((r['gain'] for r in rows), reverse=True)
    assert 'with the source' in capsys.readouterr().out


def pool(**changes):
    return UnlabelledPool(**{'data': Blobs(), **changes})


def test_confident_predictions_become_labels_of_a_pool_and_are_remembered():
    logits = jnp.log(jnp.array([[0.97, 0.02, 0.01], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]))
    memory = {'label': jnp.full(5, -1, jnp.int32)}
    none = SampleLabels(jnp.zeros((3, 3)), jnp.zeros(3, jnp.int32), jnp.ones(3, bool))
    (targets, labels, taken), after = pool(balanced=False).step_labels(
        none, jnp.array([4, 0, 2]), lambda: logits, memory
    )
    assert labels.tolist() == [0, 1, 2]
    assert taken.tolist() == [True, False, False]
    np.testing.assert_array_equal(targets, np.eye(3))
    assert after['label'].tolist() == [-1, -1, -1, -1, 0]


def test_a_rare_class_of_a_pool_has_a_lower_threshold():
    known = jnp.array([0] * 60 + [1] * 15 + [-1] * 25, jnp.int32)
    least = np.asarray(pool(threshold=0.9).thresholds(known, 3))
    assert least[0] == pytest.approx(0.9)  # as much as any, and more than is open
    assert pytest.approx(least[2]) == 0.45  # nothing yet
    share = 15 / 60
    assert least[1] == pytest.approx(0.9 * (1 + share / (2 - share)) / 2)


@pytest.mark.slow
def test_a_pool_of_files_needs_no_labels(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / f'{index}.png')
    what = experiment(
        samples=pool(
            data=None, paths=(str(tmp_path),), threshold=0.34, strong=(Cutout(),), guard=Guard.OFF
        ),
        epochs=1.0,
    )
    result = train(what, tmp_path / 'run')
    assert result['source']['examples'] == 5
    assert sum(result['source']['labelled'].values()) <= 5
    arrays, _ = last_checkpoint(what, tmp_path / 'run')
    assert arrays['state'].source.memory['label'].shape == (5,)
    assert jax.tree.leaves(arrays['state'].source.head) == []
