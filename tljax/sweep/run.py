"""Runs a sweep: plans its cells, starts its workers, and reports."""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from tljax.config import json_form
from tljax.config.experiment import Experiment
from tljax.metrics import scores
from tljax.records import console
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
        The exit code: 1 if a cell failed, else that of the workers, which is 0 if all ended well.

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
    code = 0
    if open_ or searches:
        with signals.heard():
            if options.workers > 1 or open_:
                code = _launch(folder, cells, open_, options)
            if options.workers == 1:
                _search(searches)
            else:
                plan(base, part, options)  # two workers may have written their trials at a time
            _report(folder, options.name)
    for one in searches:
        console.console.print(one.summary(), markup=False, soft_wrap=True)
    return _conclude(folder, cells, open_, options) or code


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
) -> int:
    """Runs the open cells; returns the largest exit code of the workers."""
    if options.launcher != 'local':
        _launch_on_engine(folder, cells, open_, options)
        return 0
    if options.workers == 1:
        _work(folder, cells, options)
        return 0
    from tljax.sweep import local_workers

    command = ['sweep', *options.arguments]
    # Trials of searches are counted when they begin.
    begun = folder.path / 'cells'
    return local_workers.run(
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
            argv=tuple(folder.command(cell, options.config_file)),
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
        message = ' '.join(failure.message.split())
        return f'failed: {failure.kind}: {message:.300}'
    result = folder.result(cell.name) or {}
    split = 'test' if result.get('test') else 'val'
    metrics: dict[str, Any] = result.get(split) or {}
    score = scores.of(metrics)
    if score is not None and metrics.get(score.name) is not None:
        text = f'{score.title} {100 * metrics[score.name]:.1f} %'
        return f'{split} {text} ({result["wall_seconds"]:.0f} s)'
    return 'done'


def _conclude(
    folder: SweepFolder, cells: Sequence[Cell], was_open: Sequence[Cell], options: Options
) -> int:
    failed = [cell for cell in cells if folder.failure(cell.name)]
    busy = [cell for cell in cells if not folder.is_settled(cell.name)]
    print_ = console.console.print
    if not failed and not busy and not was_open:
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
