"""Suggests a learning rate: raises it until training diverges.

tljax lr-find --config=quickstart

The learning rate rises geometrically over training steps of the experiment's first phase that has
steps. Multipliers of parameter groups stay. The command draws the loss against the learning rate
(needs matplotlib: pip install 'tljax[plot]'), writes the points as JSON, and prints the flag for
tljax train. It leaves nothing that changes a later run.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE
--out=FILE                  the picture; default lr_find.png. The points are in the same place with
                            the suffix .json
--steps=N                   number of steps; default 100
--lowest=RATE               first learning rate; default 1e-6
--highest=RATE              last learning rate; default 10. It is not reached if training diverges
--rule=RULE                 the rule of the printed flag: steepest (default), valley or minimum. All
                            three are drawn; docs/after_training.md describes them

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('lr-find', __doc__, fields=True)
    result.add_argument('--out', type=command_line.local_path, default=pathlib.Path('lr_find.png'))
    result.add_argument('--steps', type=command_line.number(int, 10), default=100)
    result.add_argument('--lowest', type=float, default=1e-6)
    result.add_argument('--highest', type=float, default=10.0)
    result.add_argument('--rule', choices=('steepest', 'valley', 'minimum'), default='steepest')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    experiment, _ = config_files.experiment(options.pop('config'))
    from tljax.training import lr_find

    lr_find.run(experiment, **options)
