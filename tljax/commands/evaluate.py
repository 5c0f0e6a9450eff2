"""Evaluates a network on labelled images.

tljax evaluate NETWORK DATA [--split=test] [--views=flip] [--out=FILE.json]
tljax evaluate runs/quickstart --data=config

NETWORK                     whatever tljax.load takes: a run's folder, a file, embedded:<name>,
                            torchvision:<name>, hf:<repo>, an https address
DATA                        DIR/<class>/*, DIR/{train,val,test}/<class>/*, a list
                            (path,label[,split] in CSV or JSON lines), or an .npz file
--data=config               instead: the data of the run, as its own config splits it
--config=NAME_OR_FILE       the config of a run whose backbone or head is a class of your own;
                            nothing else imports that class
--split=NAME                train, val or test; default test, else val
--views=NAME                centre, flip or ten_crop; probabilities are averaged over them. Default
                            the run's own test_views (the centre on its val and train), the centre
                            for other networks
--path_column=NAME          of a list, where that is not path; likewise --label_column and
                            --split_column
--gray_range=LOW,HIGH       black and white of images deeper than 8 bits; default the network's own
--bad_files=skip            leaves out files that cannot be read; by default they are an error
--calibrated                the loss and the calibration at the temperature that was fitted to the
                            run's validation images; no decision changes
--batch_size=N              images on the devices at a time; default the run's own, else 32
--out=FILE.json             all figures, and every pair of classes that was confused
--predictions=FILE.npz      the logits of every image, with its id, path and label
--picture=FILE.png          the confusion matrix, of one label an image

Classes are found by their names. Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('evaluate', __doc__, config=True)
    line.add_argument('network', metavar='NETWORK')
    line.add_argument('path', metavar='DATA', nargs='?')
    line.add_argument('--data', choices=('config',))
    line.add_argument('--split', choices=('train', 'val', 'test'))
    line.add_argument('--views', choices=('centre', 'flip', 'ten_crop'))
    for name in ('path', 'label', 'split'):
        line.add_argument(f'--{name}_column', default=name)
    line.add_argument('--gray_range')
    line.add_argument('--bad_files', choices=('error', 'skip'), default='error')
    line.switch('--calibrated')
    line.add_argument('--batch_size', type=command_line.number(int, 1))
    line.add_argument('--out', type=pathlib.Path)
    line.add_argument('--predictions', type=pathlib.Path)
    line.add_argument('--picture', type=pathlib.Path)
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    config_files.import_classes(given.config)
    from tljax.training import labelled_evaluation

    labelled_evaluation.run(given)
