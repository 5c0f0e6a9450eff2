"""Measures what freezing saves and costs: every cut through the network.

tljax frontier --config=quickstart
tljax frontier --config=quickstart --train

For the head alone, then each stage more, down to full fine-tuning: the floating-point operations
of a training step, its temporary memory, the optimizer's state, the time it takes (the median of
steps in turns), and with --train the test accuracy. Prints a table; writes frontier.json,
frontier.md and, of what was trained, frontier.png (with matplotlib: pip install 'tljax[plot]').

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE;
                            its strategy, penalties and baselines are put aside
--train                     trains each cut; the runs are in DIR, and those that are finished there
                            are not trained again
--rates=R[,R...]            with each of these learning rates; of a cut's runs the one that is best
                            on the validation images gives its test accuracy. The more trains, the
                            lower a rate it wants
--out=DIR                   default frontier/<config name>
--repeats=N                 timed steps of each cut; default 10

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal with
the state saved: run the same command again.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('frontier', __doc__, fields=True)
    line.add_argument('--out')
    line.switch('--train')
    line.add_argument('--rates', type=command_line.numbers, default=())
    line.add_argument('--repeats', type=command_line.number(int, 1), default=10)
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    experiment, name = config_files.experiment(given.config)
    from tljax.training import frontier

    out = pathlib.Path(given.out or f'frontier/{name}')
    frontier.run(experiment, out, train=given.train, rates=given.rates, repeats=given.repeats)
