"""A table of a page as Markdown, as LaTeX and as lines for a terminal."""

import io
import unicodedata
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table
import rich.text

from tljax.records.figures.drawing import printable
from tljax.records.pages.blocks import Table

TERMINAL_WIDTH = 110
MARKDOWN = '\\`*_{}[]<>()#+!|~$&'  # characters that can have a meaning within a line
LATEX = {
    '\\': r'\textbackslash{}',
    '{': r'\{',
    '}': r'\}',
    '$': r'\$',
    '&': r'\&',
    '#': r'\#',
    '%': r'\%',
    '_': r'\_',
    '^': r'\textasciicircum{}',
    '~': r'\textasciitilde{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '"': r'\textquotedbl{}',
    "'": r'\textquotesingle{}',
    '`': r'\textasciigrave{}',
    '[': '{[}',  # \\ followed by [ would be read as a length
    ']': '{]}',
    '–': '--',
    '×': r'$\times$',
    '…': r'\ldots{}',
    '\u00a0': '~',
    '−': '$-$',
}


def markdown(table: Table) -> str:
    """A table of Markdown; text in it cannot be read as markup."""
    rule = ['---' if _is_text(table, index) else '---:' for index in range(len(table.columns))]
    lines = [_markdown_row(map(_markdown_text, table.columns)), _markdown_row(rule)]
    lines += [_markdown_row(map(_markdown_text, row.cells)) for row in table.rows]
    if table.caption:
        lines += ['', _markdown_text(table.caption)]
    return '\n'.join(lines) + '\n'


def _markdown_row(cells) -> str:
    return f'| {" | ".join(cells)} |'


def _markdown_text(text: str) -> str:
    cleaned = printable(' '.join(text.split()))
    return ''.join(f'\\{c}' if c in MARKDOWN and not _is_plain(c) else c for c in cleaned)


def _is_plain(character: str) -> bool:
    """Whether a character is harmless within the cells of a table, so that text stays readable."""
    return character in '()+#!'


def latex(table: Table) -> str:
    """A table of LaTeX with the rules of booktabs; special characters are escaped."""
    columns = ''.join('l' if _is_text(table, index) else 'r' for index in range(len(table.columns)))
    lines = [
        rf'% {latex_text(table.name)}',
        rf'\begin{{tabular}}{{{columns}}}',
        r'\toprule',
        _latex_row(table.columns),
        r'\midrule',
        *(_latex_row(row.cells) for row in table.rows),
        r'\bottomrule',
        r'\end{tabular}',
    ]
    if table.caption:
        lines += [rf'% {latex_text(table.caption)}']
    return '\n'.join(lines) + '\n'


def _latex_row(cells: Sequence[str]) -> str:
    return ' & '.join(map(latex_text, cells)) + r' \\'


def latex_text(text: str) -> str:
    """Text with escaped special characters; characters that LaTeX cannot read become `?`."""
    cleaned = printable(' '.join(unicodedata.normalize('NFC', text).split()))
    return ''.join(LATEX.get(c, c) for c in cleaned.replace('�', '?'))


def terminal(table: Table, width: int = TERMINAL_WIDTH) -> str:
    """A table as lines of at most `width` characters; long cells are wrapped."""
    result = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(table.columns):
        justify = 'left' if _is_text(table, index) else 'right'
        result.add_column(rich.text.Text(printable(column)), justify=justify, overflow='fold')
    for row in table.rows:
        result.add_row(*(rich.text.Text(printable(cell)) for cell in row.cells))
    text = io.StringIO()
    console = rich.console.Console(
        file=text, width=width, no_color=True, force_terminal=False, force_jupyter=False
    )
    console.print(result)
    return '\n'.join(line.rstrip() for line in text.getvalue().strip('\n').splitlines())


def _is_text(table: Table, index: int) -> bool:
    return index == 0 or index in table.texts
