"""Steps of an experiment outside of a run: its first state, and its batches."""

import itertools
from collections.abc import Iterator

from tljax import job as jobs
from tljax import sharding
from tljax import state as states
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.state import TrainState
from tljax.types import Batch


def first_state(job: Job) -> tuple[TrainState, PhasePlan]:
    """The state that the first phase with steps starts from, and that phase.

    What a solver does in the phases before it is done.
    """
    phase = job.phases[0]
    state = states.create(job.params, job.stats, phase.optimizer, phase.labels, phase.averaged)
    state = sharding.put_replicated(job.mesh, state)
    for before, following in itertools.pairwise(job.phases):
        if before.length:
            break
        state, _ = jobs.solve(job, state, before)
        fresh = states.next_phase(
            state, following.optimizer, following.labels, before.labels, following.averaged
        )
        state, phase = sharding.put_replicated(job.mesh, fresh), following
    return state, phase


def batches(job: Job, steps: int) -> Iterator[Batch]:
    """The first batches of training, on the job's devices."""
    for batch in jobs.train_batches(job, steps):
        yield sharding.put_batch(job.mesh, batch)
