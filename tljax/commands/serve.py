"""Serves a page that shows what a run predicts for photographs that are dropped on it.

tljax serve RUN [--port=8000] [--host=127.0.0.1]

RUN                         the folder of a finished run, or its address (gs or s3)
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--port=N                    default 8000; 0 takes any free port
--host=NAME                 the address to listen at; default 127.0.0.1, which other machines cannot
                            reach
--training_images=N         the number of training images to compare with, evenly spread; default
                            1000, and 0 reads none. The network runs on them once, at the start
--ood=NAME                  the score that marks images unlike those of training: knn (default),
                            mahalanobis, vim, energy, max_softmax or max_logit; the last three need
                            no training images
--max_mb=N                  the largest size of an image in MB; default 20

The page shows for each photograph the prediction, its calibrated probability, a saliency map, the
nearest training images, and a mark if it is unlike anything in training. Photographs are not
written to disk, and the page needs no network. The packages of the server come with
pip install 'tljax[serve]'.

Exit codes: 0 the server was interrupted, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit
from tljax.commands.predict import OOD_SCORES


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('serve', __doc__, config=True)
    result.add_argument('run', metavar='RUN')
    result.add_argument('--port', type=command_line.number(int, 0), default=8000)
    result.add_argument('--host', default='127.0.0.1')
    result.add_argument('--training_images', type=command_line.number(int, 0), default=1000)
    result.add_argument('--ood', choices=OOD_SCORES, default='knn')
    result.add_argument('--max_mb', type=command_line.number(float, 0.001), default=20.0)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    config_files.import_classes(arguments.config)
    from tljax.training.serving import server

    return server.run(arguments)
