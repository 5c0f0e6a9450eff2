"""Runs that were made one by one, compared by their predictions."""

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest

import tljax
from tests import small_runs
from tljax.config import config_json
from tljax.metrics import paired_seeds
from tljax.metrics.paired_accuracy import accuracy_difference
from tljax.metrics.totals import wilson_interval
from tljax.records import predictions
from tljax.records.predictions import Predictions, SplitPredictions
from tljax.strategies.strategies import FineTune, LinearProbe
from tljax.training.report import paired_runs, paired_runs_output
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

CLASSES = ('a', 'b', 'c')
IDS = np.arange(120)
LABELS = (IDS % 3).astype(np.int32)


def split(right, ids=IDS, labels=None):
    """Predictions that are right for some images."""
    labels = LABELS[ids] if labels is None else labels
    logits = np.eye(3, dtype=np.float32)[np.where(right, labels, (labels + 1) % 3)]
    return SplitPredictions(ids, np.full(len(ids), ''), labels, logits)


def write(folder, accuracy, *, splits=None, classes=CLASSES, **changes):
    """A run's config and predictions, without a training; returns the folder."""
    rng = np.random.default_rng(sum(folder.name.encode()))
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(config_json.to_json(small_runs.experiment(**changes)))
    splits = splits or {'test': split(rng.random(120) < accuracy)}
    predictions.write(folder / 'predictions.npz', Predictions(classes, splits))
    return folder


def right(folder, name='test'):
    """Whether each image is classified correctly."""
    rows = predictions.read(folder / 'predictions.npz').splits[name]
    return rows.logits.argmax(1) == rows.labels


@pytest.fixture
def folders(tmp_path):
    """Eight seeds of a probe and of fine-tuning."""
    return [
        write(tmp_path / f'{name}_seed{seed}', accuracy, strategy=strategy, seed=seed)
        for name, accuracy, strategy in [('probe', 0.6, LinearProbe()), ('tuned', 0.9, FineTune())]
        for seed in range(8)
    ]


def test_runs_that_differ_only_in_seeds_are_one_row(folders):
    rows = tljax.compare(folders).rows
    assert [(row.name, row.seeds) for row in rows] == [
        ('probe', tuple(range(8))),
        ('tuned', tuple(range(8))),
    ]


def test_rows_are_paired_by_seed_and_images_by_id(folders):
    row = tljax.compare(folders[::-1], baseline=folders[3]).rows[1]
    first, second = ([right(folder) for folder in part] for part in (folders[8:], folders[:8]))
    assert row.pair == paired_seeds.difference(first, second)
    assert row.distinguishable
    assert row.accuracies == tuple(one.mean() for one in first)


def test_the_mean_has_students_interval_over_seeds(folders):
    row = tljax.compare(folders).rows[0]
    assert row.interval.count == 8
    assert row.interval.mean == pytest.approx(np.mean(row.accuracies))


def test_equal_runs_with_harmless_differences_are_rows_of_their_own_seed(tmp_path):
    one = write(tmp_path / 'one', 0.5, seed=1, data_threads=1)
    two = write(tmp_path / 'two', 0.5, seed=2, data_threads=2, report=False)
    other = write(tmp_path / 'other', 0.5, seed=1, epochs=7.0)
    rows = tljax.compare([one, two, other]).rows
    assert [row.runs for row in rows] == [(one, two), (other,)]
    assert rows[0].name == 'one and 1 more'
    assert rows[1].pair.seeds == 1


def test_a_record_without_a_later_field_is_grouped_with_one_that_has_its_default(tmp_path):
    one = write(tmp_path / 'one', 0.5, seed=1)
    two = write(tmp_path / 'two', 0.5, seed=2)
    other = write(tmp_path / 'other', 0.5, epochs=7.0)
    fields = json.loads((one / 'config.json').read_text())
    for name in ('data_seed', 'subset', 'norm', 'keep_features'):
        fields.pop(name, None)
    (one / 'config.json').write_text(json.dumps(fields))
    assert len(tljax.compare([one, two, other]).rows) == 2


