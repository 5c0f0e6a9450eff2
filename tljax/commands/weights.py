"""Shows what a file of weights contains and where everything in it goes.

tljax weights FILE|SPEC [--verify]

SPEC                        what a backbone's `weights` takes: a path, a run's folder,
                            torchvision:<name>, hf:<repo>, an https address or embedded:<name>
--config=NAME_OR_FILE       the config of a run whose backbone or head is a class of your own;
                            nothing else imports that class
--verify                    runs a few images through the network and shows what every stage gives

It prints the format, the network that the entries belong to, the table from their names to ours,
the entries that are not used, the checks that were done and the SHA-256. Exit codes: 0 success,
1 --verify found a fault or a value is not finite, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('weights', __doc__, config=True)
    line.add_argument('spec', metavar='FILE|SPEC')
    line.switch('--verify')
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> int:
    config_files.import_classes(given.config)
    from tljax.weights import inspection

    return inspection.show(given.spec, with_activations=given.verify)
