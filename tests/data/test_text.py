"""The source `Texts`: lists and folders of texts, their splits and their bad texts."""

import json

import numpy as np
import pytest

from tljax.data.files import FolderError
from tljax.data.text import Texts
from tljax.types import BadFiles

ROWS = [('good, "very" good', 'pos'), ('bad\nbad', 'neg'), ('fine', 'pos'), ('poor', 'neg')]


def csv_of(rows, header='text,label,split'):
    """A table in quotes."""
    cells = [','.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    return '\n'.join([header, *cells])


def texts(split):
    return [split.load(i) for i in range(len(split))]


@pytest.fixture
def listed(tmp_path):
    """A function that writes a list and returns its source."""

    def write(rows, suffix='csv', **fields):
        path = tmp_path / f'list.{suffix}'
        if suffix == 'csv':
            path.write_text(csv_of(rows))
        else:
            named = [dict(zip(('text', 'label', 'split'), row, strict=False)) for row in rows]
            path.write_text('\n'.join(map(json.dumps, named)))
        return Texts(path=str(path), **fields)

    return write


@pytest.mark.parametrize('suffix', ['csv', 'jsonl'])
def test_the_rows_of_a_list_are_texts_with_labels_in_splits(listed, suffix):
    splits = listed([(*row, s) for row, s in zip(ROWS, ['train'] * 2 + ['test'] * 2, strict=True)],
                    suffix).splits()  # fmt: skip
    assert texts(splits['train']) == ['good, "very" good', 'bad\nbad']
    assert splits['train'].class_names == ('neg', 'pos')
    assert splits['test'].labels.tolist() == [1, 0]
    assert splits['test'].ids.tolist() == [2, 3]
    assert str(splits['test'].encoded[1]).endswith(
        f'list.{suffix} line {6 if suffix == "csv" else 4}'
    )


def test_a_test_split_is_drawn_from_each_class(listed):
    rows = [(f'text {i}', 'ab'[i % 2], '') for i in range(20)]
    splits = listed(rows).splits()
    assert {name: len(split) for name, split in splits.items()} == {'train': 16, 'test': 4}
    assert np.bincount(splits['test'].labels).tolist() == [2, 2]
    assert set(texts(splits['train'])).isdisjoint(texts(splits['test']))


@pytest.mark.parametrize('suffix', ['csv', 'jsonl'])
def test_several_labels_of_a_text_are_a_set(listed, suffix):
    rows = [('x', 'a;b', 'train'), ('y', ';', 'train'), ('z', 'b', 'test')]
    assert listed(rows, suffix).splits()['train'].labels.tolist() == [[1, 1], [0, 0]]


def test_texts_without_labels_have_one_class(listed, tmp_path):
    splits = listed([(f'text {i}', '', '') for i in range(10)], labelled=False).splits()
    assert splits['train'].class_names == ('text',)
    (tmp_path / 'deep/er').mkdir(parents=True)
    for index in range(5):
        (tmp_path / f'deep/er/{index}.txt').write_text('some text')
    splits = Texts(path=str(tmp_path / 'deep'), labelled=False).splits()
    assert len(splits['train']) == 4


@pytest.fixture
def folder_of_texts(tmp_path):
    for split, count in (('train', 3), ('test', 2)):
        for name in ('neg', 'pos'):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / split / name / f'{index}.txt').write_text(f'{name} {index}')
    (tmp_path / 'train/neg/notes.pdf').write_text('no text')
    return tmp_path


def test_a_folder_has_a_folder_of_texts_per_class_and_split(folder_of_texts):
    splits = Texts(path=str(folder_of_texts)).splits()
    assert texts(splits['test']) == ['neg 0', 'neg 1', 'pos 0', 'pos 1']
    assert splits['train'].class_names == ('neg', 'pos')
    (note,) = splits['train'].findings.notes
    assert note.startswith('1 .pdf file(s) that are not texts skipped')


def test_bad_texts_are_named_with_their_reasons(folder_of_texts):
    (folder_of_texts / 'train/neg/0.txt').write_bytes('schön'.encode('latin1'))
    (folder_of_texts / 'train/pos/1.txt').write_text(' \n')
    (folder_of_texts / 'test/pos/1.txt').write_text('a\0b')
    with pytest.raises(FolderError) as error:
        Texts(path=str(folder_of_texts)).splits()
    for line in (
        'train/neg/0.txt: not UTF-8 at byte 3: convert it',
        'train/pos/1.txt: it is empty',
        'test/pos/1.txt: it has NUL characters, so it is no text',
    ):
        assert line in str(error.value)
    splits = Texts(path=str(folder_of_texts), bad_files=BadFiles.SKIP).splits()
    assert len(splits['train'].findings.bad) == 3
    assert splits['train'].ids.tolist() == [1, 2, 3, 5]  # bad ones are counted


def test_a_bad_row_of_a_list_is_named_by_its_line(tmp_path):
    path = tmp_path / 'list.csv'
    path.write_bytes(b'text,label\nok,a\n\xff,b\nfine,b\n')
    with pytest.raises(FolderError, match=r'list.csv line 3: not UTF-8 at byte 0'):
        Texts(path=str(path), test_fraction=0.5).splits()


@pytest.mark.parametrize(
    ('rows', 'suffix', 'problem'),
    [
        ([('x', '', 'train'), ('y', 'b', 'train')], 'csv', "line 2: label is ''"),
        ([('x', 'a', 'train'), ('y', 'b', 'dev')], 'csv', "line 3: split is 'dev'"),
        ([('x', 'a', 'train'), ('y', 'b', '')], 'csv', '1 rows have no split'),
        ([('x', 'a', 'test'), ('y', 'b', 'test')], 'csv', 'no row is in train'),
        ([('x', 'a', 'train'), ('y', 'a', 'train')], 'csv', 'wanted two or more'),
        ([('x', 'a', 'train'), ('y', 'b', 'test')], 'csv', "class 'b' is in test"),
        ([(5, 'a', 'train')], 'jsonl', 'text is 5, wanted a text'),
        ([('x',)], 'jsonl', 'line 1: no label'),
        ([], 'csv', 'no rows'),
    ],
)  # fmt: skip
def test_an_invalid_list_is_refused_with_its_line(listed, rows, suffix, problem):
    with pytest.raises(FolderError, match=problem):
        listed(rows, suffix).splits()


def test_other_columns_can_be_named(tmp_path):
    path = tmp_path / 'list.csv'
    path.write_text('review,stars\nx,1\ny,2\nx2,1\ny2,2\nx3,1\ny3,2\n')
    with pytest.raises(FolderError, match='wanted the columns text,label'):
        Texts(path=str(path)).splits()
    source = Texts(path=str(path), text_column='review', label_column='stars', test_fraction=0.4)
    assert source.splits()['train'].class_names == ('1', '2')


def test_a_missing_path_is_an_error():
    with pytest.raises(FolderError, match='no such folder or list'):
        Texts(path='nowhere.csv').splits()
