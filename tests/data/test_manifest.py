"""Lists of image files."""

import json

import numpy as np
import pytest
from PIL import Image

from tljax.data.files import FolderError
from tljax.data.manifest import Manifest
from tljax.metrics.tasks import choice
from tljax.metrics.tasks.classes import Classes
from tljax.metrics.tasks.label_sets import LabelSets
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


def test_a_listed_file_that_is_missing_is_reported_before_training(folder):
    text = csv_text([*ROWS, ('gone.png', 'cat', 'train')])
    assert f'{folder}/gone.png: [Errno 2] No such file' in refusal(folder, text)


def test_a_missing_file_is_skipped_if_configured(folder):
    text = csv_text([*ROWS, ('gone.png', 'cat', 'train')])
    splits = manifest(folder, text, bad_files=BadFiles.SKIP).splits()
    assert len(splits['train']) == 2
    assert list(splits['train'].findings.bad) == [f'{folder}/gone.png']


@pytest.mark.parametrize(
    ('rows', 'said'),
    [
        ([('', 'cat', 'train')], "line 6: path '', label 'cat'; wanted both"),
        ([('x.png', '', 'train')], "line 6: path 'x.png', label ''; wanted both; for an image"),
        ([('x.png', 'cat;', 'train')], "line 6: label 'cat;', wanted different names that"),
        (
            [('x.png', 'cat;dog;cat', 'train')],
            "line 6: label 'cat;dog;cat', wanted different names",
        ),
        ([('x.png', 'cat;eel', 'val')], "class 'eel' is in val, not in train"),
        ([('x.png', 'cat', 'training')], "line 6: split is 'training', wanted one of"),
        ([('x.png', 'cat', '')], '1 rows have no split'),
        ([('x.png', 'eel', 'val')], "class 'eel' is in val, not in train"),
        ([('a.png', 'cat', 'test')], 'a.png is listed 2 times'),
    ],
)
def test_a_row_that_cannot_be_used_is_named(rows, said, folder):
    assert said in refusal(folder, csv_text([*ROWS, *rows]))


SEVERAL = [
    ('a.png', 'dog;cat', 'train'),
    ('sub/b.png', 'ape', 'train'),
    ('c.png', ';', 'val'),
    ('d, e.png', 'ape; cat', 'test'),
]
MULTI_HOT = {'train': [[0, 1, 1], [1, 0, 0]], 'val': [[0, 0, 0]], 'test': [[1, 1, 0]]}


def lists(rows):
    return [(p, [x.strip() for x in label.split(';') if x], split) for p, label, split in rows]


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('list.csv', csv_text(SEVERAL)),
        ('list.jsonl', json_text(SEVERAL)),
        ('list.jsonl', json_text(lists(SEVERAL))),
    ],
    ids=['csv', 'jsonl', 'jsonl with lists'],
)
def test_several_labels_or_none_are_multi_hot_in_all_splits(name, text, folder):
    splits = manifest(folder, text, name).splits()
    assert {split: one.labels.tolist() for split, one in splits.items()} == MULTI_HOT
    assert all(
        one.labels.dtype == np.uint8 and choice.of(one) == LabelSets() for one in splits.values()
    )
    assert splits['train'].class_names == ('ape', 'cat', 'dog')
    assert choice.names(splits['train'], 0) == ('cat', 'dog')
    assert choice.names(splits['val'], 0) == ()


def test_images_with_one_label_each_can_be_declared_multi_label(folder):
    splits = manifest(folder, csv_text(ROWS), multi_label=True).splits()
    assert splits['train'].labels.tolist() == [[1, 0], [0, 1]]
    assert choice.of(manifest(folder, csv_text(ROWS)).splits()['train']) == Classes()


def test_a_single_class_is_enough_where_an_image_may_have_none(folder):
    rows = [('a.png', 'cat', 'train'), ('c.png', ';', 'train'), ('sub/b.png', 'cat', 'val')]
    assert manifest(folder, csv_text(rows)).splits()['train'].labels.tolist() == [[1], [0]]
    assert "the classes are ['cat'], wanted 2 or more" in refusal(folder, csv_text(rows[::2]))


