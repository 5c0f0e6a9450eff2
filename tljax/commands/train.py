"""Trains and evaluates an experiment, and its baselines.

tljax train --config=quickstart
tljax train --config=resnet50_finetune --config.data.path=DIR

--config=NAME_OR_FILE[:ARGUMENT]   a shipped config by name, a Python file whose get_config()
                            returns an Experiment, or the config.json of a run
--config.FIELD=VALUE        sets a field, also inside objects:
                            --config.optimizer.learning_rate=0.01 --config.strategy.stage=stage3
--config.FIELD=CLASS(...)   sets a field to an object: --config.strategy=LinearProbe
                            '--config.strategy=FreezeBelow(stage=stage3)'
--workdir=DIR               the folder of the run; default runs/<config name>. The same command
                            resumes a stopped run. gs://BUCKET/DIR and s3://BUCKET/DIR need
                            the extra `bucket`
--classes=FILE              imports this config first, for the config.json of a run whose classes it
                            defines
--allow_change=FIELD,...    resumes a run although these fields have changed, such as epochs, which
                            trains a finished run longer; data also allows other images
--dry_run                   prints the stages, the sizes of the splits and the cost of a step;
                            trains nothing
--profile=FIRST:LAST        captures these steps, counted from 1, with JAX's profiler into profile/
                            of the run's folder, and prints how to open them: --profile=10:20
--require_device=gpu|tpu|cpu   ends at once unless JAX uses such a device
--distributed               joins the other processes of the run (SLURM, TPU pods, or the
                            environment variables of jax.distributed.initialize)

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal after
the state was saved: run the same command again.
"""

import argparse
import pathlib
from collections.abc import Callable, Sequence

from tljax.commands import command_line, config_files, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('train', __doc__, fields=True)
    result.add_argument('--workdir', type=command_line.path_or_address)
    result.add_argument('--classes')
    result.add_argument('--allow_change', default='')
    result.add_argument('--profile', type=_steps)
    result.add_argument('--require_device', choices=('cpu', 'gpu', 'tpu'))
    result.switch('--dry_run')
    result.switch('--distributed')
    return result


def _steps(text: str) -> tuple[int, int]:
    """An argparse type: `FIRST:LAST`, two steps counted from 1."""
    first, _, last = text.partition(':')
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
        raise argparse.ArgumentTypeError(
            f'{text}: wanted FIRST:LAST with 1 <= FIRST <= LAST, such as 10:20'
        )
    return int(first), int(last)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.classes is not None:
        config_files.import_classes(command_line.ConfigArguments(spec=arguments.classes))
    experiment, name = config_files.experiment(arguments.config)
    import jax

    if arguments.distributed:
        _join(jax.distributed.initialize)
    _check_device(arguments.require_device)
    from tljax.records import console
    from tljax.training import baselines, wall_time

    console.console.quiet = jax.process_index() > 0
    if arguments.dry_run:
        baselines.dry_run(experiment)
    else:
        workdir = arguments.workdir or pathlib.Path('runs') / name
        allow_change = [field for field in arguments.allow_change.split(',') if field]
        baselines.train_all(
            experiment,
            workdir,
            allow_change,
            started=wall_time.process_start(),
            profile=arguments.profile,
        )


def _check_device(wanted: str | None) -> None:
    """Raises a `UsageError` unless JAX uses the wanted kind of device."""
    import jax

    backend = jax.default_backend()
    if wanted is not None and backend != wanted:
        devices = ', '.join(sorted({device.device_kind for device in jax.devices()}))
        hint = '; install jax[cuda12] and the driver' if wanted == 'gpu' else ''
        raise command_line.UsageError(
            f'--require_device={wanted}: JAX found {jax.device_count()} device(s) of kind '
            f'{backend} ({devices}){hint}'
        )


def _join(initialize: Callable[[], None]) -> None:
    """Joins the other processes of the run.

    Raises:
        UsageError: their number is unknown, or they do not answer.
    """
    try:
        initialize()
    except (ValueError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise command_line.UsageError(
            f'--distributed: {reason} The flag needs SLURM, Open MPI, Kubernetes or a TPU pod'
        ) from error
