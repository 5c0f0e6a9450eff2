"""The compiled step of a phase."""

import dataclasses

import jax
import numpy as np

from tests.small_runs import experiment
from tljax.models import shared_programs
from tljax.training import compiled_step, jobs
from tljax.training.batches import Feed


def test_runs_with_different_learning_rates_share_a_program_and_keep_their_rates():
    base = experiment()
    programs, moves = [], []
    with shared_programs.sharing():
        for rate in (0.1, 0.2):
            optimizer = dataclasses.replace(base.optimizer, learning_rate=rate)
            job = jobs.setup(dataclasses.replace(base, optimizer=optimizer))
            phase = job.phases[0]
            programs.append(compiled_step.compile_train_step(job, phase))
            before = jax.device_get(jobs.first_state(job, phase).params)
            batch = Feed(job, phase, steps=1).take(0)
            state, _ = programs[-1](jobs.train_key(job), jobs.first_state(job, phase), batch)
            difference = jax.tree.map(np.subtract, jax.device_get(state.params), before)
            moves.append(np.concatenate([x.ravel() for x in jax.tree.leaves(difference)]))
    assert programs[0].compiled is programs[1].compiled
    assert np.abs(moves[0]).max() > 0
    np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-3, atol=1e-6)
