"""Cells that share a frozen network train in one program, with the results of their runs alone."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests import small_runs
from tests.small_runs import Tiny
from tljax.augment import HorizontalFlip
from tljax.data.subsets import Subset
from tljax.models import stages
from tljax.models.heads import LinearHead
from tljax.records import console, predictions
from tljax.strategies.optimizers import SGD, AdamW
from tljax.strategies.schedules import Constant, Cosine
from tljax.strategies.strategies import FineTune, LinearProbe, SolvedProbe
from tljax.sweep import cells, run, shared_heads, worker
from tljax.sweep.folder import SweepFolder
from tljax.sweep.space import Axis, Chain, Product, Seeds, Zip
from tljax.training import run as training_run
from tljax.training.head_grid import outputs
from tljax.training.head_grid import run as grid_run
from tljax.types import Balance, CachePrefix, Dtype
from tljax.weights import network, own_format

pytestmark = pytest.mark.slow

TOGETHER = 'cells were trained together: they share the features of Tiny up to high'


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    """A probe of a tiny network with weights from a file; its features go through no disk."""
    model = stages.build(Tiny(), 3)
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    own_format.save(path, *stages.init(model, jax.random.key(3)), {})
    return small_runs.experiment(
        backbone=Tiny(weights=str(path)),
        strategy=LinearProbe(),
        optimizer=SGD(learning_rate=0.3, momentum=0.9),
        schedule=Cosine(warmup_epochs=1),
        augmentations=(),
        epochs=4.0,
        checkpoint_every_steps=None,
        keep_features=True,
        cache_gigabytes=0.0,
    )


def options(folder, **changes):
    """How the sweep is run."""
    return run.Options(workdir=folder, command='tljax sweep', **changes)


SGD_CELLS = Zip(
    Axis('optimizer.learning_rate', [0.3, 3.0]),
    Axis('optimizer.weight_decay', [0.0, 0.1]),
    Axis('schedule', [Cosine(warmup_epochs=1), Constant()]),
    Axis('per_class', [None, 8]),
    Axis('epochs', [4.0, 6.0]),
    Axis('seed', [0, 1]),
)
ADAM_CELLS = Product(
    Axis('optimizer', [AdamW(learning_rate=0.1, weight_decay=0.1)]),
    Zip(
        Axis('optimizer.b1', {'first': 0.8, 'second': 0.8}),
        Axis('optimizer.learning_rate', [0.3, 0.01]),
    ),
)
PART = Chain(SGD_CELLS, ADAM_CELLS)
ALONE = 3


@pytest.fixture(scope='module')
def swept(base, tmp_path_factory):
    """The folder of a sweep of two groups, its cells, and what it printed."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console.console, 'print', lambda text, **_: lines.append(str(text)))
        patch.setattr(run, '_report', lambda *_: None)
        folder = tmp_path_factory.mktemp('sweep')
        assert run.run(base, PART, options(folder)) == 0
    return SweepFolder(folder), cells.expand(PART, base), lines


@pytest.fixture(scope='module')
def alone(swept, tmp_path_factory):
    """The folders of the first cells, each run alone: two with SGD, one with Adam."""
    folder = tmp_path_factory.mktemp('alone')
    for cell in swept[1][:ALONE]:
        training_run.train(cell.experiment, folder / cell.name, show_model=False)
    return folder


def result(folder):
    """The content of result.json."""
    return json.loads((folder / 'result.json').read_text())


def test_each_cell_has_the_result_of_its_run_alone(swept, alone):
    folder, made, _ = swept
    best = []
    for cell in made[:ALONE]:
        actual, expected = result(folder.workdir(cell.name)), result(alone / cell.name)
        assert actual.keys() - expected.keys() == {'shared'}
        assert expected.keys() - actual.keys() == {'wall_time'}  # is not known for one of them
        for name in ('step', 'steps', 'phase_starts', 'train_count', 'trained_parameters', 'seed'):
            assert actual[name] == expected[name], name
        for split in ('val', 'test'):
            for name in ('loss', 'accuracy'):
                assert actual[split][name] == pytest.approx(expected[split][name], abs=1e-5)
        best.append(actual['step'] < actual['steps'])
    assert any(best)  # the best checkpoint of some cell is not its last
    assert not all(best)


def test_the_records_of_a_cell_are_those_of_its_run_alone(swept, alone):
    folder, made, _ = swept
    for cell in made[:ALONE]:
        actual = small_runs.records(folder.workdir(cell.name))
        expected = small_runs.records(alone / cell.name)
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def test_the_predictions_of_a_cell_are_those_of_its_run_alone(swept, alone):
    folder, made, _ = swept
    for cell in made[:ALONE]:
        actual = folder.predictions(cell.name)
        expected = predictions.read(alone / cell.name / 'predictions.npz')
        assert actual.classes == expected.classes
        for name, split in expected.splits.items():
            for part in ('ids', 'paths', 'labels'):
                np.testing.assert_array_equal(
                    getattr(actual.splits[name], part), getattr(split, part)
                )
            for part in ('logits', 'features'):
                np.testing.assert_allclose(
                    getattr(actual.splits[name], part), getattr(split, part), atol=1e-5, rtol=1e-5
                )


