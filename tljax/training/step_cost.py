"""The cost of a training step: operations and memory by the compiler, and measured time."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np

from tljax import tree
from tljax.config.phases import PhasePlan
from tljax.records import console
from tljax.training import jobs
from tljax.training.batches import Feed
from tljax.training.compiled_step import TrainProgram
from tljax.training.jobs import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a step on one device; NaN if the compiler does not report a value.

    Attributes:
        flops: floating-point operations.
        temporary_bytes: memory besides arguments and results, mostly activations.
        variable_bytes: size of the parameters and statistics.
        optimizer_bytes: size of the optimizer state.
        trained_parameters: the number of trained parameters.
    """

    flops: float
    temporary_bytes: float
    variable_bytes: int
    optimizer_bytes: int
    trained_parameters: int

    def lines(self) -> dict[str, str]:
        """The lines that a dry run prints."""
        return {
            'floating-point operations a step': f'{self.flops:,.0f}',
            'a step’s temporary memory': console.bytes_text(self.temporary_bytes),
            'parameters and statistics': console.bytes_text(self.variable_bytes),
            'optimizer state': console.bytes_text(self.optimizer_bytes),
        }


def of(job: Job, phase: PhasePlan, program: TrainProgram) -> Cost:
    """The cost of a phase's compiled step."""
    cost = program.compiled.cost_analysis() or {}
    memory = program.compiled.memory_analysis()
    shapes = jobs.checkpoint_shapes(job, phase)['state']
    return Cost(
        flops=cost.get('flops', float('nan')),
        temporary_bytes=memory.temp_size_in_bytes if memory else float('nan'),
        variable_bytes=tree.size_bytes((shapes.params, shapes.stats)),
        optimizer_bytes=tree.size_bytes(shapes.opt),
        trained_parameters=console.counts(job.params, phase.labels)[0],
    )


def step_seconds(steps: Sequence[tuple[Job, PhasePlan, TrainProgram]], repeats: int) -> np.ndarray:
    """Times several steps in turns, so that other load on the machine affects all of them.

    Args:
        steps: jobs with the same batches, each with a phase and its compiled step.
        repeats: rounds after the first, which warms up and is not counted.

    Returns:
        Seconds [len(steps), repeats], without the transfer of the batch to the device.
    """
    keys = [jobs.train_key(job) for job, *_ in steps]
    states = [jobs.first_state(job, phase) for job, phase, _ in steps]
    seconds = np.zeros((len(steps), repeats + 1))
    feed = Feed(*steps[0][:2], steps=repeats + 1)
    for turn in range(repeats + 1):
        batch = jax.block_until_ready(feed.take(turn))
        for index, (job, _, program) in enumerate(steps):
            arguments = keys[index], states[index], batch, *job.penalty_arrays
            start = time.perf_counter()
            states[index], _ = jax.block_until_ready(program(*arguments))
            seconds[index, turn] = time.perf_counter() - start
    return seconds[:, 1:]
