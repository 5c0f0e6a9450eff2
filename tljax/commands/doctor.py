"""Describes the installation and the machine, to paste into an issue.

tljax doctor [--json]

--json                      prints JSON instead of lines of text

It lists the versions of packages, the devices, the settings of JAX and XLA, the processor, the free
memory and disk, the caches with their sizes, and known incompatibilities. A test of about two
seconds measures a matrix product and a training step of a small network. The home folder is written
as ~ and the name of the user as USER; access tokens are never read.

Exit codes: 0 success, 1 a known incompatibility was found.
"""

import argparse
import json
from collections.abc import Sequence

from tljax.commands import command_line, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('doctor', __doc__)
    result.switch('--json')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from tljax.training.diagnosis.diagnosis import diagnose

    found = diagnose()
    print(json.dumps(found.record, indent=2) if arguments.json else found.text())
    return exit.FAILED if found.problems else 0
