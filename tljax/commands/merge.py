"""Merges the networks of runs into one file of weights.

tljax merge runs/tuned --out=merged.safetensors --method=wise_ft
tljax merge runs/a runs/b runs/c --out=soup.safetensors --method=greedy

RUN ...                     folders of runs with the same data and the same network
--out=FILE                  the merged weights, for tljax.load or a backbone's `weights`
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--method=wise_ft            interpolates between two runs, or between the pretrained weights and the
                            run that started from them; a new head is taken from the run. Default
--method=uniform            averages all runs
--method=greedy             averages the runs that do not lower the validation accuracy
--alpha=A[,A...]            for wise_ft: 0 is the start, 1 the end; of several values the one with
                            the best validation accuracy is used; default 0, 0.1, ..., 1
--statistics=averaged       averages BatchNorm's running statistics; by default they are computed
                            from the training images, in the stages where the runs differ
--overwrite                 replaces an existing file

The command prints the validation and test scores of each network and of the merged one, and stores
the latter in the file. Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('merge', __doc__, config=True)
    result.add_argument('folders', nargs='+', metavar='RUN', type=command_line.local_path)
    result.add_argument('--out', required=True, type=command_line.local_path)
    result.add_argument('--method', choices=('wise_ft', 'uniform', 'greedy'), default='wise_ft')
    result.add_argument('--alpha', type=command_line.numbers, dest='alphas')
    result.add_argument('--statistics', choices=('anew', 'averaged'), default='anew')
    result.switch('--overwrite')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    config_files.import_classes(options.pop('config'))
    from tljax.training import merging

    merging.merge(**options)
