"""Shows the entries of a file of weights and the parameters that they become.

tljax weights FILE|SPEC [--verify]

SPEC                        any value of a backbone's `weights`: a path, a run's folder,
                            torchvision:<name>, hf:<repo>, an https address or embedded:<name>
--config=NAME_OR_FILE       imports this config, for a run whose backbone or head is a class that
                            the config defines
--verify                    also runs a few images through the network and shows the outputs of
                            every stage

The command prints the file's format, the recognised network, the table from its names to tljax's,
the unused entries, the results of all checks, and the SHA-256. Exit codes: 0 success, 1 --verify
detected a fault or a value is not finite, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('weights', __doc__, config=True)
    result.add_argument('spec', metavar='FILE|SPEC')
    result.switch('--verify')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    config_files.import_classes(arguments.config)
    from tljax.weights import inspection

    return inspection.show(arguments.spec, with_activations=arguments.verify)
