"""Steps of an experiment outside of a run: its first state, and its batches."""

import itertools
from collections.abc import Iterator

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.training import jobs, solved_head
from tljax.training.batches import train_batches
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Batch


def first_state(job: Job) -> tuple[TrainState, PhasePlan]:
    """The state that the first phase with steps starts from, and that phase.

    What a solver does in the phases before it is done.
    """
    phase = job.phases[0]
    state = jobs.first_state(job)
    for before, following in itertools.pairwise(job.phases):
        if before.length:
            break
        state, _ = solved_head.solve(job, state, before)
        state, phase = jobs.next_state(job, state, following), following
    return state, phase


def batches(job: Job, steps: int) -> Iterator[Batch]:
    """The first batches of training, on the job's devices."""
    for batch in train_batches(job, steps):
        yield devices.put_batch(job.mesh, batch)
