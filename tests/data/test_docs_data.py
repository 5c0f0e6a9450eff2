"""What docs/data.md shows can be written so."""

import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parents[2] / 'docs/data.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


@pytest.mark.parametrize('code', BLOCKS)
def test_the_code_of_the_page_runs(code):
    exec(compile(code, 'docs/data.md', 'exec'), {})


def test_the_page_shows_every_source():
    home = pathlib.Path(__file__).parents[2] / 'tljax/data'
    sources = re.findall(
        r'class (\w+):[^@]*?def splits\(', ''.join(p.read_text() for p in home.glob('*.py'))
    )
    assert {'Folder', 'Manifest', 'TFDS', 'Arrays', 'Digits', 'Synthetic'} <= set(sources)
    shown = '\n'.join(BLOCKS)
    assert not [name for name in sources if name != 'InMemory' and f'{name}(' not in shown]


def test_pictures_of_the_page_exist():
    for name in re.findall(r'!\[[^\]]*\]\(([^)]*)\)', TEXT):
        assert (pathlib.Path(__file__).parents[2] / 'docs' / name).is_file()
