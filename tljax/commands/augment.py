"""Draws what an experiment's augmentations do to its images.

tljax augment --config=quickstart --out=augment.png

Rows are training images, the first column as they are, the others as the network sees them at the
first steps of training, before the centre is cut out; each with the operations and the strengths
that were drawn for it.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE
--out=FILE                  the picture; default augment.png
--rows=N                    images; default 4
--columns=N                 views of each; default 6
--each                      a column for each operation of the list, alone

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('augment', __doc__, fields=True)
    line.add_argument('--out', type=pathlib.Path, default=pathlib.Path('augment.png'))
    line.add_argument('--rows', type=command_line.number(int, 1), default=4)
    line.add_argument('--columns', type=command_line.number(int, 1), default=6)
    line.switch('--each')
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    experiment, _ = config_files.experiment(given.config)
    from tljax.training import augmented_views

    augmented_views.run(experiment, given.out, given.rows, given.columns, each=given.each)