def test_runs_of_the_same_config_and_seed_are_rows_of_their_own(tmp_path):
    one, two = (write(tmp_path / name, 0.7) for name in ('one', 'two'))
    row = tljax.compare([one, two]).rows[1]
    plain = accuracy_difference(right(two), right(one))
    assert (row.name, row.pair.difference, row.pair.p_value) == (
        'two',
        plain.difference,
        plain.p_value,
    )


def test_a_single_run_has_wilsons_interval_over_images(tmp_path):
    folders = [write(tmp_path / name, 0.7) for name in ('one', 'two')]
    row = tljax.compare(folders).rows[0]
    wilson = wilson_interval(int(right(folders[0]).sum()), 120)
    assert (row.interval.low, row.interval.high) == wilson


def test_two_single_runs_are_paired_by_image_whatever_their_seeds(tmp_path):
    one = write(tmp_path / 'one', 0.9, seed=1)
    two = write(tmp_path / 'two', 0.5, seed=2, epochs=7.0)
    row = tljax.compare([one, two]).rows[1]
    assert (row.pair.seeds, row.pair.images) == (1, 120)
    assert row.distinguishable


def test_rows_without_a_common_seed_are_not_compared(folders, tmp_path):
    other = write(tmp_path / 'other', 0.7, seed=99, epochs=7.0)
    comparison = tljax.compare([*folders, other])
    assert comparison.rows[2].pair is None
    assert comparison.tests == 1
    assert 'no common seed' in paired_runs_output.text(comparison)


def test_p_values_are_adjusted_for_all_rows(folders, tmp_path):
    others = [write(tmp_path / f'long_{seed}', 0.65, epochs=7.0, seed=seed) for seed in range(3)]
    rows = tljax.compare([*folders, *others]).rows
    adjusted = paired_seeds.holm([row.pair.p_value for row in rows[1:]])
    assert [row.adjusted for row in rows[1:]] == adjusted.tolist()
    assert math.isnan(rows[0].adjusted)


def test_images_that_only_one_run_has_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    ids = [rng.permutation(120)[:100] for _ in range(2)]
    one, two = (
        write(
            tmp_path / name,
            0,
            splits={'test': split(rng.random(100) < 0.7, ids[i])},
            epochs=float(2 + i),
        )
        for i, name in enumerate(('one', 'two'))
    )
    common = sorted(set(ids[0].tolist()) & set(ids[1].tolist()))
    values = [
        [bool(right(folder)[order.tolist().index(i)]) for i in common]
        for folder, order in ((one, ids[0]), (two, ids[1]))
    ]
    row = tljax.compare([TrainedRun(one), str(two)]).rows[1]
    assert row.pair.images == len(common)
    assert row.pair.difference == pytest.approx(np.mean(values[1]) - np.mean(values[0]))


def test_validation_images_that_depend_on_the_seed_are_nested_in_it(tmp_path):
    rng, folders = np.random.default_rng(0), []
    for name, accuracy, epochs in (('one', 0.5, 1.0), ('two', 0.7, 2.0)):
        for seed in range(4):
            ids = np.arange(30) + 30 * seed
            part = {'val': split(rng.random(30) < accuracy, ids)}
            folder = tmp_path / f'{name}_{seed}'
            folders.append(write(folder, 0, splits=part, seed=seed, epochs=epochs))
    comparison = tljax.compare(folders)
    first, second = ([right(f, 'val') for f in part] for part in (folders[4:], folders[:4]))
    nested = paired_seeds.difference(first, second, same_images=False)
    assert comparison.split == 'val'
    assert comparison.rows[1].pair == nested


