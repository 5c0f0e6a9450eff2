"""Draws augmented training images of an experiment.

tljax augment --config=quickstart --out=augment.png

Each row is a training image. The first column is the original; the others are the augmented images
of the first training steps, before the centre crop. The operations and their random strengths are
written below each image.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE
--out=FILE                  the picture; default augment.png
--rows=N                    number of images; default 4
--columns=N                 number of augmented views of each image; default 6
--each                      instead, one column for each operation, applied alone

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('augment', __doc__, fields=True)
    result.add_argument('--out', type=command_line.local_path, default=pathlib.Path('augment.png'))
    result.add_argument('--rows', type=command_line.number(int, 1), default=4)
    result.add_argument('--columns', type=command_line.number(int, 1), default=6)
    result.switch('--each')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    experiment, _ = config_files.experiment(options.pop('config'))
    from tljax.training import augmented_views

    augmented_views.run(experiment, **options)