def test_a_test_split_drawn_of_several_labels_has_the_share_of_each(folder):
    rows = []
    for number in range(40):
        Image.new('RGB', (3, 3)).save(folder / f'{number}.png')
        own = [name for bit, name in enumerate(('ape', 'bee')) if number >> bit & 1]
        rows.append((f'{number}.png', ';'.join(own) or ';'))
    splits = manifest(folder, csv_text(rows, 'path,label'), test_fraction=0.3).splits()
    assert splits['test'].labels.sum(0).tolist() == [6, 6]
    assert len(splits['test']) == 12


def test_a_class_without_a_good_image_is_named(folder):
    text = csv_text([*SEVERAL, ('gone.png', 'eel;cat', 'train')])
    with pytest.raises(FolderError, match=r"train has no good image of the classes \['eel'\]"):
        manifest(folder, text, bad_files=BadFiles.SKIP).splits()


@pytest.mark.parametrize('label', [None, [None], ['']])
def test_a_missing_label_in_json_is_reported(label, folder):
    text = json_text(ROWS) + '\n' + json.dumps({'path': 'x', 'label': label, 'split': 'train'})
    assert "line 5: path 'x', label ''; wanted both" in refusal(folder, text, 'list.jsonl')


def test_a_line_that_is_not_a_json_object_is_named(folder):
    text = json_text(ROWS) + '\n{"path": \n[1]'
    error = refusal(folder, text, 'list.jsonl')
    assert 'line 5: not a JSON object' in error
    assert 'line 6: not a JSON object' in error


def test_a_path_with_a_nul_and_a_deeply_nested_line_are_named(folder):
    text = json_text([*ROWS, ('a\0b.png', 'cat', 'train')]) + '\n' + '[' * 100_000
    error = refusal(folder, text, 'list.jsonl')
    assert 'line 6: not a JSON object' in error
    text = json_text([*ROWS, ('a\0b.png', 'cat', 'train')])
    assert 'line 5: a path has no NUL character' in refusal(folder, text, 'list.jsonl')


def test_a_list_without_a_header_is_refused(folder):
    assert "the first line is ('a.png', 'cat', 'train')" in refusal(
        folder, csv_text(ROWS[1:], 'a.png,cat,train')
    )


def test_a_list_without_training_images_is_refused(folder):
    assert "no row is in train, found ['test', 'val']" in refusal(folder, csv_text(ROWS[2:]))


def test_a_list_that_holds_out_validation_alone_has_no_test_split(folder):
    assert set(manifest(folder, csv_text(ROWS[:3])).splits()) == {'train', 'val'}


def test_of_a_list_of_train_alone_a_share_of_each_class_is_the_test_split(folder):
    rows = []
    for number in range(10):
        Image.new('RGB', (3, 3)).save(folder / f'{number}.png')
        rows.append((f'{number}.png', 'cat' if number < 5 else 'dog', 'train'))
    splits = manifest(folder, csv_text(rows), test_fraction=0.4).splits()
    assert np.bincount(splits['test'].labels).tolist() == [2, 2]
    assert splits['train'].findings.notes == [
        'train is the only split: 40 % of each class become the test split'
    ]


@pytest.mark.parametrize('content', [None, b'path,label\n\xff\xfe,cat', b'path,label\n', b''])
def test_a_list_that_is_missing_binary_or_empty_is_named(content, tmp_path):
    path = tmp_path / 'list.csv'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FolderError, match=str(path)):
        Manifest(path=str(path)).splits()


def test_of_very_many_problems_the_rest_is_counted(folder):
    text = csv_text([*ROWS, *((f'{i}.png', '', 'train') for i in range(30))])
    assert 'and 10 more' in refusal(folder, text)


