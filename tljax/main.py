"""Trains and evaluates an experiment.

python -m tljax.main --config=configs/quickstart.py

--config=FILE[:ARGUMENT]    a Python file whose get_config() returns an Experiment
--config.FIELD=VALUE        sets a field of it, however deep:
--config.optimizer.learning_rate=0.01 --config.strategy.stage=stage3
--workdir=DIR               where records and checkpoints go; default runs/<config name>.
The same command again resumes what was stopped.
--dry_run                   prints the model, the data and what a step costs; trains nothing
--distributed               one process of several (SLURM, TPU pods, or the environment of
jax.distributed.initialize)
--help                      this text
"""

import pathlib
import sys

from absl import flags

from tljax.commands import command_line


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    values = command_line.new_flags()
    flags.DEFINE_string('workdir', None, 'Folder of the run.', flag_values=values)
    flags.DEFINE_bool('dry_run', False, 'Trains nothing.', flag_values=values)
    flags.DEFINE_bool('distributed', False, 'One process of several.', flag_values=values)
    experiment, name = command_line.command_line(__doc__, values, argv)
    workdir = pathlib.Path(values['workdir'].value or f'runs/{name}')
    if values['distributed'].value:
        import jax

        jax.distributed.initialize()
    return _run(experiment, workdir, dry_run=bool(values['dry_run'].value))


def _run(experiment, workdir: pathlib.Path, *, dry_run: bool) -> int:
    import jax

    from tljax.commands import exit
    from tljax.records import console
    from tljax.training import baselines

    console.console.quiet = jax.process_index() > 0
    if dry_run:
        return exit.ended(lambda: baselines.dry_run(experiment))
    return exit.ended(lambda: baselines.train_all(experiment, workdir))


if __name__ == '__main__':
    sys.exit(main(sys.argv))
