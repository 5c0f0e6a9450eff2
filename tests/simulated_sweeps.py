"""Folders of sweeps with made-up results, so that reports are tested without training."""

import dataclasses
import json

import numpy as np

from tljax.records import predictions
from tljax.records.predictions import Predictions, SplitPredictions
from tljax.sweep.folder import AxisRecord, CellRecord, SweepFolder, SweepRecord, Value
from tljax.sweep.space import Role

ENVIRONMENT = {
    'versions': {'tljax': '1.0', 'jax': '0.10.2'},
    'device': {'kind': 'cpu', 'platform': 'cpu'},
    'device_count': 2,
    'git_revision': 'abc123',
}


def axis(name, values, role='compared', baseline=None):
    """An axis with values of any kind; `values` are names or numbers."""
    kinds = [
        Value(
            name=str(value),
            number=None if isinstance(value, str) else float(value),
            baseline=str(value) == str(baseline),
        )
        for value in values
    ]
    return AxisRecord(name=name, role=Role(role), values=tuple(kinds))


def seeds(count):
    """The axis of `Seeds(count)`."""
    return axis('seed', range(count), 'seed')


def grid(axes):
    """The settings of every combination."""
    points = [{}]
    for one in axes:
        points = [{**p, one.name: value.name} for p in points for value in one.values]
    return points


def write_sweep(path, axes, points=None, name=''):
    """Writes the record of a sweep; returns its folder, and the settings by cell."""
    folder = SweepFolder(path)
    cells = {f'{index:012x}': one for index, one in enumerate(points or grid(axes))}
    record = SweepRecord(
        name=name,
        command='tljax sweep --config=x.py',
        config={'seed': 0, 'note': '<b>bold</b>'},
        axes=tuple(axes),
        cells=tuple(CellRecord(name=cell, settings=one) for cell, one in cells.items()),
    )
    (path / name).mkdir(parents=True, exist_ok=True)
    (path / name / 'sweep.json').write_text(json.dumps(dataclasses.asdict(record)))
    return folder, cells


def metrics(score, count, loss=None):
    """The metrics of a split."""
    return {
        'accuracy': score,
        'loss': 1 - score if loss is None else loss,
        'top5_accuracy': 1.0,
        'count': count,
        'class_accuracy': [score, score],
    }


def finish(folder, cell, val=None, test=None, **fields):
    """Writes the result of a cell; `val` and `test` are metrics or None."""
    content = {
        'val': val,
        'test': test,
        'steps': 100,
        'step': 80,
        'trained_parameters': 1000,
        'frozen_parameters': 9000,
        'wall_seconds': 10.0,
        'class_names': ['a', 'b'],
        **ENVIRONMENT,
        **fields,
    }
    folder.workdir(cell).mkdir(parents=True, exist_ok=True)
    (folder.workdir(cell) / 'result.json').write_text(json.dumps(content))


def predict(folder, cell, right, split='test', ids=None, labels=None):
    """Writes predictions of a cell, of which the images in `right` [N] are correct."""
    right = np.asarray(right, bool)
    labels = np.asarray(np.arange(len(right)) % 2 if labels is None else labels, np.int32)
    predicted = np.where(right, labels, 1 - labels)
    rows = SplitPredictions(
        ids=np.arange(len(right), dtype=np.int64) if ids is None else np.asarray(ids, np.int64),
        paths=np.full(len(right), ''),
        labels=labels,
        logits=np.eye(2, dtype=np.float32)[predicted],
    )
    folder.workdir(cell).mkdir(parents=True, exist_ok=True)
    predictions.write(
        folder.workdir(cell) / 'predictions.npz', Predictions(('a', 'b'), {split: rows})
    )


def fail(folder, cell, message='out of memory', kind='RuntimeError'):
    """Records that a cell failed twice."""
    error = type(kind, (Exception,), {})(message)
    folder.fail(cell, error)
    folder.retry(cell)
    folder.fail(cell, error)


def start(folder, cell):
    """Lets this process run a cell; returns its lease."""
    (folder.path / 'leases').mkdir(exist_ok=True)
    held = folder.acquire(cell)
    assert held is not None
    return held


def simulate(path, axes, score, points=None, *, images=200, noise=0.02, with_predictions=True):
    """A finished sweep. `score(settings)` is the true accuracy of a cell.

    Images have a difficulty that all cells share, and each cell has noise of its own.
    """
    folder, cells = write_sweep(path, axes, points)
    difficulty = np.random.default_rng(0).uniform(size=images)
    for index, (cell, settings) in enumerate(cells.items()):
        rng = np.random.default_rng(index)
        level = score(settings) + rng.normal(0, noise)
        right = difficulty + rng.normal(0, 0.1, images) < level
        val = float(np.round(level + rng.normal(0, noise), 2))
        finish(
            folder,
            cell,
            metrics(min(max(val, 0.0), 1.0), 50),
            metrics(float(right.mean()), images),
            wall_seconds=float(10 + 100 * rng.uniform()),
        )
        if with_predictions:
            predict(folder, cell, right)
    return folder