def test_cells_that_print_alike_are_one_label_and_the_changes_are_noted(folder):
    rows = [('a.png', 'cat ', 'train'), ('c.png', '\u3000cat\u200b', 'train')]
    rows += [('sub/b.png', 'cafe\u0301', 'train'), (' d, e.png\u00a0', 'caf\u00e9\ufeff', ' val ')]
    splits = manifest(folder, csv_text(rows)).splits()
    assert splits['train'].class_names == ('caf\u00e9', 'cat')
    assert splits['train'].labels.tolist() == [1, 1, 0]
    (labels, paths) = splits['train'].findings.notes
    assert labels.startswith('4 label(s) normalised')
    assert labels.endswith("such as 'cat ' to 'cat'")
    assert paths.startswith('1 path(s) normalised')


def test_labels_of_json_are_normalised_likewise(folder):
    rows = [('a.png', ['cat ', 'dog'], 'train'), ('c.png', 'cat\u00a0', 'val')]
    assert choice.names(manifest(folder, json_text(rows), 'l.jsonl').splits()['val'], 0) == ('cat',)


def test_a_header_is_read_without_spaces_and_marks(folder):
    text = csv_text(ROWS, '\ufeff\ufeffPath , label\u00a0,\u200bsplit')
    assert set(manifest(folder, text).splits()) == {'train', 'val', 'test'}


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('a.png,cat, domestic,train', 'line 3: 4 cells, wanted the 3 of the header: a value with'),
        ('a.png,cat', 'line 3: 2 cells, wanted the 3 of the header'),
        ('"a.png,cat,train', 'line 3: not CSV: unexpected end of data'),
    ],
)
def test_a_row_of_another_width_is_refused_with_its_line(line, said, folder):
    assert said in refusal(folder, f'path,label,split\n\n{line}\n')


def test_empty_cells_behind_a_row_are_no_harm(folder):
    text = csv_text(ROWS).replace('val', 'val,,')
    assert len(manifest(folder, text).splits()['val']) == 1


def test_a_file_is_found_in_either_unicode_form_of_its_name(folder):
    for listed, stored in (('e\u0301.png', '\u00e9.png'), ('\u00fc.png', 'u\u0308.png')):
        Image.new('RGB', (3, 3)).save(folder / stored)
        splits = manifest(folder, csv_text([*ROWS, (listed, 'cat', 'train')])).splits()
        assert str(splits['train'].encoded[-1]) == f'{folder}/{stored}'


def test_other_columns_may_be_named(folder):
    text = csv_text(ROWS, 'file,name,part')
    columns = {'path_column': 'file', 'label_column': 'name', 'split_column': 'part'}
    assert set(manifest(folder, text, **columns).splits()) == {'train', 'val', 'test'}
    assert "('file', 'name', 'part'), wanted the columns path,label[,split]" in refusal(
        folder, text
    )


@pytest.mark.parametrize('name', ['list.csv', 'list.jsonl'])
def test_minus_one_among_numbered_classes_means_no_label(name, folder):
    rows = [(path, i - 1, 'train') for i, (path, *_) in enumerate(ROWS)]
    text = csv_text([tuple(map(str, row)) for row in rows]) if 'csv' in name else json_text(rows)
    first = 2 if 'csv' in name else 1
    assert f'1 label(s) are -1, the first in line {first}' in refusal(folder, text, name)


def test_minus_one_and_one_are_two_classes(folder):
    rows = [('a.png', '-1', 'train'), ('c.png', '1', 'train'), ('sub/b.png', '1', 'val')]
    assert manifest(folder, csv_text(rows)).splits()['train'].class_names == ('-1', '1')


def test_whole_floats_in_json_are_integers_and_nan_is_no_label(folder):
    rows = [('a.png', 1.0, 'train'), ('c.png', 1, 'train'), ('sub/b.png', 2, 'train')]
    splits = manifest(folder, json_text([*rows, ('d, e.png', 2, 'val')]), 'l.jsonl').splits()
    assert splits['train'].class_names == ('1', '2')
    text = json_text([('a.png', float('nan'), 'train')])
    assert "line 1: path 'a.png', label ''; wanted both" in refusal(folder, text, 'l.jsonl')
