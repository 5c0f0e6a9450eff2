"""Steps of an experiment outside of a run: its first state, and its batches."""

import itertools
from collections.abc import Iterator

import jax

from tljax import job as jobs
from tljax import sharding
from tljax import state as states
from tljax.data import pipeline
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.state import TrainState
from tljax.types import Balance, Batch


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
    stream = pipeline.train_batches(
        job.splits['train'],
        job.model.preprocessing,
        batch_size=job.experiment.batch_size,
        steps=steps,
        seed=job.experiment.seed,
        process=(jax.process_index(), jax.process_count()),
        threads=job.experiment.data_threads,
        balanced=job.experiment.balance is Balance.SAMPLE,
    )
    for batch in stream:
        yield sharding.put_batch(job.mesh, batch)
