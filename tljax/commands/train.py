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
--distributed               joins the other processes of the run, which SLURM, MPI, Kubernetes or a
                            TPU pod has started (docs/cluster.md), or those that these flags name:
--coordinator=HOST:PORT     the address of process 0, which must be free there
--processes=N               how many processes there are
--process=INDEX             which of them this is, from 0
--local_devices=0,1         the GPUs of this process, if several share a host
--coordinator_timeout=300   seconds in which all processes must have joined

Exit codes: 0 success, 1 training failed, 2 the input cannot be used, 75 stopped by a signal after
the state was saved, or another process has ended: run the same command again.
"""

import argparse
import pathlib
import traceback
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit
from tljax.training.processes import watch

OF_PROCESSES = ('coordinator', 'processes', 'process', 'local_devices', 'coordinator_timeout')


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
    result.add_argument('--coordinator')
    result.add_argument('--processes', type=command_line.number(int, 1))
    result.add_argument('--process', type=command_line.number(int, 0))
    result.add_argument('--local_devices', type=_indices)
    result.add_argument('--coordinator_timeout', type=command_line.number(float, 1))
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
    try:
        code = exit.run(parser(), _run, argv)
    except Exception:
        if not watch.active():
            raise
        traceback.print_exc()  # before the other processes are told, which takes seconds
        code = exit.FAILED
    watch.leave(code)
    return code


def _run(arguments: argparse.Namespace) -> None:
    if arguments.classes is not None:
        config_files.import_classes(command_line.ConfigArguments(spec=arguments.classes))
    experiment, name = config_files.experiment(arguments.config)
    workdir = arguments.workdir or pathlib.Path('runs') / name
    topology = _join(arguments, workdir, experiment.batch_size)
    _check_device(arguments.require_device)
    import jax

    from tljax.records import console
    from tljax.training import baselines, wall_time

    console.console.quiet = jax.process_index() > 0
    for line in topology:
        console.console.print(line, markup=False, soft_wrap=True)
    with watch.blames_ended_processes():
        if arguments.dry_run:
            baselines.dry_run(experiment)
        else:
            allow_change = [field for field in arguments.allow_change.split(',') if field]
            baselines.train_all(
                experiment,
                workdir,
                allow_change,
                started=wall_time.process_start(),
                profile=arguments.profile,
            )


def _join(arguments: argparse.Namespace, workdir: pathlib.Path, batch_size: int) -> list[str]:
    """Joins the other processes, if there are any; returns lines that describe them.

    Raises:
        UsageError: a flag of several processes without `--distributed`.
    """
    given = {name: getattr(arguments, name) for name in OF_PROCESSES}
    if not arguments.distributed:
        for name, value in given.items():
            if value is not None:
                raise command_line.UsageError(f'--{name} is a flag of --distributed')
        return []
    from tljax.training.processes import joining
    from tljax.training.processes.settings import Flags

    timeout = given.pop('coordinator_timeout') or joining.TIMEOUT_SECONDS
    return joining.lines(joining.join(Flags(**given), workdir, timeout), batch_size)


def _indices(text: str) -> tuple[int, ...]:
    """An argparse type: indices of devices, separated by commas."""
    return tuple(map(command_line.number(int, 0), text.split(',')))  # type: ignore[arg-type]


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
