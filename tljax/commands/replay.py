"""Computes one step of a run again and shows where its first value that is not finite arises.

tljax replay RUN STEP [--out=FILE.json]

The newest intact checkpoint before the step is copied into a temporary folder, and the run goes on
from there, as a resumed run does. The table has the images of the step, and the smallest and the
largest value and the number of values that are not finite: of the images, the output of each stage,
the loss, the gradient and the update of each leaf, the statistics and the optimizer state. Nothing
is written into the folder of the run.

RUN                         the folder of a run, finished or not
STEP                        the step, counted from 1, as in the messages of a run
--config=NAME_OR_FILE       imports this config, for a run whose classes it defines
--out=FILE.json             writes the ranges of all layers and leaves

Exit codes: 0 success, 1 an earlier step ends the run, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('replay', __doc__, config=True)
    result.add_argument('run', metavar='RUN', type=command_line.local_path)
    result.add_argument('step', metavar='STEP', type=command_line.number(int, 1))
    result.add_argument('--out', type=command_line.local_path)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    config_files.import_classes(arguments.config)
    from tljax.training import replay

    replay.replay(arguments.run, arguments.step, arguments.out)
