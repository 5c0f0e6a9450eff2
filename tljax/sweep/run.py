"""Runs a sweep: plans its cells, starts its workers, and reports."""

import dataclasses
import importlib
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import rich.box
import rich.markup
import rich.table

from tljax.config import json_form
from tljax.config.experiment import Experiment
from tljax.records import console
from tljax.records.figures.axes import seconds_text
from tljax.sweep import cells as cells_
from tljax.sweep import folder as folders
from tljax.sweep import search
from tljax.sweep.cells import Cell
from tljax.sweep.folder import SweepFolder
from tljax.sweep.space import Part, SweepError
from tljax.training import signals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a sweep is run.

    Attributes:
        workdir: the folder of the sweep.
        name: of the sweep; empty for the only one of its config.
        command: that runs it, for its record.
        arguments: of that command after `tljax sweep`, without the number of workers.
        config_file: that defines it, and perhaps classes of the user's own.
        workers: the number of processes.
        launcher: where the cells run: 'local', 'slurm' or 'ray'.
        launcher_options: of the launcher, as KEY=VALUE,...
        retry: whether failed cells are run again.
        delete_checkpoints: whether the checkpoints of each cell that is done are deleted.
    """

    workdir: pathlib.Path
    name: str = ''
    command: str = ''
    arguments: tuple[str, ...] = ()
    config_file: pathlib.Path | None = None
    workers: int = 1
    launcher: str = 'local'
    launcher_options: str = ''
    retry: bool = False
    delete_checkpoints: bool = False


def plan(base: Experiment, part: Part, options: Options) -> tuple[SweepFolder, tuple[Cell, ...]]:
    """Checks a sweep and writes its record.

    Raises:
        InputError: the sweep cannot be used.
    """
    cells = cells_.expand(part, base)
    folder = SweepFolder(options.workdir)
    config = json.loads(json.dumps(json_form.encode(base)))
    trials = [cell for one in _searches(folder, base, part, options) for cell in one.cells()]
    every = [*cells, *trials]
    record = folders.record_of(every, name=options.name, command=options.command, config=config)
    folder.write(record, every)
    return folder, cells


def run(base: Experiment, part: Part, options: Options) -> int:
    """Runs a sweep and writes its report.

    Returns:
        The exit code: 1 if a cell failed, else 0.

    Raises:
        InputError: the sweep cannot be used.
        Interrupted: a signal stopped it; the same call goes on.
    """
    folder, cells = plan(base, part, options)
    if options.retry:
        for cell in cells:
            folder.retry(cell.name)
    open_ = [cell for cell in cells if not folder.is_settled(cell.name)]
    searches = _searches(folder, base, part, options)
    settled = len(cells) - len(open_)
    text = f'{len(cells)} cells, {settled} of them done or failed'
    text += f'; {len(searches)} searches' if searches else ''
    console.console.print(f'{text}.')
    if open_ or searches:
        with signals.heard():
            if options.workers > 1 or open_:
                _launch(folder, cells, open_, options)
            if options.workers == 1:
                _search(searches)
            else:
                plan(base, part, options)  # two workers may have written their trials at a time
            _report(folder, options.name)
    for one in searches:
        console.console.print(one.summary(), markup=False, soft_wrap=True)
    return _conclude(folder, cells, options)


def _searches(folder: SweepFolder, base: Experiment, part: Part, options: Options) -> list[Any]:
    """The searches of a sweep.

    Raises:
        SweepError: a search cannot be used.
    """
    studies = search.studies(part, base)
    if not studies:
        return []
    if options.launcher != 'local':
        raise SweepError(
            f'--launcher={options.launcher} runs cells, not searches: start the command without '
            '--launcher on each host; the workers share the trials'
        )
    from tljax.sweep.search_worker import SearchWorker  # imports what training needs

    return [
        SearchWorker(
            folder,
            options.name,
            study,
            record=lambda: plan(base, part, options),
            announce=lambda text: console.console.print(text, markup=False, soft_wrap=True),
            delete_checkpoints=options.delete_checkpoints,
        )
        for study in studies
    ]


def _search(searches: Sequence[Any]) -> None:
    for one in searches:
        one.run()


def _report(folder: SweepFolder, name: str) -> None:
    from tljax.sweep import report

    path = report.write(folder, name)
    console.console.print(report.text(folder, name), markup=False, soft_wrap=True)
    console.console.print(f'Report: {path}', markup=False, soft_wrap=True)


def work(base: Experiment, part: Part, options: Options) -> int:
    """Runs cells as one worker of several.

    Raises:
        InputError: the sweep cannot be used.
        Interrupted: a signal stopped it.
    """
    with signals.heard():
        folder = SweepFolder(options.workdir)
        _work(folder, cells_.expand(part, base), options)
        _search(_searches(folder, base, part, options))
    return 0


def _launch(
    folder: SweepFolder, cells: Sequence[Cell], open_: Sequence[Cell], options: Options
) -> None:
    if options.launcher != 'local':
        _launch_on_engine(folder, cells, open_, options)
        return
    if options.workers == 1:
        _work(folder, cells, options)
        return
    from tljax.sweep import local

    command = ['sweep', *options.arguments]
    # Trials of searches are counted when they begin.
    begun = folder.path / 'cells'
    local.run(
        command, options.workers, lambda: _settled(folder, cells) + len(list(begun.glob('*')))
    )


def _launch_on_engine(
    folder: SweepFolder, cells: Sequence[Cell], open_: Sequence[Cell], options: Options
) -> None:
    """Runs the open cells with SLURM or Ray."""
    from tljax.sweep.launchers import unit

    launcher = importlib.import_module(f'tljax.sweep.launchers.{options.launcher}')
    waiting = {cell.name: cell for cell in open_}
    units = [
        unit.Unit(
            folder=folder.path.absolute(),
            cell=cell.name,
            title=cell.title,
            argv=tuple(command_of(folder, cell, options)),
            cwd=pathlib.Path.cwd(),
            delete_checkpoints=options.delete_checkpoints,
        )
        for cell in waiting.values()
    ]

    def progress() -> None:
        for cell in [one for one in waiting.values() if folder.is_settled(one.name)]:
            del waiting[cell.name]
            _announce(folder, cells, cell)

    launcher.run(units, options.launcher_options, progress)


def _work(folder: SweepFolder, cells: Sequence[Cell], options: Options) -> None:
    from tljax.sweep import worker  # imports what training needs, which takes seconds

    worker.work(
        folder,
        cells,
        delete_checkpoints=options.delete_checkpoints,
        announce=lambda cell: _announce(folder, cells, cell),
    )


def _announce(folder: SweepFolder, cells: Sequence[Cell], cell: Cell) -> None:
    progress = f'[{_settled(folder, cells)}/{len(cells)}] {cell.title}'
    console.console.print(f'{progress}: {_outcome(folder, cell)}', markup=False, soft_wrap=True)


def _settled(folder: SweepFolder, cells: Sequence[Cell]) -> int:
    return sum(folder.is_settled(cell.name) for cell in cells)


def _outcome(folder: SweepFolder, cell: Cell) -> str:
    """The result of a cell in a few words."""
    if failure := folder.failure(cell.name):
        first_line = failure.message.partition('\n')[0]
        return f'failed: {failure.kind}: {first_line}'
    result = folder.result(cell.name) or {}
    split = 'test' if result.get('test') else 'val'
    metrics: dict[str, Any] = result.get(split) or {}
    for name, text in (('accuracy', 'accuracy'), ('mean_average_precision', 'mAP')):
        if metrics.get(name) is not None:
            return f'{split} {text} {100 * metrics[name]:.1f} % ({result["wall_seconds"]:.0f} s)'
    return 'done'


def _conclude(folder: SweepFolder, cells: Sequence[Cell], options: Options) -> int:
    failed = [cell for cell in cells if folder.failure(cell.name)]
    busy = [cell for cell in cells if not folder.is_settled(cell.name)]
    print_ = console.console.print
    if not failed and not busy:
        name = f' --sweep={options.name}' if options.name else ''
        again = f'tljax sweep --report={folder.path}{name}'
        print_(f'All cells are done; {again} writes the report again.', markup=False)
    for cell in failed:
        output = folder.workdir(cell.name) / folders.FAILURE_FILE
        print_(f'{cell.title}: {_outcome(folder, cell)} ({output})', markup=False, soft_wrap=True)
    if busy:
        print_(f'{len(busy)} cells are not done; other processes run them, or run this again.')
    if failed:
        print_(f'{len(failed)} cells failed; --retry runs them again.')
    return 1 if failed else 0


def print_commands(base: Experiment, part: Part, options: Options, file: TextIO) -> int:
    """Prints the command of each cell that is not done, as JSON lines.

    A line has `cell`, `title`, `argv`, and `command`, which is `argv` for a shell. Each command can
    be run again: it resumes its cell, or ends at once if the cell is done.
    """
    folder, cells = plan(base, part, options)
    for cell in {cell.name: cell for cell in cells}.values():
        if not folder.is_done(cell.name):
            argv = command_of(folder, cell, options)
            line = {'cell': cell.name, 'title': cell.title, 'argv': argv}
            print(json.dumps({**line, 'command': shlex.join(argv)}), file=file)
    return 0


def command_of(folder: SweepFolder, cell: Cell, options: Options) -> list[str]:
    """The command that runs a cell without the sweep."""
    argv = ['python', '-m', 'tljax.main', f'--config={folder.config(cell.name).absolute()}']
    if json_form.foreign_modules(json_form.encode(cell.experiment)) and options.config_file:
        argv.append(f'--classes={options.config_file.absolute()}')
    return [*argv, f'--workdir={folder.workdir(cell.name).absolute()}']


def dry_run(base: Experiment, part: Part, options: Options) -> int:
    """Lists the cells and predicts the time of those that are not done; runs nothing."""
    from tljax.sweep import cost

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
