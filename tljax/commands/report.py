"""Writes the page of a run, or a page that compares several runs.

tljax report RUN [--seconds=N]
tljax report RUN RUN [RUN ...] [--out=FILE.html]

RUN                         a run's folder, or its address in a bucket: gs://... or s3://.... Its
                            page is then written into a local copy, whose path is printed
--out=FILE.html             the page of several runs; default comparison.html in the current folder
--seconds=N                 about how long the page of one run may take; default 120. Sections that
                            run the network are left out if they would take longer
--config=NAME_OR_FILE       imports this config, for a run whose backbone or data is a class that
                            the config defines

The page of one run is report.html in its folder; figures/ has its figures and their numbers. The
page works offline and needs no other file. It lists records that a run of an earlier version lacks.
Several runs are compared in pairs, on the images on which both were evaluated.

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('report', __doc__, config=True)
    result.add_argument('runs', metavar='RUN', nargs='+', type=command_line.path_or_address)
    result.add_argument('--out', type=command_line.local_path)
    result.add_argument('--seconds', type=float)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    config_files.import_classes(arguments.config)
    if len(arguments.runs) == 1 and arguments.out is not None:
        raise command_line.UsageError('--out: the page of one run is report.html in its folder')
    if arguments.seconds is not None and (len(arguments.runs) > 1 or not arguments.seconds > 0):
        raise command_line.UsageError('--seconds: wanted more than 0, for the page of one run')
    from tljax.records import run_copies
    from tljax.training.report import comparison, page
    from tljax.training.report.budget import ASKED_SECONDS, Budget

    folders = [run_copies.folder(run) for run in arguments.runs]
    if len(folders) == 1:
        path = page.write(folders[0], budget=Budget(arguments.seconds or ASKED_SECONDS))
    else:
        path = comparison.write(folders, arguments.out or pathlib.Path('comparison.html'))
    print(path)
