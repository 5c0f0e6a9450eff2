"""Chooses a strategy for a data set by frozen features and short trials.

tljax advise --config=quickstart
tljax train --config=advice/quickstart/advised.py

Linear probes of every frozen stage exclude some candidates. The others are trained on folds of the
labelled images by successive halving, within a time budget. No test image is used. The results are
advised.py (a config for tljax train), report.html and advice.json. Repeating the command reuses
finished trials. docs/advise.md describes the method.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE;
                            the config's own strategy is one of the candidates
--workdir=DIR               default advice/<config name>
--budget_minutes=M          time budget of the complete command; default 2.5
--weights A [B ...]         additional candidate weights, as for backbone.weights; a name that ends
                            in .txt is a file with one of them in each line (# begins a comment).
                            Several are screened first, on a part of the images

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal: run
the same command again.
"""

import argparse
import pathlib
import re
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('advise', __doc__, fields=True)
    result.add_argument('--workdir', type=command_line.local_path)
    result.add_argument('--budget_minutes', type=float, default=2.5)
    result.add_argument('--weights', type=_names, nargs='+', default=[])
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _names(text: str) -> list[str]:
    """The sources in one word: separated by commas, or the lines of a text file."""
    if not text.endswith('.txt'):
        return text.split(',')
    try:
        lines = pathlib.Path(text).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f'{text} cannot be read: {error}') from error
    # `file.pth#student` names a part of a file, so a comment begins after a space.
    names = [re.split(r'(?:^|\s)#', line)[0].strip() for line in lines]
    return [name for name in names if name]


def _run(arguments: argparse.Namespace) -> None:
    minutes = arguments.budget_minutes
    if not 0 < minutes < float('inf'):
        raise command_line.UsageError(f'--budget_minutes={minutes}: wanted more than 0')
    experiment, name = config_files.experiment(arguments.config)
    from tljax.advise import outputs

    workdir = arguments.workdir or pathlib.Path('advice') / name
    outputs.advise(
        experiment,
        workdir,
        budget_seconds=60 * minutes,
        more_weights=[name for names in arguments.weights for name in names],
    )
