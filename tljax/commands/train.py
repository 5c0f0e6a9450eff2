"""Trains and evaluates an experiment, and its baselines.

tljax train --config=quickstart
tljax train --config=resnet50_finetune --config.data.path=DIR

--config=NAME_OR_FILE[:ARGUMENT]   a shipped config by name, a Python file whose get_config()
                            returns an Experiment, or the config.json of a run
--config.FIELD=VALUE        sets a field, however deep: --config.optimizer.learning_rate=0.01
                            --config.strategy.stage=stage3
--config.FIELD=CLASS(...)   sets a field to an object: --config.strategy=LinearProbe
                            '--config.strategy=FreezeBelow(stage=stage3)'
--workdir=DIR               the folder of the run; default runs/<config name>. The same command
                            again resumes a run that was stopped
--dry_run                   prints the stages, the sizes of the data and the cost of a step;
                            trains nothing
--distributed               one process of several (SLURM, TPU pods, or the environment of
                            jax.distributed.initialize)

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal with
the state saved: run the same command again.
"""

import argparse
import pathlib
from collections.abc import Callable, Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """Of the words of the command."""
    line = command_line.Parser('train', __doc__, fields=True)
    line.add_argument('--workdir')
    line.switch('--dry_run')
    line.switch('--distributed')
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    experiment, name = config_files.experiment(given.config)
    import jax

    if given.distributed:
        _join(jax.distributed.initialize)
    from tljax.records import console
    from tljax.training import baselines

    console.console.quiet = jax.process_index() > 0
    if given.dry_run:
        baselines.dry_run(experiment)
    else:
        baselines.train_all(experiment, pathlib.Path(given.workdir or f'runs/{name}'))


def _join(initialize: Callable[[], None]) -> None:
    """Joins the other processes.

    Raises:
        UsageError: nothing says how many there are, or they do not answer.
    """
    try:
        initialize()
    except (ValueError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise command_line.UsageError(
            f'--distributed: {reason} It is read from SLURM, Open MPI, Kubernetes or a TPU pod; '
            'elsewhere leave the flag out'
        ) from error