def test_too_few_seeds_are_named_with_the_number_that_is_needed(folders):
    few = [*folders[:3], *folders[8:11]]
    comparison = tljax.compare(few)
    assert not comparison.rows[1].distinguishable
    text = ' '.join(paired_runs_output.text(comparison).split())
    assert 'With 3 seeds and 1 test, no adjusted p can be below 0.05' in text
    assert '6 seeds are needed' in text
    assert 'not distinguishable' in text


def test_the_number_of_seeds_is_suggested_for_a_difference(folders):
    small, large = (tljax.compare(folders, difference=d).rows[1] for d in (0.005, 0.2))
    assert small.seeds_needed > large.seeds_needed >= 6


@pytest.mark.parametrize('ending', ['md', 'tex', 'csv', 'json'])
def test_a_file_has_the_differences(ending, folders, tmp_path):
    comparison = tljax.compare(folders)
    pair = comparison.rows[1].pair
    path = tmp_path / f'table.{ending}'
    paired_runs_output.write(comparison, path)
    text = path.read_text()
    if ending == 'json':
        row = json.loads(text)['rows'][1]
        assert row['pair']['difference'] == pair.difference
        assert json.loads(text)['rows'][0]['adjusted'] is None
    elif ending == 'csv':
        rows = list(csv.DictReader(io.StringIO(text)))
        assert float(rows[1]['difference_low']) == pair.low
        assert rows[0]['difference'] == ''
    else:
        assert f'{100 * pair.difference:+.1f}' in text
        assert text.count('better') == 1


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda t: [t / 'nothing', t / 'one'], 'nothing holds no run'),
        (lambda t: [t / 'one'], '1 run of one config cannot be compared'),
        (lambda t: [t / 'one', t / 'bare'], 'tljax evaluate .*bare --data=config'),
        (lambda t: [t / 'one', t / 'val'], 'one has no predictions of val|val has no predictions'),
        (lambda t: [t / 'one', t / 'names'], 'names and one: .*same classes'),
        (lambda t: [t / 'one', t / 'labels'], 'labels and one: .*different labels'),
        (lambda t: [t / 'one', t / 'images'], 'images and one: .*different images'),
    ],
)
def test_runs_that_cannot_be_compared_end_in_a_line(make, message, tmp_path):
    hits = np.ones(60, bool)
    write(tmp_path / 'one', 0.9, splits={'test': split(hits, IDS[:60])})
    write(tmp_path / 'bare', 0.9, epochs=7.0)
    (tmp_path / 'bare/predictions.npz').unlink()
    parts = {
        'val': {'splits': {'val': split(hits, IDS[:60])}},
        'names': {'classes': ('x', 'y', 'z')},
        'labels': {'splits': {'test': split(hits, IDS[:60], LABELS[1:61])}},
        'images': {'splits': {'test': split(hits, IDS[60:])}},
    }
    for name, options in parts.items():
        write(tmp_path / name, 0.9, epochs=7.0, **options)
    with pytest.raises(InputError, match=message) as error:
        tljax.compare(make(tmp_path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('names', 'start'),
    [
        (['a'], 'a'),
        (['probe_seed0', 'probe_seed1'], 'probe'),
        (['resnet18_0', 'resnet18_1'], 'resnet18'),
        (['a_1', 'a_10'], 'a'),
        (['x', 'y'], ''),
    ],
)
def test_a_row_has_the_common_start_of_its_names(names, start):
    assert paired_runs._common_start(names) == start


def test_several_labels_per_image_count_as_right_together(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.random((50, 3)) < 0.5
    folders = []
    for name, epochs in (('one', 1.0), ('two', 2.0)):
        logits = np.where(labels ^ (rng.random((50, 3)) < 0.1), 1, -1).astype(np.float32)
        part = dataclasses.replace(split(np.ones(50, bool), IDS[:50]), labels=labels, logits=logits)
        folders.append(write(tmp_path / name, 0, splits={'test': part}, epochs=epochs))
    comparison = tljax.compare(folders)
    assert comparison.measure == 'all labels correct'
    assert comparison.rows[0].accuracies[0] < 0.95
