"""Detects whether progress bars can be drawn."""

import importlib.util

import rich.console


def can_draw(console: rich.console.Console) -> bool:
    """Whether a console is a terminal, or a notebook with ipywidgets, which rich needs there."""
    in_notebook = console.is_jupyter and importlib.util.find_spec('ipywidgets') is not None
    return console.is_terminal or in_notebook
