"""Makes the page of a run again, or compares several runs on one page.

tljax report RUN [--seconds=N]
tljax report RUN RUN [RUN ...] [--out=FILE.html]

RUN                         the folder of a run, as tljax train leaves it
--out=FILE.html             the page of several runs; default comparison.html in the current folder
--seconds=N                 how long the page of one run may take, about; default 120. Parts that
                            run the network on many images are left out if they take longer
--config=NAME_OR_FILE       the config of a run whose backbone or data is a class of your own;
                            nothing else imports that class

The page of one run is report.html in its folder, with the figures and their numbers in figures/.
It needs no network and no other file. What a run of an earlier version lacks is named on the page.
Several runs are compared in pairs, on the images that both were evaluated on.

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    line = command_line.Parser('report', __doc__, config=True)
    line.add_argument('runs', metavar='RUN', nargs='+', type=pathlib.Path)
    line.add_argument('--out', type=pathlib.Path)
    line.add_argument('--seconds', type=float)
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    config_files.import_classes(given.config)
    folders = [run.expanduser() for run in given.runs]
    if len(folders) == 1 and given.out is not None:
        raise command_line.UsageError('--out: the page of one run is report.html in its folder')
    if given.seconds is not None and (len(folders) > 1 or not given.seconds > 0):
        raise command_line.UsageError('--seconds: wanted more than 0, for the page of one run')
    from tljax.training.report import comparison, page
    from tljax.training.report.budget import ASKED_SECONDS, Budget

    if len(folders) == 1:
        path = page.write(folders[0], budget=Budget(given.seconds or ASKED_SECONDS))
    else:
        path = comparison.write(folders, given.out or pathlib.Path('comparison.html'))
    print(path)
