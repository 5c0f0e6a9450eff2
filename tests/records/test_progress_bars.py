"""Progress bars in terminals, notebooks and files."""

import importlib.machinery
import io
import sys
import types

import pytest
import rich.console

from tljax.records import console, progress_bars


class Output:
    """Stands for the widget that a notebook draws into."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def clear_output(self, wait):
        """Does nothing."""


@pytest.fixture
def shown(monkeypatch):
    """What is displayed in a notebook that has ipywidgets."""
    found = []
    parts = {'IPython': {}, 'IPython.display': {'display': found.append}}
    for name, content in (parts | {'ipywidgets': {'Output': Output}}).items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return found


def of_kind(**options):
    """A console that writes into a string."""
    return rich.console.Console(file=io.StringIO(), **options)


def test_training_draws_its_bar_in_a_notebook(shown, monkeypatch):
    notebook = of_kind(force_jupyter=True)
    notebook.print = lambda *_, **__: None  # rich would show it as HTML, by IPython itself
    monkeypatch.setattr(console, 'console', notebook)
    with console.progress(10, 0) as update:
        update(3, 100.0, 0.1)
    assert sum(isinstance(one, Output) for one in shown) == 1


def test_a_bar_is_drawn_in_a_terminal_and_not_in_a_file():
    assert progress_bars.can_draw(of_kind(force_terminal=True))
    assert not progress_bars.can_draw(of_kind(force_terminal=False))


def test_no_bar_is_drawn_in_a_notebook_without_ipywidgets(monkeypatch):
    monkeypatch.setattr(progress_bars.importlib.util, 'find_spec', lambda name: None)
    assert not progress_bars.can_draw(of_kind(force_jupyter=True))


class Handle:
    """Stands for a place of a notebook whose content can change."""

    def __init__(self, contents):
        self.contents = contents

    def update(self, html):
        """Keeps the new content."""
        self.contents.append(html)


def test_a_notebook_without_ipywidgets_has_a_bar_that_moves_and_disappears(monkeypatch):
    contents = []
    ipython = types.ModuleType('IPython.display')
    ipython.HTML = str
    ipython.display = lambda html, display_id: (contents.append(html), Handle(contents))[1]
    monkeypatch.setitem(sys.modules, 'IPython.display', ipython)
    monkeypatch.setattr(progress_bars, 'can_draw', lambda console: False)
    monkeypatch.setattr(progress_bars, 'SECONDS', 0)
    monkeypatch.setattr(console, 'console', of_kind(force_jupyter=True))
    with console.progress(10, 2) as update:
        update(3, 1000.0, 0.1)
    first, moved, last = contents
    assert 'value="2" max="10"' in first
    assert 'step 3/10, 1,000 images/s, 10% waiting' in moved
    assert last == ''
