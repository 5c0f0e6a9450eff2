"""Which transfer for these data? Looks, tries a few candidates for real, and says what to run.

python -m tljax.advise --config=configs/quickstart.py
python -m tljax.main --config=advice/quickstart/advised.py

Frozen features of every stage tell what the weights know of the task; what they do not rule out
is trained by successive halving on folds of the labelled images, within the budget. No test image
is looked at. Writes advised.py, a config that can be run as it is, report.html and advice.json;
the same command again begins with the trials that are there. docs/advise.md says how it decides.

--config=FILE[:ARGUMENT]    as for tljax.main, with --config.FIELD=VALUE; its strategy is one of
the candidates
--workdir=DIR               default advice/<config name>
--budget_minutes=M          of the whole; default 2.5
--weights=A[,B...]          further candidate weights: whatever backbone.weights takes
--help                      this text
"""

import pathlib
import sys

from absl import flags

from tljax.commands import command_line


def own_flags() -> flags.FlagValues:
    """The command's flags, but for the config's."""
    values = command_line.new_flags()
    flags.DEFINE_string('workdir', None, 'Folder.', flag_values=values)
    flags.DEFINE_float('budget_minutes', 2.5, 'Minutes.', flag_values=values)
    flags.DEFINE_list('weights', [], 'Further weights.', flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    values = own_flags()
    experiment, name = command_line.command_line(__doc__, values, argv)
    minutes = float(values['budget_minutes'].value or 0.0)
    if not 0 < minutes < float('inf'):
        command_line.fail(f'--budget_minutes={minutes}: wanted more than 0')
    workdir = pathlib.Path(values['workdir'].value or f'advice/{name}')
    more = tuple(values['weights'].value or ())

    from tljax.advise import writing
    from tljax.commands import exit

    return exit.ended(
        lambda: writing.advise(experiment, workdir, budget_seconds=60 * minutes, more_weights=more)
    )


if __name__ == '__main__':
    sys.exit(main(sys.argv))
