"""Runs many experiments that differ in some fields, and compares them.

tljax sweep --config=FILE [--sweep=NAME] [--workdir=DIR] [--workers=N]
tljax sweep --report=DIR [--sweep=NAME] [--baseline=VALUE]

--config=NAME_OR_FILE[:ARGUMENT]   a config that also has a function sweep(). It returns the axes:
                            Product(Axis('epochs', [5, 10]), Seeds(5)), or {NAME: axes} for several
                            sweeps. docs/sweeps.md has examples
--config.FIELD=VALUE        sets a field of the experiment that all cells start from
--sweep=NAME                one of several sweeps
--workdir=DIR               the folder of the sweep; default sweeps/<config name>. The same command
                            goes on with a stopped sweep and runs cells that were added to it
--workers=N                 processes on this machine; default 1. Each has its share of the cores,
                            or a GPU. The command may also run on several hosts at the same time
--launcher=local|slurm|ray  where the cells run; default local
--launcher_options=KEY=VALUE,...   options of the launcher (docs/sweeps_launchers.md)
--retry                     runs failed cells again
--delete_checkpoints        deletes the checkpoints of each cell that is done
--dry_run                   lists the cells and predicts the time; runs nothing
--print_commands            prints the command of each remaining cell as a JSON line
--report=DIR                writes the report of a sweep, also while it runs: report.html, table.md,
                            table.tex, cells.csv and figures/ in DIR
--baseline=VALUE            in the report, the value that the others are compared with

Exit codes: 0 success, 1 a cell failed, 2 the input cannot be used, 75 stopped by a signal: run the
same command again.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('sweep', __doc__, fields=True, config_optional=True)
    result.add_argument('--sweep')
    result.add_argument('--workdir', type=command_line.local_path)
    result.add_argument('--workers', type=command_line.number(int, 1), default=1)
    result.add_argument('--launcher', choices=('local', 'slurm', 'ray'), default='local')
    result.add_argument('--launcher_options', default='')
    result.add_argument('--report', type=command_line.local_path)
    result.add_argument('--baseline')
    result.add_argument('--worker', help=argparse.SUPPRESS)  # of a process of `--workers`
    for switch in ('retry', 'delete_checkpoints', 'dry_run', 'print_commands'):
        result.switch(f'--{switch}')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), lambda arguments: _run(arguments, argv), argv)


def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    if arguments.report is not None:
        return _report(arguments)
    if arguments.config.spec is None:
        raise command_line.UsageError('--config=FILE or --report=DIR is missing')
    if arguments.worker:
        from tljax.sweep import local_workers

        local_workers.begin(*map(int, arguments.worker.split('/')))
    experiment, part, name = config_files.sweep(arguments.config, arguments.sweep)
    workdir = (arguments.workdir or pathlib.Path('sweeps') / name).expanduser()

    from tljax.sweep import listing, run

    options = run.Options(
        workdir=workdir,
        name=arguments.sweep or '',
        command=shlex.join(['tljax', 'sweep', *(a for a in argv if not a.startswith('--worker='))]),
        arguments=tuple(one for one in argv if not one.startswith('--workers')),
        workers=arguments.workers,
        launcher=arguments.launcher,
        launcher_options=arguments.launcher_options,
        retry=arguments.retry,
        delete_checkpoints=arguments.delete_checkpoints,
        config_file=config_files.find(arguments.config.spec).path,
    )
    if arguments.dry_run:
        return listing.dry_run(experiment, part, options)
    if arguments.print_commands:
        return listing.print_commands(experiment, part, options, sys.stdout)
    if arguments.worker:
        return run.work(experiment, part, options)
    return run.run(experiment, part, options)


def _report(arguments: argparse.Namespace) -> int:
    from tljax.sweep import report
    from tljax.sweep.folder import SweepFolder

    folder = SweepFolder(arguments.report.expanduser())
    print(report.write(folder, arguments.sweep or '', baseline=arguments.baseline))
    return 0
