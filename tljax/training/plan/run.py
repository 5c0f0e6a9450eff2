"""Plans an experiment for many devices: the implementation of `tljax plan`."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import rich.box
import rich.table

from tljax import devices
from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.config.phases import PhasePlan
from tljax.records import console
from tljax.records.console import bytes_text
from tljax.training.plan import collectives, estimate, shapes
from tljax.training.plan.estimate import StepPlan
from tljax.training.plan.topologies import Topology
from tljax.types import InputError, MeshShape, Sharding

COLUMNS = ('mesh', 'arguments', 'temporary', 'outputs', 'memory', 'operations')
PREDICTED = ('fits', 'compute', 'memory access', 'network', 'step', 'efficiency')


def run(
    experiment: Experiment,
    topology: Topology | None,
    *,
    num_classes: int | None,
    phase: int | None,
    as_json: bool,
) -> None:
    """Plans an experiment for the devices that JAX has, and prints the plan.

    Args:
        experiment: see `shapes.setup`.
        topology: see `plans`.
        num_classes: see `shapes.setup`.
        phase: see `plans`.
        as_json: whether JSON is printed instead of tables.

    Raises:
        InputError: the experiment cannot run.
    """
    steps = []
    for step in plans(experiment, topology, num_classes=num_classes, phase=phase):
        steps.append(step)
        if not as_json:
            mesh = f'mesh data={step.data}, model={step.model}'
            console.console.print(f'Compiled for {mesh} in {step.compile_seconds:.1f} s.')
    best = cheapest(steps, topology)
    if as_json:
        print(json.dumps(record(steps, best, topology), indent=2))
        return
    _print(steps, topology)
    _print_choice(best, topology)


def plans(
    experiment: Experiment,
    topology: Topology | None,
    *,
    num_classes: int | None = None,
    phase: int | None = None,
) -> Iterator[StepPlan]:
    """The plan of a training step on all of JAX's devices, for one or several meshes.

    The first mesh is that of the experiment. With a topology, the state is then split over 1, 2, 4
    and so on devices, until it fits: more parts take less memory and move more bytes.

    Args:
        experiment: see `shapes.setup`.
        topology: of as many devices as JAX has; None for the experiment's mesh alone.
        num_classes: see `shapes.setup`.
        phase: the number of the phase, from 1; None for the last one that has steps.

    Raises:
        InputError: the experiment cannot run on this number of devices, or has no such phase.
    """
    validation.validate(experiment)
    count = jax.device_count()
    own = devices.mesh_axes(experiment.mesh, experiment.sharding, count)
    meshes = [own]
    if topology is not None:
        splits = [n for n in (2**power for power in range(count.bit_length())) if count % n == 0]
        meshes += [(count // n, n) for n in splits if n != own[1]]
    for index, (data, model) in enumerate(meshes):
        one = dataclasses.replace(
            experiment, sharding=Sharding.FSDP, mesh=MeshShape(data=data, model=model)
        )
        job = shapes.setup(one, num_classes)
        step = estimate.compile_step(job, _phase(job.phases, phase))
        yield step
        if topology is not None and step.fits(topology) and (index or model == 1):
            return


def _phase(phases: tuple[PhasePlan, ...], number: int | None) -> PhasePlan:
    if number is None:
        return next(phase for phase in reversed(phases) if phase.length)
    if not 1 <= number <= len(phases) or not phases[number - 1].length:
        raise InputError(f'--phase={number}: wanted one of {len(phases)} phases that has steps')
    return phases[number - 1]


def cheapest(steps: list[StepPlan], topology: Topology | None) -> StepPlan | None:
    """The fastest of the steps that fit on a device; None if none fits."""
    fitting = [step for step in steps if topology and step.fits(topology)]
    if topology is None or not fitting:
        return None
    return min(fitting, key=lambda step: estimate.predict(step, topology).step_seconds)


def record(
    steps: list[StepPlan], best: StepPlan | None, topology: Topology | None
) -> dict[str, Any]:
    """The content for JSON: `devices`, `topology`, `meshes`, and the index of the `cheapest`."""
    return {
        'devices': steps[0].data * steps[0].model,
        'topology': topology.name if topology else None,
        'meshes': [step.record(topology) for step in steps],
        'cheapest': None if best is None else steps.index(best),
    }


def _print(steps: list[StepPlan], topology: Topology | None) -> None:
    """Prints what a step of each mesh needs on one device, and the predicted times."""
    _print_table(COLUMNS, [_needs(step) for step in steps])
    for step in steps:
        moved = collectives.bytes_by_kind(step.collectives)
        text = ', '.join(f'{kind} {bytes_text(size)}' for kind, size in moved.items())
        console.console.print(f'{_mesh(step)} moves in a step: {text or "nothing"}.')
    if topology is not None:
        rows = [_predicted(step, topology) for step in steps]
        _print_table(('mesh', *PREDICTED), rows)


def _print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify='left' if name == 'mesh' else 'right')
    for row in rows:
        table.add_row(*row)
    console.console.print(table)


def _mesh(step: StepPlan) -> str:
    return f'{step.data} × {step.model}'


def _needs(step: StepPlan) -> tuple[str, ...]:
    sizes = (step.argument_bytes, step.temporary_bytes, step.output_bytes, step.memory_bytes)
    return _mesh(step), *map(bytes_text, sizes), f'{step.flops:.3g}'


def _predicted(step: StepPlan, topology: Topology) -> tuple[str, ...]:
    times = estimate.predict(step, topology)
    seconds = (times.compute_seconds, times.memory_seconds, times.network_seconds)
    return (
        _mesh(step),
        'yes' if step.fits(topology) else 'no',
        *(f'{1000 * one:.3g} ms' for one in (*seconds, times.step_seconds)),
        f'{times.weak_scaling_efficiency:.1%}',
    )


def _print_choice(best: StepPlan | None, topology: Topology | None) -> None:
    if topology is None:
        console.console.print('With --topology, times are predicted and a mesh is chosen.')
    elif best is None:
        memory = bytes_text(estimate.USABLE * topology.chip.memory_bytes)
        console.console.print(
            f'No mesh fits in {memory}, the usable memory of a device: lower config.batch_size, or '
            'set config.accumulate, config.remat or config.compute_dtype.'
        )
    else:
        flags = '--config.sharding=replicated'
        if best.model > 1:
            flags = f'--config.sharding=fsdp --config.mesh.model={best.model}'
        console.console.print(f'Cheapest mesh that fits: {_mesh(best)} ({flags}).')
