"""Predicts memory, time and network traffic of a training step on many devices, without them.

tljax plan --config=vit_finetune --num_classes=100 --topology=v5e-256 --config.batch_size=4096
tljax plan --config=resnet50_finetune --config.data.path=DIR --devices=8

The training step is compiled on this CPU for a mesh of virtual devices; nothing is trained, and no
weights or images are read. For each device it prints the memory, the floating-point operations and
the bytes of every kind of collective operation; with a topology also the time by its stated peaks,
and the cheapest mesh that fits in its memory. docs/commands.md explains the figures.

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE;
                            its weights, penalties and samples are not used
--topology=NAME             the devices: KIND-NUMBER or KIND-NODESxNUMBER, of the kinds v5e, v5p,
                            v6e, a100, h100 and h200, as in v5e-256 or h100-8x8
--devices=N                 the number of devices; default that of the topology
--num_classes=K             plans for K classes, without the data
--phase=N                   the phase of training; default the last one that has steps
--json                      prints JSON instead of tables

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import os
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit

# XLA reads the last one of equal flags. Without optimisation it compiles several times faster; the
# plan depends on the program before that.
FLAGS = '--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={}'


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('plan', __doc__, fields=True)
    result.add_argument('--topology')
    result.add_argument('--devices', type=command_line.number(int, 1))
    result.add_argument('--num_classes', type=command_line.number(int, 2))
    result.add_argument('--phase', type=command_line.number(int, 1))
    result.switch('--json')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    from tljax.training.plan import topologies

    name, count = arguments.topology, arguments.devices
    topology = topologies.parse(name) if name else None
    if topology is not None:
        if count not in (None, topology.devices):
            raise command_line.UsageError(
                f'--devices={count}: --topology={name} has {topology.devices} devices'
            )
        count = topology.devices
    if count is None:
        raise command_line.UsageError('wanted --topology=NAME, --devices=N or both')
    _make_devices(count)
    with_data = arguments.num_classes is None
    experiment, _ = config_files.experiment(arguments.config, with_data=with_data)
    from tljax.training.plan import run

    run.run(
        experiment,
        topology,
        num_classes=arguments.num_classes,
        phase=arguments.phase,
        as_json=arguments.json,
    )


def _make_devices(count: int) -> None:
    """Makes JAX have virtual CPU devices.

    Raises:
        UsageError: this process has used other devices already.
    """
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {FLAGS.format(count)}'
    import jax

    jax.config.update('jax_platforms', 'cpu')
    if jax.device_count() != count:
        raise command_line.UsageError(
            f'JAX already has {jax.device_count()} devices in this process, wanted {count}'
        )
