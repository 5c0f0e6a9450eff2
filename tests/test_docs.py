"""The pages of docs: links, order, pictures, and the pages that are made from the code."""

import dataclasses
import pathlib
import re
import sys

import pytest

import tljax
from configs import quickstart
from tljax.config import resolved

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted([*DOCS.glob('*.md'), *DOCS.glob('notebooks/*.md')])
TEXTS = [ROOT / 'README.md', *PAGES]
FENCE = re.compile(r'^```.*?^```$', re.DOTALL | re.MULTILINE)
LINK = re.compile(r'\]\(([^)\s]+)\)')
TREE = re.compile(r'^```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)^```$', re.DOTALL | re.MULTILINE)
GUIDES = (
    'which_layers', 'small_data', 'imbalance', 'which_network', 'several_labels', 'how_sure',
    'where_to_run', 'publish_table',
)  # fmt: skip


@pytest.fixture(scope='module')
def pages():
    """The modules that write the pages of the reference."""
    sys.path.insert(0, str(DOCS))
    from _pages import api, commands, fields, public_names

    yield {'api': api, 'commands': commands, 'fields': fields, 'public_names': public_names}
    sys.path.remove(str(DOCS))


def prose(path):
    """A page without its blocks of code."""
    return FENCE.sub('', path.read_text())


def anchors(path):
    """The targets of links in a page: its headings as GitHub and the site name them."""
    found: dict[str, int] = {}
    for heading in re.findall(r'^#+ (.*)$', prose(path), re.MULTILINE):
        text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
        name = re.sub(r'[^\w\- ]', '', text.lower()).strip().replace(' ', '-')
        found[f'{name}-{found[name]}' if name in found else name] = 0
        found[name] += 1
    return set(found)


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(path):
    wrong = []
    for target in LINK.findall(prose(path)):
        if target.startswith(('http://', 'https://')):
            continue
        name, _, anchor = target.partition('#')
        file = (path.parent / name).resolve() if name else path
        known = file.exists() and (not anchor or anchor in anchors(file))
        wrong += [] if known else [target]
    assert wrong == []


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.name)
def test_every_file_of_the_repository_that_is_named_exists(path):
    folders = '(?:benchmarks|configs|docs|scripts|tests|tljax)'
    named = re.findall(rf'`({folders}/[\w./]+)`', path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_contents_of_the_site_name_every_page_once():
    trees = TREE.findall((DOCS / 'index.md').read_text())
    assert len(trees) == 5
    listed = [line for tree in trees for line in tree.split()]
    own = sorted(name for name in listed if not name.startswith('reference/'))
    assert own == sorted(
        str(path.relative_to(DOCS).with_suffix('')) for path in PAGES if path.name != 'index.md'
    )


@pytest.mark.parametrize('name', ['start', *GUIDES])
def test_a_guide_shows_a_picture_with_a_light_and_a_dark_scheme(name):
    pictures = re.findall(r'!\[[^]]+\]\((figures/\w+\.svg)\)', (DOCS / f'{name}.md').read_text())
    assert pictures
    for picture in pictures:
        text = (DOCS / picture).read_text()
        assert 'prefers-color-scheme: dark' in text
        assert 'fill="#' not in text  # every color is a variable of both schemes
        assert len(text) < 40_000


@pytest.mark.parametrize('name', GUIDES)
def test_a_guide_is_a_question_that_is_answered_first_and_shows_commands(name):
    title, _, rest = (DOCS / f'{name}.md').read_text().partition('\n')
    assert title.startswith('# ')
    assert title.endswith('?')
    assert rest.strip().startswith('**')
    assert '```bash' in rest


def test_every_picture_of_the_docs_is_shown():
    shown = {(p.parent / t).resolve() for p in TEXTS for t in LINK.findall(p.read_text())}
    files = [p for kind in ('svg', 'png', 'jpg') for p in DOCS.rglob(f'*.{kind}')]
    files = [p for p in files if not {'_build', '_static'} & set(p.parts)]
    assert [p.name for p in files if p.resolve() not in shown] == []


@pytest.mark.parametrize('path', sorted(DOCS.glob('figures/*.svg')), ids=lambda path: path.stem)
def test_a_figure_is_readable_on_a_telephone_and_has_a_dark_scheme(path):
    text = path.read_text()
    assert 'prefers-color-scheme: dark' in text
    width, font = (float(re.search(pattern, text)[1]) for pattern in (
        r'viewBox="0 0 (\S+) ', r'<svg [^>]*font-size="(\S+)"'
    ))  # fmt: skip
    assert font * 368 / width >= 9  # px on a page of 400 px


def test_only_sheets_of_images_have_fixed_colors():
    fixed = {p.stem for kind in ('png', 'jpg') for p in DOCS.glob(f'*.{kind}')}
    fixed -= {'accuracy_by_labels'}  # of the README
    sheets = ('augment_', 'data_', 'source_')
    assert [name for name in fixed if not name.startswith(sheets)] == []


def test_every_field_of_a_config_has_a_meaning(pages):
    missing = {
        cls.__name__: absent
        for classes in pages['fields'].config_classes().values()
        for cls in classes
        if (absent := [f.name for f in dataclasses.fields(cls)
                       if not resolved.attribute_texts(cls).get(f.name)])
    }  # fmt: skip
    assert missing == {}


def row(text, name):
    """The first row of a field in the page of fields."""
    return next(line for line in text.splitlines() if line.startswith(f'| `{name}` |'))


def test_the_page_of_fields_has_every_field_with_type_default_and_range(pages):
    text = pages['fields'].page(quickstart.get_config())
    for field in dataclasses.fields(tljax.Experiment):
        assert f'\n| `{field.name}` |' in text
    assert row(text, 'batch_size').endswith('| int | `32` | more than 0 |')
    assert row(text, 'momentum').endswith('| float | `0.9` | 0 \\<= x \\< 1 |')
    assert '| `auto`, `frozen`, `affine_only`, `statistics_only`, `live` | `auto` |' in row(
        text, 'norm'
    )


def test_the_pages_of_the_api_have_every_public_name_once(pages):
    text = ''.join(pages['api'].pages().values())
    listed = re.findall(r'auto\w+:: tljax\.(\w+)$', text, re.MULTILINE)
    own = [name for name in dir(tljax) if callable(getattr(tljax, name))]
    assert sorted(listed) == sorted(set(own))


def test_the_page_of_options_has_every_command(pages):
    from tljax.commands import names

    text = pages['commands'].page()
    for name in names.COMMANDS:
        assert f'## tljax {name}\n\n```text\n' in text
    assert '--config.FIELD=VALUE' in text


def test_a_docstring_in_markdown_becomes_restructured_text(pages):
    lines = ['Takes `a_b` and x*y.', '', '    table  | of', '', 'Args:', '    kind_: of `c`.']
    assert pages['api'].restructured(lines) == [
        'Takes ``a_b`` and x\\*y.', '', '::', '', '    table  | of', '', 'Args:',
        '    kind\\_: of ``c``.',
    ]  # fmt: skip


@pytest.mark.parametrize('path', sorted(DOCS.glob('notebooks/*.md')), ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_are_python_without_outputs(path):
    text = path.read_text()
    assert text.startswith('---\nfile_format: mystnb\n')
    cells = re.findall(r'^```\{code-cell\} ipython3\n((?::[^\n]*\n)*)(.*?)^```$', text, re.S | re.M)
    assert len(cells) >= 5
    for options, code in cells:
        assert ('alt: ' in options) == ('plt.show()' in code)
        plain = [line for line in code.splitlines() if not line.startswith('!')]
        compile('\n'.join(plain), path.name, 'exec')
