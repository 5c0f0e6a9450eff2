"""Lists the cells of a sweep: their commands, or their states and predicted times."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import rich.box
import rich.markup
import rich.table

from tljax.config.experiment import Experiment
from tljax.records import console
from tljax.records.figures.axes import seconds_text
from tljax.sweep import cells as cells_
from tljax.sweep import cost, search
from tljax.sweep.cells import Cell
from tljax.sweep.folder import SweepFolder
from tljax.sweep.run import Options, plan
from tljax.sweep.space import Part


def print_commands(base: Experiment, part: Part, options: Options, file: TextIO) -> int:
    """Prints the command of each cell that is not done, as JSON lines.

    A line has `cell`, `title`, `argv`, and `command`, which is `argv` for a shell. Each command can
    be run again: it resumes its cell, or ends at once if the cell is done.
    """
    folder, cells = plan(base, part, options)
    for cell in {cell.name: cell for cell in cells}.values():
        if not folder.is_done(cell.name):
            argv = folder.command(cell, options.config_file)
            line = {'cell': cell.name, 'title': cell.title, 'argv': argv}
            print(json.dumps({**line, 'command': shlex.join(argv)}), file=file)
    return 0


def dry_run(base: Experiment, part: Part, options: Options) -> int:
    """Lists the cells and predicts the time of those that are not done; runs nothing."""
    cells = cells_.expand(part, base)
    studies = search.studies(part, base)
    folder = SweepFolder(options.workdir)
    predictions = cost.predict(folder, cells)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in ('cell', 'state', 'steps', 'time'):
        table.add_column(column, justify='left' if column in ('cell', 'state') else 'right')
    table.add_column('settings', overflow='fold')
    for cell in cells:
        one = predictions.get(cell.name, cost.Prediction())
        steps = '' if one.steps is None else f'{one.steps:,}'
        time = '' if one.seconds is None else seconds_text(one.seconds)
        settings = f'{cell.title}: {one.problem}' if one.problem else cell.title
        row = (cell.name, _state(folder, cell), steps, time, settings)
        table.add_row(*map(rich.markup.escape, row))
    if cells:
        console.console.print(table)
        console.console.print(_total(folder, cells, predictions))
    for study in studies:
        steps = f'at most {study.search.budget_steps:,} steps'
        line = f'Search of {study.title}: {steps}' if study.title else f'Search: {steps}'
        console.console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _total(folder: SweepFolder, cells: Sequence[Cell], predictions: Mapping[str, Any]) -> str:
    """The number of remaining cells and their time in one process."""
    done = sum(folder.is_done(cell.name) for cell in cells)
    seconds = sum(one.seconds or 0.0 for one in predictions.values())
    text = f'{len(cells)} cells, {done} done'
    if predictions:
        text += f'; about {seconds_text(seconds)} for the others in one process'
    if any(one.measured for one in predictions.values()):
        text += ' (from timed steps, without evaluation)'
    return f'{text}. Nothing was trained.'


def _state(folder: SweepFolder, cell: Cell) -> str:
    if folder.is_done(cell.name):
        return 'done'
    if folder.failure(cell.name):
        return 'failed'
    return 'running' if folder.runner(cell.name) else 'open'
