"""Measures a finished run on corrupted, shifted, unfamiliar and upstream images.

tljax robustness RUN
tljax robustness RUN --shifted DIR --ood DIR --source DIR --baseline=RUN

RUN                         the folder of a finished run whose images have one label each
--shifted DIR ...           labelled images with the run's classes, as for tljax evaluate: measures
                            accuracy, calibration, and the difference to the accuracy on the run's
                            test images
--ood DIR ...               images of other classes: measures how well out-of-distribution scores
                            separate them from the run's test images
--source DIR                labelled images of the task that the weights were trained for: measures
                            the accuracy on this task before and after training
--baseline=RUN              another run with the same classes: reports the errors under corruption
                            relative to its errors too
--corruptions=NAME[,NAME]   names or groups of corruptions (noise, blur, weather, digital); none
                            skips this measurement; default all
--severities=N[,N]          severities of the corruptions, 1 to 5; default all
--images=N                  corrupts at most N test images, evenly spread; default all
--seed=N                    seed of the corruptions and of the bootstrap; default 0
--bad_files=skip            skips unreadable files; by default they are an error
--batch_size=N              images per batch over all devices; default the run's own
--out=DIR                   folder for the results; default the folder of the run
--config=NAME_OR_FILE       imports this config, for a run whose backbone or data is a class that
                            the config defines

Prints tables and writes robustness.json, robustness.html and the folder robustness_figures/.
Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('robustness', __doc__, config=True)
    result.add_argument('run', metavar='RUN', type=command_line.local_path)
    for name in ('--shifted', '--ood'):
        result.add_argument(name, metavar='DIR', nargs='+', action='extend', default=[])
    result.add_argument('--source', metavar='DIR')
    result.add_argument('--baseline', metavar='RUN', type=command_line.local_path)
    result.add_argument('--corruptions', type=_corruptions)
    result.add_argument('--severities', type=_severities, default=(1, 2, 3, 4, 5))
    result.add_argument('--images', type=command_line.number(int, 1))
    result.add_argument('--seed', type=command_line.number(int, 0), default=0)
    result.add_argument('--bad_files', choices=('error', 'skip'), default='error')
    result.add_argument('--batch_size', type=command_line.number(int, 1))
    result.add_argument('--out', type=command_line.local_path)
    return result


def _corruptions(text: str) -> tuple[str, ...]:
    return () if text == 'none' else tuple(text.split(','))


def _severities(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(',')))
    except ValueError as error:
        message = f'{text}: wanted numbers from 1 to 5, separated by commas'
        raise argparse.ArgumentTypeError(message) from error


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    config_files.import_classes(arguments.config)
    from tljax.training.robustness import measurement

    measurement.run(arguments)
