"""Numbers as labels: lists, arrays and rotated digits, and errors that name the place."""

import json

import numpy as np
import pytest
from PIL import Image

import tljax
from tljax.data import arrays, labelled
from tljax.data.rotated_digits import rotated
from tljax.types import InputError

HEADER = 'path,age,weight,split'


def listed(folder, rows, header=HEADER):
    """A list of images; row i is that of `i.png`."""
    for index in range(len(rows)):
        Image.new('RGB', (8, 8), (index, 0, 0)).save(folder / f'{index}.png')
    path = folder / 'list.csv'
    path.write_text('\n'.join([header, *(f'{i}.png,{row}' for i, row in enumerate(rows))]))
    return path


def test_columns_of_a_list_are_numbers(tmp_path):
    path = listed(tmp_path, ['1.5,-2,train', ' 3 ,4e1,train', '5,6,test'])
    splits = tljax.Manifest(path=str(path), numbers=('weight', 'age')).splits()
    train = splits['train']
    assert train.class_names == ('weight', 'age')
    np.testing.assert_array_equal(train.labels, np.array([[-2, 1.5], [40, 3]], np.float32))
    np.testing.assert_array_equal(splits['test'].ids, [2])
    assert splits['test'].load(0)[0, 0, 0] == 2


def test_keys_of_json_lines_are_numbers(tmp_path):
    listed(tmp_path, [''] * 2)
    rows = [
        {'path': '0.png', 'age': 3, 'split': 'train'},
        {'path': '1.png', 'age': '4.5', 'split': 'test'},
    ]
    (tmp_path / 'list.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    splits = tljax.Manifest(path=str(tmp_path / 'list.jsonl'), numbers=('age',)).splits()
    assert [split.labels.tolist() for split in splits.values()] == [[[3.0]], [[4.5]]]


def test_a_test_split_is_drawn_over_the_whole_range(tmp_path):
    path = listed(tmp_path, [f'{i},0' for i in range(40)], 'path,age,weight')
    splits = tljax.Manifest(path=str(path), numbers=('age',), test_fraction=0.25).splits()
    groups = splits['test'].labels[:, 0] // 10
    assert np.bincount(groups.astype(int)).min() >= 2


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        (['1,2,train', 'old,2,train'], "line 3: age is 'old', wanted a number"),
        (['1,2,train', ',2,train'], "line 3: age is '', wanted a number"),
        (['1,nan,train'], "line 2: weight is 'nan', wanted a number"),
        (['1,2,train', '1,2,'], '1 rows have no split'),
        (['1,2,test'], 'no row is in train'),
    ],
)
def test_cells_that_are_no_numbers_are_named_with_their_line(rows, message, tmp_path):
    path = listed(tmp_path, rows)
    with pytest.raises(InputError, match=message):
        tljax.Manifest(path=str(path), numbers=('age', 'weight')).splits()


def test_a_missing_column_is_named(tmp_path):
    path = listed(tmp_path, ['1,2,train'])
    with pytest.raises(InputError, match="wanted the columns \\['height'\\]"):
        tljax.Manifest(path=str(path), numbers=('height',)).splits()


IMAGES = np.zeros((20, 4, 4), np.uint8)


def test_arrays_of_numbers_keep_their_names(tmp_path):
    np.savez(tmp_path / 'a.npz', images=IMAGES, labels=np.arange(20) / 3)
    splits = tljax.Arrays(path=str(tmp_path / 'a.npz'), numbers=True).splits()
    assert splits['train'].class_names == ('value',)
    assert {len(split) for split in splits.values()} == {16, 4}
    pairs = np.arange(40).reshape(20, 2)
    source = arrays.keep(
        train=(IMAGES, pairs), test=(IMAGES, pairs), class_names=('x', 'y'), numbers=True
    )
    test = source.splits()['test']
    assert (test.class_names, test.labels.dtype) == (('x', 'y'), np.float32)
    np.testing.assert_array_equal(test.labels, pairs)


@pytest.mark.parametrize(
    ('labels', 'names', 'message'),
    [
        (np.full(20, np.inf), (), 'train_labels has 20 values that are not finite'),
        (np.array(['a'] * 20), (), 'wanted numbers'),
        (np.zeros((20, 2)), ('x',), 'wanted 2 different names'),
    ],
)
def test_arrays_that_are_no_numbers_are_refused(labels, names, message):
    source = arrays.keep(train=(IMAGES, labels), class_names=names, numbers=True)
    with pytest.raises(InputError, match=message):
        source.splits()


def test_a_list_is_read_for_evaluation_by_the_names_of_the_numbers(tmp_path):
    path = listed(tmp_path, ['1,2,train', '3,4,test'])
    source = labelled.read(str(path), numbers=('weight',))
    assert (source.split, source.examples.labels.tolist()) == ('test', [[4.0]])
    with pytest.raises(InputError, match='wanted a list with the columns weight'):
        labelled.read(str(tmp_path), numbers=('weight',))


def test_digits_are_rotated_by_their_label():
    train = tljax.RotatedDigits(degrees=30.0).splits()['train']
    plain = tljax.Digits().splits()['train']
    assert np.abs(train.labels).max() <= 30
    angle = float(train.labels[3, 0])
    np.testing.assert_allclose(train.load(3), rotated(plain.load(3), angle), atol=1)
    bar = np.zeros((8, 8, 3), np.uint8)
    bar[3:5] = 255
    assert rotated(bar, 45.0)[:12, 20:].sum() > rotated(bar, -45.0)[:12, 20:].sum()
