"""Parts of docstrings by their section."""

import numpy as np
import pytest

from tljax.data import docstring_sections
from tljax.data.docstring_sections import NAMES, DocstringSections
from tljax.types import InputError

DOCSTRING = """
Scales the {0} values of an array by a number that is given.

Parameters
----------
x : array_like
    The {0} values that are scaled, of any shape.
factor : float
    The number by which they are all multiplied, {0}.

Returns
-------
y : ndarray
    The scaled values, of the same shape as {0}.

Notes
-----
The first paragraph of the notes on {0} is long enough.

The second paragraph of the notes on {0} is long enough.

See Also
--------
shift : Adds a number to the {0} values of an array.

Examples
--------
>>> scale([1, 2], 3) is shown here, and no text is made of it
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `parts` with four files."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'parts').mkdir()
    for index in range(4):
        code = f"def f():\n    '''{DOCSTRING.format(f'word{index}')}'''\n"
        same = f"def g():\n    '''{DOCSTRING.format('twin')}'''\n"
        (tmp_path / 'parts' / f'file{index}.py').write_text(code + same)
    (tmp_path / 'parts/__init__.py').write_text('')
    return DocstringSections(package='parts')


def texts(examples):
    return [examples.load(index) for index in range(len(examples))]


def test_the_label_of_a_part_is_its_section():
    found = list(docstring_sections.parts(DOCSTRING.strip()))
    assert [name for name, _ in found if name in docstring_sections.CLASSES] == [
        '', 'Parameters', 'Parameters', 'Returns', 'Notes', 'Notes', 'See Also',
    ]  # fmt: skip
    assert dict(found)['Returns'] == 'y : ndarray\nThe scaled values, of the same shape as {0}.'
    assert not any('---' in text for _, text in found)


def test_a_text_is_used_once_and_files_are_in_one_split(package):
    splits = package.splits()
    train, test = splits['train'], splits['test']
    assert train.class_names == NAMES
    both = texts(train) + texts(test)
    assert len(set(both)) == len(both)
    assert sum('twin' in text for text in both) == 7
    files = [{str(e).split(' ')[0] for e in split.encoded} for split in (train, test)]
    assert files[0].isdisjoint(files[1])
    assert not any('>>>' in text for text in both)


def test_classes_have_at_most_so_many_texts(package):
    package.most_texts, package.test_fraction = 8, 0.5
    counts = sum(np.bincount(split.labels, minlength=5) for split in package.splits().values())
    assert counts.tolist() == [5, 8, 8, 5, 5]


def test_a_package_without_such_sections_is_an_error():
    with pytest.raises(InputError, match='json has no .* in t'):
        DocstringSections(package='json').splits()


@pytest.mark.slow
def test_scipys_sections_are_real_texts():
    splits = DocstringSections().splits()
    assert np.bincount(splits['train'].labels).min() > 100
    assert np.bincount(splits['test'].labels).min() > 50
