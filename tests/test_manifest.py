"""Lists of image files."""

import json

import numpy as np
import pytest
from PIL import Image

from tljax.data.files import FolderError
from tljax.data.manifest import Manifest
from tljax.types import BadFiles

ROWS = [
    ('a.png', 'cat', 'train'),
    ('sub/b.png', 'dog', 'train'),
    ('c.png', 'cat', 'val'),
    ('d, e.png', 'dog', 'test'),
]


@pytest.fixture
def folder(tmp_path):
    """Four images, of the red of their number from 1."""
    (tmp_path / 'sub').mkdir()
    for number, (name, *_) in enumerate(ROWS, 1):
        Image.new('RGB', (3, 3), (number, 0, 0)).save(tmp_path / name)
    return tmp_path


def csv_text(rows, header='path,label,split'):
    return '\n'.join([header, *(','.join(f'"{x}"' if ', ' in x else x for x in r) for r in rows)])


def json_text(rows):
    names = ('path', 'label', 'split')
    return '\n'.join(json.dumps(dict(zip(names, row, strict=False))) for row in rows)


def manifest(folder, text, name='list.csv', **options):
    (folder / name).write_text(text)
    return Manifest(path=str(folder / name), **options)


def refusal(folder, text, name='list.csv'):
    with pytest.raises(FolderError) as caught:
        manifest(folder, text, name).splits()
    return str(caught.value)


def content(splits):
    return {
        name: [
            (int(split.load(i)[0, 0, 0]), split.class_names[label])
            for i, label in enumerate(split.labels)
        ]
        for name, split in splits.items()
    }


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('list.csv', csv_text(ROWS)),
        ('list.csv', '\ufeff' + csv_text(ROWS).replace('\n', '\r\n')),
        ('list.csv', csv_text([(s, p, n) for n, p, s in ROWS], 'split,label,path')),
        ('list.jsonl', json_text(ROWS)),
        ('list.jsonl', json_text(ROWS).replace('\n', '\n\n')),
    ],
    ids=['csv', 'csv of a spreadsheet', 'csv in another order', 'jsonl', 'jsonl with empty lines'],
)
def test_an_image_belongs_to_its_split_and_its_class(name, text, folder):
    found = content(manifest(folder, text, name).splits())
    assert found == {'train': [(1, 'cat'), (2, 'dog')], 'val': [(3, 'cat')], 'test': [(4, 'dog')]}


def test_paths_may_be_relative_to_another_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('lists')
    source = manifest(elsewhere, csv_text(ROWS), root=str(folder))
    assert content(source.splits())['test'] == [(4, 'dog')]


def test_without_splits_a_share_of_each_class_is_the_test_split(folder):
    rows = []
    for number in range(20):
        Image.new('RGB', (3, 3)).save(folder / f'{number}.png')
        rows.append((f'{number}.png', 'cat' if number < 10 else 'dog'))
    splits = manifest(folder, csv_text(rows, 'path,label'), test_fraction=0.3).splits()
    assert np.bincount(splits['train'].labels).tolist() == [7, 7]
    assert np.bincount(splits['test'].labels).tolist() == [3, 3]


def test_a_file_that_is_listed_but_not_there_is_found_before_training(folder):
    text = csv_text([*ROWS, ('gone.png', 'cat', 'train')])
    assert f'{folder}/gone.png: [Errno 2] No such file' in refusal(folder, text)


def test_a_file_that_is_not_there_is_left_out_if_so_wished(folder):
    text = csv_text([*ROWS, ('gone.png', 'cat', 'train')])
    splits = manifest(folder, text, bad_files=BadFiles.SKIP).splits()
    assert len(splits['train']) == 2
    assert list(splits['train'].findings.bad) == [f'{folder}/gone.png']


@pytest.mark.parametrize(
    ('rows', 'said'),
    [
        ([('x.png', 'cat;dog', 'train')], "line 6: 'cat;dog' is several labels"),
        ([('', 'cat', 'train')], "line 6: path '', label 'cat'; wanted both"),
        ([('x.png', '', 'train')], "line 6: path 'x.png', label ''; wanted both"),
        ([('x.png', 'cat', 'training')], "line 6: split is 'training', wanted one of"),
        ([('x.png', 'cat', '')], '1 rows have no split'),
        ([('x.png', 'eel', 'val')], "class 'eel' is in val, not in train"),
        ([('a.png', 'cat', 'test')], 'a.png is listed 2 times'),
    ],
)
def test_a_row_that_cannot_be_used_is_named(rows, said, folder):
    assert said in refusal(folder, csv_text([*ROWS, *rows]))


def test_several_labels_in_json_are_refused_as_well(folder):
    text = json_text(ROWS) + '\n' + json.dumps({'path': 'x', 'label': ['cat', 'dog']})
    assert "line 5: 'cat;dog' is several labels" in refusal(folder, text, 'list.jsonl')


def test_a_line_that_is_no_json_object_is_named(folder):
    text = json_text(ROWS) + '\n{"path": \n[1]'
    error = refusal(folder, text, 'list.jsonl')
    assert 'line 5: no JSON object' in error
    assert 'line 6: no JSON object' in error


def test_a_list_without_a_header_is_told(folder):
    assert "the first line is ('a.png', 'cat', 'train')" in refusal(
        folder, csv_text(ROWS[1:], 'a.png,cat,train')
    )


def test_a_missing_split_is_told(folder):
    assert "no row is in ['test'], found ['train', 'val']" in refusal(folder, csv_text(ROWS[:3]))


@pytest.mark.parametrize('content', [None, b'path,label\n\xff\xfe,cat', b'path,label\n', b''])
def test_a_list_that_is_not_there_or_not_text_or_empty_is_named(content, tmp_path):
    path = tmp_path / 'list.csv'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FolderError, match=str(path)):
        Manifest(path=str(path)).splits()


def test_of_very_many_problems_the_rest_is_counted(folder):
    text = csv_text([*ROWS, *((f'{i}.png', '', 'train') for i in range(30))])
    assert 'and 10 more' in refusal(folder, text)
