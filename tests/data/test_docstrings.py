"""Docstrings of a package as texts, by subpackage."""

import numpy as np
import pytest

from tljax.data.docstrings import Docstrings
from tljax.types import InputError

WORDS = ' '.join(f'word{i}' for i in range(30))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package `docs` with two subpackages of three files, and tests."""
    monkeypatch.syspath_prepend(tmp_path)
    for start, name in enumerate(('one', 'two')):
        (tmp_path / 'docs' / name / 'tests').mkdir(parents=True)
        for index in range(3):
            text = f'{WORDS} docs.{name}.thing {3 * start + index}'
            text += f'\n\n    Examples\n    --------\n    >>> {name}'
            code = f"raise 1\ndef f():\n    '''{text}'''\nclass A:\n    'short'\n"
            (tmp_path / 'docs' / name / f'file{index}.py').write_text(code)
        (tmp_path / 'docs' / name / 'tests/test_a.py').write_text(f"'''{WORDS} test'''")
    (tmp_path / 'docs/__init__.py').write_text('')
    return Docstrings(package='docs', least_texts=2)


def test_the_label_is_the_subpackage_and_files_are_in_one_split(package):
    splits = package.splits()
    train, test = splits['train'], splits['test']
    assert train.class_names == ('one', 'two')
    assert len(train) > len(test)
    assert (np.bincount(test.labels) > 0).all()
    files = [{str(e).split(' ')[0] for e in split.encoded} for split in (train, test)]
    assert files[0].isdisjoint(files[1])
    assert not any('test' in file for file in files[0] | files[1])


def test_names_and_examples_that_give_the_class_away_are_left_out(package):
    train = package.splits()['train']
    for index in range(len(train)):
        assert train.load(index).startswith(f'{WORDS} thing')
        assert '>>>' not in train.load(index)


def test_a_package_that_is_missing_or_small_is_an_error():
    with pytest.raises(InputError, match="no package 'no_such_package'"):
        Docstrings(package='no_such_package').splits()
    with pytest.raises(InputError, match='json has 0 subpackages'):
        Docstrings(package='json').splits()


def test_scipys_docstrings_are_real_texts_of_many_topics():
    splits = Docstrings().splits()
    assert {'optimize', 'signal', 'stats'} <= set(splits['train'].class_names)
    assert len(splits['train']) > 800
    assert np.bincount(splits['test'].labels).min() >= 3
    train = {splits['train'].load(i) for i in range(len(splits['train']))}
    assert train.isdisjoint(splits['test'].load(i) for i in range(len(splits['test'])))
