"""Compiles a training step for devices that do not exist, and predicts its time."""

import dataclasses
import time
from typing import Any

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.training import compiled_step
from tljax.training.jobs import Job
from tljax.training.plan import collectives
from tljax.training.plan.collectives import Collective
from tljax.training.plan.topologies import Topology
from tljax.types import Dtype

USABLE = 0.9  # of a device's memory; the rest is for the runtime and for fragmentation
# Bytes that each device sends in a ring of n devices, as a multiple of the array's (n - 1) / n.
# Source: Thakur et al. 2005, "Optimization of collective communication operations in MPICH".
ROUNDS = {'all-reduce': 2, 'all-gather': 1, 'reduce-scatter': 1, 'all-to-all': 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What a step of one device needs.

    Attributes:
        data: devices along the `data` axis of the mesh.
        model: devices along its `model` axis, over which the state is split.
        argument_bytes: memory of the state, the batch and other arguments.
        temporary_bytes: memory of activations, gradients and gathered parameters.
        output_bytes: memory of results that do not replace an argument.
        flops: floating-point operations.
        accessed_bytes: read from and written to memory.
        collectives: the operations between devices.
        dtype: that most operations compute in.
        compile_seconds: duration of the compilation.
    """

    data: int
    model: int
    argument_bytes: float
    temporary_bytes: float
    output_bytes: float
    flops: float
    accessed_bytes: float
    collectives: tuple[Collective, ...]
    dtype: Dtype
    compile_seconds: float

    @property
    def memory_bytes(self) -> float:
        """All memory of a step."""
        return self.argument_bytes + self.temporary_bytes + self.output_bytes

    def fits(self, topology: Topology) -> bool:
        """Whether a device has the memory."""
        return self.memory_bytes <= USABLE * topology.chip.memory_bytes

    def record(self, topology: Topology | None = None) -> dict[str, Any]:
        """The content for JSON; with the prediction, if there is a topology."""
        names = ('data', 'model', 'argument_bytes', 'temporary_bytes', 'output_bytes')
        names += ('memory_bytes', 'flops', 'accessed_bytes', 'compile_seconds')
        record = {name: getattr(self, name) for name in names}
        record['collective_bytes'] = collectives.bytes_by_kind(self.collectives)
        if topology is not None:
            record |= {'fits': self.fits(topology)} | dataclasses.asdict(predict(self, topology))
        return record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted duration of a step, in seconds, by the stated peaks.

    Attributes:
        compute_seconds: of the operations at peak rate.
        memory_seconds: of the access to memory at peak rate, at the same time.
        network_seconds: of the collective operations, without latency.
        step_seconds: of all, if the network is used before or after the computation only.
        weak_scaling_efficiency: the time of one device alone with the same images per device,
            divided by `step_seconds`.
    """

    compute_seconds: float
    memory_seconds: float
    network_seconds: float
    step_seconds: float
    weak_scaling_efficiency: float


def compile_step(job: Job, phase: PhasePlan) -> StepPlan:
    """Compiles a phase's step for the mesh of a job.

    Args:
        job: of `shapes.setup`.
        phase: one of its phases.
    """
    started = time.perf_counter()
    compiled = compiled_step.compile_train_step(job, phase).compiled
    seconds = time.perf_counter() - started
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    assert memory is not None, 'the CPU compiler reports memory'
    return StepPlan(
        data=job.mesh.shape[devices.DATA_AXIS],
        model=job.mesh.shape[devices.MODEL_AXIS],
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        output_bytes=max(0, memory.output_size_in_bytes - memory.alias_size_in_bytes),
        flops=cost.get('flops', float('nan')),
        accessed_bytes=cost.get('bytes accessed', float('nan')),
        collectives=tuple(collectives.of_program(compiled.as_text() or '', job.mesh.size)),
        dtype=job.experiment.compute_dtype,
        compile_seconds=seconds,
    )


def predict(step: StepPlan, topology: Topology) -> Prediction:
    """The duration of a step on a topology."""
    compute = step.flops / topology.chip.flops(step.dtype)
    memory = step.accessed_bytes / topology.chip.memory_rate
    network = sum(_seconds(one, topology) for one in step.collectives)
    alone = max(compute, memory)
    return Prediction(
        compute_seconds=compute,
        memory_seconds=memory,
        network_seconds=network,
        step_seconds=alone + network,
        weak_scaling_efficiency=alone / (alone + network) if alone + network else 1.0,
    )


def _seconds(operation: Collective, topology: Topology) -> float:
    size, count = operation.size_bytes, len(operation.group)
    if operation.kind in ROUNDS:
        size *= ROUNDS[operation.kind] * (count - 1) / count
    return size / topology.rate(operation.group)
