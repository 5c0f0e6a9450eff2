"""Finds a learning rate: raises it until training diverges, and says where to stay below.

tljax lr-find --config=quickstart

On a copy of what the experiment starts from, the learning rate rises geometrically over the steps
of its first phase that has any. Groups keep their multiples of it. Writes a picture of the loss
(with matplotlib: pip install 'tljax[plot]') and, beside it, the points as JSON; prints the flag to
train with. No later run is changed by it.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE
--out=FILE                  the picture; default lr_find.png; the points are in FILE with .json
--steps=N                   default 100
--lowest=RATE               default 1e-6
--highest=RATE              default 10; fewer steps are made where training diverges before
--rule=RULE                 of the flag: steepest (the default), valley or minimum; all three are
                            printed and drawn, and docs/after_training.md says what they are

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('lr-find', __doc__, fields=True)
    line.add_argument('--out', type=pathlib.Path, default=pathlib.Path('lr_find.png'))
    line.add_argument('--steps', type=command_line.number(int, 10), default=100)
    line.add_argument('--lowest', type=float, default=1e-6)
    line.add_argument('--highest', type=float, default=10.0)
    line.add_argument('--rule', choices=('steepest', 'valley', 'minimum'), default='steepest')
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    words = vars(given)
    experiment, _ = config_files.experiment(words.pop('config'))
    from tljax.training import lr_find

    lr_find.run(experiment, **words)
