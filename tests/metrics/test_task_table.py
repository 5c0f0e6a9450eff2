"""The table of tasks in the docs is that of the contracts."""

import importlib
import pathlib
import pkgutil

import numpy as np
import pytest

from tljax.metrics import tasks

DOCS = pathlib.Path(__file__).parents[2] / 'docs' / 'tasks.md'
K = 7  # no task has so many outputs by chance


def kinds():
    """The classes of tasks, one a file."""
    for module in pkgutil.iter_modules(tasks.__path__):
        content = vars(importlib.import_module(f'{tasks.__name__}.{module.name}'))
        yield from (
            value
            for value in content.values()
            if hasattr(value, 'loss_problem') and value.__module__.endswith(module.name)
        )


def row(kind):
    """The line of a task in the table."""
    task = kind()
    shape = {(): '[N]', (K,): '[N, K]'}[task.label_shape(K)]
    outputs = {K: 'K', K - 1: 'K - 1'}[task.outputs(K)]
    loss, dtype = type(task.default_loss()).__name__, np.dtype(task.label_dtype)
    cells = f'`{kind.__name__}`', f'{shape} {dtype}', outputs, f'`{loss}`', task.score.title
    return f'| {" | ".join(cells)} |'


@pytest.mark.parametrize('kind', list(kinds()), ids=lambda kind: kind.__name__)
def test_the_docs_state_what_a_task_does(kind):
    assert row(kind) in DOCS.read_text().splitlines()
