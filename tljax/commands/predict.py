"""Predicts the classes of images.

tljax predict NETWORK PATH... [--top=3] [--views=flip] [--out=FILE.csv]

NETWORK                     a run's folder, a file of weights, embedded:<name>,
                            torchvision:<name>, hf:<repo>, or an address (https, gs or s3), as for
                            tljax.load
PATH                        an image, a folder of images, or a list of images: CSV or JSON lines
                            with a path in each row, or .txt with a path per line; paths are
                            relative to the list
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--with=NETWORK              another network of the same classes: their predictions are averaged,
                            such as those of a text read forward and backward; can be repeated
--top=N                     number of classes printed for each image; default 3
--views=NAME                centre (default), flip or ten_crop; probabilities are averaged over the
                            views
--path_column=NAME          name of the path column of a list; default path
--gray_range=LOW,HIGH       black and white level of images with more than 8 bits; default the
                            network's own
--bad_files=error           stops at an unreadable file; by default it is reported and skipped
--uncalibrated              ignores the temperature that was fitted to the run's validation images
--ood=NAME                  for a run: adds a score that is small for images unlike its own, and the
                            threshold that accepts 95 % of its validation images: energy,
                            max_softmax, max_logit, mahalanobis, knn or vim; the last three read
                            the run's training images
--batch_size=N              images per batch over all devices; default 32
--out=FILE                  writes the probabilities of all classes to .csv or .jsonl; only the
                            first 100 images are then printed

Exit codes: 0 success, 1 some files could not be read, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit

OOD_SCORES = ('energy', 'max_softmax', 'max_logit', 'mahalanobis', 'knn', 'vim')


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('predict', __doc__, config=True)
    result.add_argument('network', metavar='NETWORK')
    result.add_argument('--with', dest='others', action='append', default=[])
    result.add_argument('paths', metavar='PATH', nargs='+')
    result.add_argument('--top', type=command_line.number(int, 1), default=3)
    result.add_argument('--views', choices=('centre', 'flip', 'ten_crop'), default='centre')
    result.add_argument('--path_column', default='path')
    result.add_argument('--gray_range')
    result.add_argument('--bad_files', choices=('error', 'skip'), default='skip')
    result.switch('--uncalibrated')
    result.add_argument('--ood', choices=OOD_SCORES)
    result.add_argument('--batch_size', type=command_line.number(int, 1))
    result.add_argument('--out', type=command_line.local_path)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    config_files.import_classes(arguments.config)
    from tljax.training import prediction

    return prediction.run(arguments)
