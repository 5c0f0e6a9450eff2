"""Progress bars: whether rich can draw one, and a bar for notebooks that needs no widgets."""

import contextlib
import importlib
import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import rich.console

SECONDS = 0.5  # between two pictures of a bar in a notebook


def can_draw(console: rich.console.Console) -> bool:
    """Whether a console is a terminal, or a notebook with ipywidgets, which rich needs there."""
    in_notebook = console.is_jupyter and importlib.util.find_spec('ipywidgets') is not None
    return console.is_terminal or in_notebook


@contextlib.contextmanager
def of_notebook(total: int, done: int, inputs: str = 'images') -> Iterator[Any]:
    """Draws a bar with IPython alone; it disappears at the end.

    Args:
        total: steps.
        done: steps that are already done.
        inputs: what the network reads, see `Preprocessing.inputs`.

    Yields:
        `update(step, inputs_per_second, waiting_share)`.
    """
    ipython = importlib.import_module('IPython.display')
    handle = ipython.display(ipython.HTML(_html(done, total, '')), display_id=True)
    drawn = time.monotonic()

    def update(step: int, rate: float, waiting: float) -> None:
        nonlocal drawn
        if time.monotonic() - drawn < SECONDS:
            return
        drawn = time.monotonic()
        text = f', {rate:,.0f} {inputs}/s, {waiting:.0%} waiting for data'
        handle.update(ipython.HTML(_html(step, total, text)))

    try:
        yield update
    finally:
        handle.update(ipython.HTML(''))


def _html(step: int, total: int, text: str) -> str:
    bar = f'<progress value="{step}" max="{total}" aria-label="training"></progress>'
    return f'<div>{bar} step {step:,}/{total:,}{text}</div>'
