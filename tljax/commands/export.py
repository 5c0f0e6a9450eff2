"""Exports a trained network: weights under other libraries' names, or a StableHLO program.

tljax export RUN --out=OUT.safetensors --names=torchvision
tljax export RUN --out=OUT.stablehlo --format=stablehlo
tljax export RUN --out=OUT.onnx --format=onnx
tljax export RUN --out=OUT.safetensors --delta
tljax export RUN --to=hub:USER/NAME

RUN                         a run's folder, or any value of a backbone's `weights`
--out=FILE                  the exported file. A model card is written to README.md in its folder,
                            or to FILE.md if that README.md is not a model card of tljax
--to=hub:USER/NAME          uploads the network, its model card, and the experiment and result of a
                            run to a repository of the Hugging Face hub, in one commit. HF_TOKEN or
                            `hf auth login` gives access, HF_ENDPOINT names another hub
--private                   creates a private repository
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--names=LIBRARY             the library whose parameter names are used: torchvision, timm,
                            transformers, ..., or tljax for tljax's own paths; default the first
                            library that the network's family supports
--format=stablehlo          exports a program (jax.export) that includes the preprocessing: uint8
                            images [b, h, w, C] to probabilities [b, K], on CPU, CUDA and TPU
--format=onnx               exports the same program as an ONNX model, which is compared with the
                            network in ONNX Runtime before it is written
--delta                     writes only the parameters and statistics that the run changed, and the
                            SHA-256 of its starting weights; tljax.load combines both
--image_size=HxW            image size of the program's input; default the size that the network was
                            trained on; the program resizes other sizes
--overwrite                 replaces existing files, also in a hub

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('export', __doc__, config=True)
    result.add_argument('workdir', metavar='RUN')
    result.add_argument('--out', type=command_line.local_path)
    result.add_argument('--to')
    result.add_argument('--names')
    result.add_argument(
        '--format', choices=('safetensors', 'stablehlo', 'onnx'), default='safetensors'
    )
    result.add_argument('--image_size', type=_size, metavar='HxW')
    result.switch('--delta')
    result.switch('--private')
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
    place, private = options.pop('to'), options.pop('private')
    if (place is None) == (arguments.out is None):
        raise command_line.UsageError('wanted --out=FILE or --to=hub:USER/NAME, one of them')
    if private and place is None:
        raise command_line.UsageError('--private is a flag of --to')
    from tljax.weights import export

    if place is None:
        for path in export.export(**options):
            print(f'Wrote {path}')
        return
    options.pop('out')
    if options.pop('delta'):
        raise command_line.UsageError('--to uploads a complete network, without --delta')
    print(f'Uploaded {export.publish(to=place, private=private, **options)}')
