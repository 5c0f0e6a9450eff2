"""Chooses a strategy for a data set: looks, tries a few for real, and says what to run.

tljax advise --config=quickstart
tljax train --config=advice/quickstart/advised.py

Frozen features of every stage tell what the weights know of the task; the candidates that they do
not rule out are trained by successive halving on folds of the labelled images, within the budget.
No test image is looked at. Writes advised.py, a config that can be run as it is, report.html and
advice.json; the same command again begins with the trials that are there. docs/advise.md says how
it decides.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE;
                            its strategy is one of the candidates
--workdir=DIR               default advice/<config name>
--budget_minutes=M          of the whole; default 2.5
--weights=A[,B...]          further candidate weights: whatever backbone.weights takes

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal: run
the same command again.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('advise', __doc__, fields=True)
    line.add_argument('--workdir')
    line.add_argument('--budget_minutes', type=float, default=2.5)
    line.add_argument('--weights', type=_names, default=())
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(','))


def _run(given: argparse.Namespace) -> None:
    minutes = given.budget_minutes
    if not 0 < minutes < float('inf'):
        raise command_line.UsageError(f'--budget_minutes={minutes}: wanted more than 0')
    experiment, name = config_files.experiment(given.config)
    from tljax.advise import outputs

    workdir = pathlib.Path(given.workdir or f'advice/{name}')
    outputs.advise(experiment, workdir, budget_seconds=60 * minutes, more_weights=given.weights)
