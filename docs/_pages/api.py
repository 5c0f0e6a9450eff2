"""The pages of the Python API, one a folder, and their docstrings as reStructuredText."""

import enum
import re

from _pages.public_names import FOLDERS, Name, by_folder

SECTIONS = (
    'Args:', 'Arguments:', 'Attributes:', 'Returns:', 'Raises:', 'Yields:', 'Source:', 'Example:',
)  # fmt: skip
SPECIAL = re.compile(r'([*|]|(?<=\w)_(?=\W|$))')


def pages() -> dict[str, str]:
    """The Markdown of every page, by its name; `python` lists the others."""
    result = {folder: _page(folder, names) for folder, names in by_folder().items() if names}
    links = '\n'.join(f'- [{FOLDERS[folder]}]({folder}.md)' for folder in result)
    tree = '\n'.join(result)
    start = '# Python API\n\nThe names of `import tljax`, made from their docstrings.\n'
    return {'python': f'{start}\n{links}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n', **result}


def _page(folder: str, names: list[Name]) -> str:
    parts = [f'# {FOLDERS[folder]}\n']
    parts += [_entry(one) for one in sorted(names, key=lambda one: one.dotted.lower())]
    return '\n'.join(parts)


def _entry(name: Name) -> str:
    directive = 'autofunction'
    options = ''
    if isinstance(name.value, type):
        directive = 'autoexception' if issubclass(name.value, BaseException) else 'autoclass'
        options = '\n   :members:'
        if issubclass(name.value, enum.Enum):
            options += '\n   :undoc-members:'
    short = name.dotted.removeprefix('tljax.')
    return f'## {short}\n\n```{{eval-rst}}\n.. {directive}:: {name.dotted}{options}\n```\n'


def restructured(lines: list[str]) -> list[str]:
    """A docstring with Markdown's backticks as reStructuredText.

    Code in backticks becomes a literal, characters with a meaning are escaped, and a block that is
    indented under text becomes a literal block.
    """
    result: list[str] = []
    inside = None  # the indentation of the text above a literal block
    for place, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and depth <= inside:
            inside = None
        if inside is None and _opens_block(lines, place, depth):
            inside = _depth_before(lines, place)
            result += [' ' * inside + '::', '']
        result.append(line if inside is not None else _escaped(line))
    return result


def _depth_before(lines: list[str], place: int) -> int:
    above = next((one for one in reversed(lines[:place]) if one.strip()), '')
    return len(above) - len(above.lstrip())


def _opens_block(lines: list[str], place: int, depth: int) -> bool:
    """Whether a line is the first of an indented block after an empty line."""
    if not place or not lines[place].strip() or lines[place - 1].strip():
        return False
    return depth > _depth_before(lines, place)


def _escaped(line: str) -> str:
    parts = line.split('`')
    if len(parts) % 2 == 0:  # code that goes on in the next line
        return SPECIAL.sub(r'\\\1', line.replace('`', "'"))
    plain = [SPECIAL.sub(r'\\\1', part) for part in parts[::2]]
    code = [f'``{part}``' for part in parts[1::2]]
    return ''.join(a + b for a, b in zip(plain, [*code, ''], strict=True))