def test_splits_config_and_network_files_equal_those_of_the_run_alone(swept, alone):
    folder, made, _ = swept
    for cell in made[:ALONE]:
        for name in ('config.json', 'splits.json', 'network.json'):
            actual = (folder.workdir(cell.name) / name).read_text()
            assert actual == (alone / cell.name / name).read_text()


def test_the_checkpoint_of_a_cell_is_that_of_its_best_step(swept, alone):
    folder, made, _ = swept
    for cell in (made[0], made[ALONE - 1]):  # by SGD and by Adam
        arrays, step = small_runs.last_checkpoint(cell.experiment, folder.workdir(cell.name))
        assert step == result(alone / cell.name)['step'] == int(arrays['state'].step)
        loaded = [network.load(str(one)) for one in (folder.workdir(cell.name), alone / cell.name)]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            *(one.params for one in loaded),
        )


def test_the_sweep_says_what_was_shared(swept):
    folder, made, lines = swept
    together = [line for line in lines if TOGETHER in line]
    assert [line[0] for line in together] == ['2', '2']
    assert '(57 images)' in together[0]
    names = result(folder.workdir(made[0].name))['shared']['cells']
    assert names == [cell.name for cell in made[:2]]


def test_a_sweep_that_is_stopped_while_it_writes_ends_bit_identical(
    swept, base, tmp_path, monkeypatch
):
    folder, made, _ = swept
    written = []

    def write(head, *arguments, **settings):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(head)
        original(head, *arguments, **settings)

    original = outputs.write
    monkeypatch.setattr(run, '_report', lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr(outputs, 'write', write)
        with pytest.raises(KeyboardInterrupt):
            run.run(base, SGD_CELLS, options(tmp_path))
    assert run.run(base, SGD_CELLS, options(tmp_path, delete_checkpoints=True)) == 0
    for place, cell in enumerate(made[:2]):
        actual = SweepFolder(tmp_path).predictions(cell.name).splits['test'].logits
        expected = folder.predictions(cell.name).splits['test'].logits
        np.testing.assert_array_equal(actual, expected)
        kept = (SweepFolder(tmp_path).workdir(cell.name) / 'checkpoints').exists()
        assert kept == (place == 0)  # the others were written with --delete_checkpoints


@pytest.mark.parametrize(
    'changes',
    [
        {'augmentations': (HorizontalFlip(),)},
        {'strategy': FineTune()},
        {'strategy': SolvedProbe()},
        {'strategy': small_runs.HeadThenAll()},
        {'ema_decay': 0.9},
        {'accumulate': 2},
        {'compute_dtype': Dtype.BFLOAT16},
        {'cache_prefix': CachePrefix.NEVER},
        {'balance': Balance.WEIGH},
        {'head': LinearHead(dropout=0.1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_cells_that_need_more_than_the_features_of_a_frozen_network_run_alone(base, changes):
    part = Axis('optimizer.learning_rate', [0.1, 0.2])
    assert len(shared_heads.groups(cells.expand(part, base))) == 1
    changed = dataclasses.replace(base, **changes)
    assert shared_heads.groups(cells.expand(part, changed)) == []


def test_cells_are_grouped_by_everything_but_the_head_and_its_images(base):
    part = Product(
        Axis('batch_size', [8, 4]),
        Axis('subset', [Subset(fraction=0.5), Subset(label_noise=0.2), Subset(classes=('a', 'b'))]),
        Seeds(2),
    )
    made = shared_heads.groups(cells.expand(part, base))
    assert [len(group) for group in made] == [4, 4, 2, 2]


def test_seeds_of_a_network_without_weights_are_not_grouped(base):
    random = dataclasses.replace(base, backbone=Tiny())
    assert shared_heads.groups(cells.expand(Seeds(3), random)) == []
    part = Product(Axis('seed', [0]), Axis('data_seed', [1, 2]))
    assert len(shared_heads.groups(cells.expand(part, random))) == 1


@pytest.fixture
def run_alone(monkeypatch):
    """The names of the cells that are run alone, without training."""
    names = []
    monkeypatch.setattr(worker, 'run', lambda folder, cell, **_: names.append(cell.name))
    return names


def test_cells_run_alone_if_they_cannot_be_trained_together(
    base, tmp_path, monkeypatch, run_alone, capsys
):
    def fail(experiments):
        raise RuntimeError('planted')

    monkeypatch.setattr(grid_run, 'train', fail)
    folder, made = run.plan(base, Seeds(3), options(tmp_path))
    worker.work(folder, made)
    assert run_alone == [cell.name for cell in made]
    assert 'one by one' in capsys.readouterr().out


def test_cells_that_others_run_or_that_fail_are_not_written(base, tmp_path, run_alone):
    part = Axis('optimizer.learning_rate', [0.1, 0.2, 0.3, 1e38])
    folder, made = run.plan(base, Product(part, Axis('per_class', [8, 99])), options(tmp_path))
    held, started, written, infinite = (cell for cell in made if cell.experiment.per_class == 8)
    (folder.workdir(started.name) / 'checkpoints' / 'steps').mkdir(parents=True)
    with folder.acquire(held.name):
        worker.work(folder, made)
    assert [cell.name for cell in made if folder.is_done(cell.name)] == [written.name]
    impossible = {cell.name for cell in made if cell.experiment.per_class == 99}
    assert set(run_alone) == {started.name, infinite.name} | impossible
