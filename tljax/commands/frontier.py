"""Measures cost and accuracy for every number of frozen stages.

tljax frontier --config=quickstart
tljax frontier --config=quickstart --train

The first row trains the head alone. Each further row trains one more stage; the last one trains
everything. The table has, for a training step, the floating-point operations, the temporary memory,
the size of the optimizer state and the median time, and with --train the test accuracy. The results
are frontier.json, frontier.md and, with --train, frontier.png (needs matplotlib: pip install
'tljax[plot]').

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE;
                            its strategy, penalties and baselines are not used
--train                     trains each row's network; the runs are in DIR, and finished runs there
                            are not trained again
--rates=R[,R...]            trains each row with each of these learning rates; the run with the best
                            validation accuracy gives the row's test accuracy. Training more stages
                            usually needs a lower learning rate
--out=DIR                   default frontier/<config name>
--repeats=N                 timed steps of each row; default 10

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal after
the state was saved: run the same command again.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('frontier', __doc__, fields=True)
    result.add_argument('--out', type=command_line.local_path)
    result.switch('--train')
    result.add_argument('--rates', type=command_line.numbers, default=())
    result.add_argument('--repeats', type=command_line.number(int, 1), default=10)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    experiment, name = config_files.experiment(options.pop('config'))
    from tljax.training import frontier

    frontier.run(experiment, options.pop('out') or pathlib.Path('frontier') / name, **options)
