"""Merges the networks of runs into one file of weights.

tljax merge runs/tuned --out=merged.safetensors --method=wise_ft
tljax merge runs/a runs/b runs/c --out=soup.safetensors --method=greedy

RUN ...                     folders of runs on the same data, with the same network
--out=FILE                  a file that tljax.load and a backbone's `weights` read
--config=NAME_OR_FILE       the config of a run whose backbone or head is a class of your own;
                            nothing else imports that class
--method=wise_ft            between a start and an end (the default): of two runs, or of one and the
                            pretrained weights it began with, under the run's own head where that
                            was new
--method=uniform            the mean of all runs
--method=greedy             the mean of those that make it no worse on the validation images
--alpha=A[,A...]            of wise_ft: 0 is the start, 1 the end; of several the best on the
                            validation images is taken; default 0, 0.1, ..., 1
--statistics=averaged       leaves BatchNorm's statistics at the mean; by default they are taken
                            anew from the training images, in the stages where the runs differ
--overwrite                 replaces a file that is there

It prints the scores of each network and of the merge on validation and test images; those of the
merge are kept in the file. Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('merge', __doc__, config=True)
    line.add_argument('folders', nargs='+', metavar='RUN', type=pathlib.Path)
    line.add_argument('--out', required=True, type=pathlib.Path)
    line.add_argument('--method', choices=('wise_ft', 'uniform', 'greedy'), default='wise_ft')
    line.add_argument('--alpha', type=command_line.numbers, dest='alphas')
    line.add_argument('--statistics', choices=('anew', 'averaged'), default='anew')
    line.switch('--overwrite')
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    words = vars(given)
    config_files.import_classes(words.pop('config'))
    from tljax.training import merging

    merging.merge(**words)
