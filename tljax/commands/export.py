"""Writes a trained network for other libraries: weights under their names, or a program.

tljax export RUN --out=OUT.safetensors --names=torchvision
tljax export RUN --out=OUT.stablehlo --format=stablehlo
tljax export RUN --out=OUT.safetensors --delta

RUN                         a run's folder, or anything a backbone's `weights` takes
--out=FILE                  what is written; a model card is written beside it as README.md (as
                            FILE's name with .md, where that is somebody else's)
--config=NAME_OR_FILE       the config of a run whose backbone or head is a class of your own;
                            nothing else imports that class
--names=LIBRARY             whose names: torchvision, timm, transformers, ... as the family has
                            them, or tljax for our own paths; default the family's first
--format=stablehlo          a program (jax.export) with the preprocessing inside: uint8 images
                            [b, h, w, C] to probabilities [b, K], on CPU, CUDA and TPU
--delta                     what the run changed of the weights it began with, and their SHA-256,
                            alone: adapters, head, statistics; tljax.load puts it on them
--image_size=HxW            of that program's images; default the size that the network was trained
                            on; others are resized in the program
--overwrite                 replaces files that are there

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('export', __doc__, config=True)
    line.add_argument('workdir', metavar='RUN')
    line.add_argument('--out', type=pathlib.Path, required=True)
    line.add_argument('--names')
    line.add_argument('--format', choices=('safetensors', 'stablehlo'), default='safetensors')
    line.add_argument('--image_size', type=_size, metavar='HxW')
    line.switch('--delta')
    line.switch('--overwrite')
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split('x'))
    return height, width


def _run(given: argparse.Namespace) -> None:
    words = vars(given)
    config_files.import_classes(words.pop('config'))
    from tljax.weights import export

    for path in export.export(**words):
        print(f'Wrote {path}')
