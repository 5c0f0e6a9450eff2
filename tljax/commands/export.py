"""Exports a trained network: weights under other libraries' names, or a StableHLO program.

tljax export RUN --out=OUT.safetensors --names=torchvision
tljax export RUN --out=OUT.stablehlo --format=stablehlo
tljax export RUN --out=OUT.safetensors --delta

RUN                         a run's folder, or any value of a backbone's `weights`
--out=FILE                  the exported file. A model card is written to README.md in its folder,
                            or to FILE.md if that README.md is not a model card of tljax
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--names=LIBRARY             the library whose parameter names are used: torchvision, timm,
                            transformers, ..., or tljax for tljax's own paths; default the first
                            library that the network's family supports
--format=stablehlo          exports a program (jax.export) that includes the preprocessing: uint8
                            images [b, h, w, C] to probabilities [b, K], on CPU, CUDA and TPU
--delta                     writes only the parameters and statistics that the run changed, and the
                            SHA-256 of its starting weights; tljax.load combines both
--image_size=HxW            image size of the program's input; default the size that the network was
                            trained on; the program resizes other sizes
--overwrite                 replaces existing files

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('export', __doc__, config=True)
    result.add_argument('workdir', metavar='RUN')
    result.add_argument('--out', type=command_line.local_path, required=True)
    result.add_argument('--names')
    result.add_argument('--format', choices=('safetensors', 'stablehlo'), default='safetensors')
    result.add_argument('--image_size', type=_size, metavar='HxW')
    result.switch('--delta')
    result.switch('--overwrite')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split('x'))
    return height, width


def _run(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    config_files.import_classes(options.pop('config'))
    from tljax.weights import export

    for path in export.export(**options):
        print(f'Wrote {path}')
