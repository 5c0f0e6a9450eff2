"""Compares finished runs with a baseline, seed by seed and image by image.

tljax compare RUN RUN [RUN ...]
tljax compare runs/probe_* runs/finetune_* --baseline=runs/probe_0 --out=table.tex

RUN                         the folder of a finished run. Runs that differ only in seeds are one row
--baseline=RUN              the run whose row the others are compared with; default the first RUN
--split=test|val            the images; default test if all runs have test images, else val
--difference=POINTS         suggests the number of seeds that find this true difference with a
                            probability of 80 %; default 1
--out=FILE                  also writes the table: FILE.md, FILE.tex, FILE.csv or FILE.json

The numbers are made from predictions.npz in the folder of each run. A difference is distinguishable
if p, adjusted for the number of rows, is below 0.05 and its interval does not contain 0.

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import pathlib
from collections.abc import Sequence

from tljax.commands import command_line, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('compare', __doc__)
    result.add_argument('runs', metavar='RUN', nargs='+', type=command_line.path_or_address)
    result.add_argument('--baseline', metavar='RUN', type=command_line.path_or_address)
    result.add_argument('--split', choices=('test', 'val'))
    result.add_argument('--difference', type=command_line.number(float, 0), default=1.0)
    result.add_argument('--out', type=pathlib.Path)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    from tljax.training.report import paired_runs, paired_runs_output

    out = arguments.out.expanduser() if arguments.out else None
    if out is not None:
        paired_runs_output.writer(out)  # an unknown format is an error before the runs are read
    comparison = paired_runs.compare(
        arguments.runs,
        baseline=arguments.baseline,
        split=arguments.split,
        difference=arguments.difference / 100,
    )
    print(paired_runs_output.text(comparison))
    if out is not None:
        paired_runs_output.write(comparison, out)
        print(out)
