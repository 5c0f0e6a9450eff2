"""Evaluates a network on labelled images.

tljax evaluate NETWORK DATA [--split=test] [--views=flip] [--out=FILE.json]
tljax evaluate runs/quickstart --data=config

NETWORK                     a run's folder, a file of weights, embedded:<name>,
                            torchvision:<name>, hf:<repo>, or an address (https, gs or s3), as for
                            tljax.load
DATA                        DIR/<class>/*, DIR/{train,val,test}/<class>/*, a list
                            (path,label[,split] in CSV or JSON lines), or an .npz file
--data=config               instead of DATA: the run's own data with the run's own splits
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--with=NETWORK              another network of the same classes: their predictions, each with its
                            temperature, are averaged; can be repeated
--split=NAME                train, val or test; default test, else val
--views=NAME                centre, flip or ten_crop; probabilities are averaged over the views.
                            The default for a run's test split is the run's test_views, otherwise
                            centre
--path_column=NAME          name of the path column of a list, default path; likewise
                            --label_column and --split_column
--gray_range=LOW,HIGH       black and white level of images with more than 8 bits; default the
                            network's own
--bad_files=skip            skips unreadable files; by default they are an error
--calibrated                computes the loss and the calibration with the temperature that was
                            fitted to the run's validation images; predicted classes stay the same
--batch_size=N              images per batch over all devices; default the run's own, else 32
--out=FILE.json             writes all metrics and every confused pair of classes
--predictions=FILE.npz      writes the logits of every image with its id, path and label
--picture=FILE.png          draws the confusion matrix, for data with one label per image

Classes are matched by name. Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('evaluate', __doc__, config=True)
    result.add_argument('network', metavar='NETWORK')
    result.add_argument('--with', dest='others', action='append', default=[])
    result.add_argument('path', metavar='DATA', nargs='?')
    result.add_argument('--data', choices=('config',))
    result.add_argument('--split', choices=('train', 'val', 'test'))
    result.add_argument('--views', choices=('centre', 'flip', 'ten_crop'))
    for name in ('path', 'label', 'split'):
        result.add_argument(f'--{name}_column', default=name)
    result.add_argument('--gray_range')
    result.add_argument('--bad_files', choices=('error', 'skip'), default='error')
    result.switch('--calibrated')
    result.add_argument('--batch_size', type=command_line.number(int, 1))
    result.add_argument('--out', type=command_line.local_path)
    result.add_argument('--predictions', type=command_line.local_path)
    result.add_argument('--picture', type=command_line.local_path)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    config_files.import_classes(arguments.config)
    from tljax.training import labelled_evaluation

    labelled_evaluation.run(arguments)
