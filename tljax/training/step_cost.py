"""What a training step costs: by the compiler's account, and by the clock."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tljax import tree
from tljax.config.phases import PhasePlan
from tljax.records import console
from tljax.training import jobs
from tljax.training.batches import Feed
from tljax.training.jobs import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A step's, on one device; NaN where the compiler does not say.

    Attributes:
        flops: floating-point operations.
        temporary_bytes: what it holds besides its arguments and results: activations, mostly.
        variable_bytes: parameters and statistics.
        optimizer_bytes: the optimizer's state.
        trained_parameters: how many.
    """

    flops: float
    temporary_bytes: float
    variable_bytes: int
    optimizer_bytes: int
    trained_parameters: int

    def lines(self) -> dict[str, str]:
        """What a dry run prints."""
        return {
            'floating-point operations a step': f'{self.flops:,.0f}',
            'a step’s temporary memory': console.bytes_text(self.temporary_bytes),
            'parameters and statistics': console.bytes_text(self.variable_bytes),
            'optimizer state': console.bytes_text(self.optimizer_bytes),
        }


def of(job: Job, phase: PhasePlan, compiled: jax.stages.Compiled) -> Cost:
    """The cost of a phase's compiled step."""
    cost = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    shapes = jobs.checkpoint_shapes(job, phase)['state']
    return Cost(
        flops=cost.get('flops', float('nan')),
        temporary_bytes=memory.temp_size_in_bytes if memory else float('nan'),
        variable_bytes=tree.size_bytes((shapes.params, shapes.stats)),
        optimizer_bytes=tree.size_bytes(shapes.opt),
        trained_parameters=console.counts(job.params, phase.labels)[0],
    )


def step_seconds(
    steps: Sequence[tuple[Job, PhasePlan, jax.stages.Compiled]], repeats: int
) -> np.ndarray:
    """How long steps take, in turns, so that what else the machine does hits all alike.

    Args:
        steps: jobs with the same batches, a phase and its compiled step each.
        repeats: rounds after the first, which warms up and is not counted.

    Returns:
        [len(steps), repeats] seconds; a batch is on the device before its step begins.
    """
    running: list[list[Any]] = []
    for job, phase, compiled in steps:
        running.append([compiled, jobs.train_key(job), jobs.first_state(job, phase), job.given])
    taken = np.zeros((len(steps), repeats + 1))
    feed = Feed(*steps[0][:2], steps=repeats + 1)
    for turn in range(repeats + 1):
        batch = jax.block_until_ready(feed.take(turn))
        for index, held in enumerate(running):
            compiled, key, state, given = held
            begun = time.perf_counter()
            held[2], _ = jax.block_until_ready(compiled(key, state, batch, *given))
            taken[index, turn] = time.perf_counter() - begun
    return taken[:, 1:]
