"""The site: `sphinx-build -W docs build/site`. The pages are Markdown that also reads on GitHub."""

import os
import pathlib
import re
import sys

from docutils import nodes

DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from _pages import api, commands, fields  # noqa: E402

from configs import quickstart  # noqa: E402
from tljax.records.figures import colors  # noqa: E402
from tljax.version import __version__  # noqa: E402

# The cells of notebooks run `python`, which is the interpreter that builds the site.
os.environ['PATH'] = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
os.environ.setdefault('PYTHONWARNINGS', 'ignore:os.fork() was called')  # of `!` in a notebook
WORD, SHORT = 36, 22  # characters of code that fit in a line and in a column of a narrow page

project = 'tljax'
author = 'the authors of tljax'
copyright = 'the authors of tljax, Apache-2.0'
release = version = __version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_pages']
source_suffix = {'.md': 'myst-nb'}
default_role = 'literal'
suppress_warnings = ['myst.header']  # a file may begin with a heading of a lower level

myst_heading_anchors = 4
myst_enable_extensions = ['colon_fence', 'deflist']
nb_execution_mode = 'cache'
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = 'none'
toc_object_entries = False
autodoc_member_order = 'bysource'
autodoc_class_signature = 'mixed'
maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_custom_sections = ['Source']

html_theme = 'furo'
html_title = 'tljax'
html_favicon = '_static/icon.svg'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    'light_css_variables': {
        'color-brand-primary': colors.LIGHT['accent'],
        'color-brand-content': colors.LIGHT['accent'],
        'color-api-name': colors.LIGHT['accent'],
        'color-api-pre-name': colors.LIGHT['quiet'],
    },
    'dark_css_variables': {
        'color-brand-primary': colors.DARK['accent'],
        'color-brand-content': colors.DARK['accent'],
        'color-api-name': colors.DARK['accent'],
        'color-api-pre-name': colors.DARK['quiet'],
        'color-background-primary': colors.DARK['paper'],  # that of the figures
        'color-background-secondary': colors.DARK['panel'],
        'color-code-background': colors.DARK['panel'],
        'color-sidebar-caption-text': colors.DARK['quiet'],
    },
}


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a page; an unchanged one keeps its time, so that Sphinx does not read it again."""
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _write_reference(_app) -> None:
    """Writes the pages that are made from the code."""
    _write(DOCS / 'reference/fields.md', fields.page(quickstart.get_config()))
    _write(DOCS / 'reference/options.md', commands.page())
    for folder, text in api.pages().items():
        _write(DOCS / f'reference/{folder}.md', text)


def _read_docstring(_app, _what, _name, _object, _options, lines) -> None:
    lines[:] = api.restructured(lines)


def _name_public_types(_app, _what, _name, _object, _options, lines) -> None:
    """Writes the types of attributes as a reader imports them."""
    lines[:] = [line.replace('jax.jaxlib._jax.Array', 'jax.Array') for line in lines]


def _name_defaults(_app, _what, _name, _object, _options, arguments, returned):
    """Writes a default that is a class or a function by its name."""
    named = re.sub(r"<(?:class|function) '?(?:\w+\.)*(\w+)[^>]*>", r'\1', arguments or '')
    return named or arguments, returned


def _skip_member(_app, _what, _name, member, skip, _options) -> bool | None:
    """Leaves out methods that only fulfil a contract, which is described at the contract."""
    text = (getattr(member, '__doc__', None) or '').strip()
    return True if skip or text.startswith(('See `', 'Messages for `')) else None


def _mark_short_code(_app, doctree, _name: str) -> None:
    """Gives code in a sentence classes by its length, so that it breaks where it must.

    The words of `word` fit in a line, those of `short` also in a column; `brief` fits as a whole.
    """
    for code in doctree.findall(nodes.literal):
        text = code.astext()
        longest = max(map(len, text.split()), default=0)
        fits = {'word': longest <= WORD, 'short': longest <= SHORT, 'brief': len(text) <= SHORT}
        code['classes'] += [name for name, holds in fits.items() if holds]


def _keep_numbers_together(_app, doctree, _name: str) -> None:
    """Replaces the space in `95 %` and in `± 1.2` by one at which a line does not break."""
    for text in list(doctree.findall(nodes.Text)):
        joined = re.sub(r'(?<=\d) (?=%)|(?<=±) (?=\d)', '\u00a0', text)
        if joined != text and not isinstance(text.parent, (nodes.literal, nodes.literal_block)):
            text.parent.replace(text, nodes.Text(joined))


# A page that is opened as a file cannot read others, so its search results have no excerpts.
SEARCH = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"


def setup(app) -> None:
    """Connects the pages that are made from the code."""
    app.add_js_file(None, body=SEARCH, priority=900)
    app.connect('config-inited', lambda app, _config: _write_reference(app))
    app.connect('autodoc-skip-member', _skip_member)
    app.connect('autodoc-process-docstring', _read_docstring, priority=400)  # before napoleon
    app.connect('autodoc-process-docstring', _name_public_types, priority=600)  # after it
    app.connect('autodoc-process-signature', _name_defaults)
    app.connect('doctree-resolved', _mark_short_code)
    app.connect('doctree-resolved', _keep_numbers_together)
