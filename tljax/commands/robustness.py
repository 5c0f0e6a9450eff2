"""Measures a run where it will be used: corrupted, shifted, unfamiliar and upstream images.

tljax robustness RUN
tljax robustness RUN --shifted DIR --ood DIR --source DIR --baseline=RUN

RUN                         the folder of a finished run with one label an image
--shifted DIR ...           labelled images with the classes of the run, as tljax evaluate takes
                            them: accuracy, calibration, and the gap to the run's own test images
--ood DIR ...               images of other classes: how well scores tell them from the run's own
--source DIR                labelled images of the upstream task: what training has forgotten
--baseline=RUN              a run that the errors under corruption are compared with
--corruptions=NAME[,NAME]   names or groups (noise, blur, weather, digital); none leaves them out;
                            default all
--severities=N[,N]          of 1 to 5; default all
--images=N                  corrupted test images at the most, evenly spread; default all
--seed=N                    of the corruptions; default 0
--bad_files=skip            leaves out files that cannot be read; by default they are an error
--batch_size=N              images on the devices at a time; default the run's own
--out=DIR                   where the results go; default the folder of the run
--config=NAME_OR_FILE       the config of a run whose backbone or data is a class of your own;
                            nothing else imports that class

Prints tables and writes robustness.json, robustness.html and the folder robustness_figures/.
Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('robustness', __doc__, config=True)
    line.add_argument('run', metavar='RUN', type=pathlib.Path)
    for name in ('--shifted', '--ood'):
        line.add_argument(name, metavar='DIR', nargs='+', action='extend', default=[])
    line.add_argument('--source', metavar='DIR')
    line.add_argument('--baseline', metavar='RUN', type=pathlib.Path)
    line.add_argument('--corruptions', type=_names)
    line.add_argument('--severities', type=_levels, default=(1, 2, 3, 4, 5))
    line.add_argument('--images', type=command_line.number(int, 1))
    line.add_argument('--seed', type=int, default=0)
    line.add_argument('--bad_files', choices=('error', 'skip'), default='error')
    line.add_argument('--batch_size', type=command_line.number(int, 1))
    line.add_argument('--out', type=pathlib.Path)
    return line


def _names(text: str) -> tuple[str, ...]:
    return () if text == 'none' else tuple(text.split(','))


def _levels(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(',')))


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    config_files.import_classes(given.config)
    from tljax.training.robustness import measurement

    measurement.run(given)
