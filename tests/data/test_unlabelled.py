"""Lists of images to predict."""

import pytest
from PIL import Image

from tljax.data import unlabelled
from tljax.types import InputError


def listed(folder, text, name='list.csv', **options):
    Image.new('RGB', (3, 3)).save(folder / 'a.png')
    (folder / name).write_text(text)
    return [str(i) for i in unlabelled.read([str(folder / name)], **options).encoded]


def test_cells_of_a_list_are_stripped(tmp_path):
    assert listed(tmp_path, '\ufeffpath ,n\n a.png\u00a0,1\n') == [f'{tmp_path}/a.png']


def test_another_column_may_be_named(tmp_path):
    assert listed(tmp_path, 'n,file\n1,a.png\n', path_column='file') == [f'{tmp_path}/a.png']


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        (
            'list.csv',
            'file,n\na.png,1\n',
            r"no column 'path', found \['file', 'n'\]: .*--path_",
        ),
        ('list.csv', 'path,n\na.png,1,2\n', 'line 2: 3 cells, wanted the 2 of the header'),
        (
            'list.jsonl',
            '{"file": "a.png"}',
            r"line 1: no path under the key 'path', found \['file'\]: ",
        ),
        ('list.jsonl', '[1]', "line 1: no path under the key 'path', found list"),
        ('list.jsonl', '{', 'line 1: not a JSON object'),
        pytest.param('list.jsonl', '[' * 100_000, 'line 1: not a JSON object', id='nested'),
        ('list.txt', 'a\0b.png', 'a path has no NUL character'),
        ('list.txt', '~nobody-of-this-name/a.png', 'Could not determine home directory'),
    ],
)
def test_a_list_without_paths_is_refused_with_its_columns(name, text, said, tmp_path):
    with pytest.raises(InputError, match=said):
        listed(tmp_path, text, name)
