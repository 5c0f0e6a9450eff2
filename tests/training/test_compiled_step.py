"""The compiled step of a phase, and what keeps its fusions small."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.small_runs import experiment
from tljax.models import layers, shared_programs, stages
from tljax.models.backbones.vit import ViT
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


def largest_fusion(depth):
    """The number of instructions in the largest fusion of a gradient of a small ViT."""
    backbone = ViT(width=16, depth=depth, head_width=8, patch_px=8, size_px=16)
    model = stages.build(backbone, 3)
    params, stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), stages.shapes(model))

    def loss(params):
        return stages.run(model, params, stats, jnp.ones((2, 16, 16, 3)))[0].sum()

    program = jax.jit(jax.grad(loss), compiler_options=layers.KEEP_BARRIERS)
    text = program.lower(params).compile().as_text()
    return max(len(body.splitlines()) for body in re.findall(r'^%fused.*?^}', text, re.M | re.S))


def test_a_block_does_not_compute_the_sums_of_other_blocks_again():
    assert largest_fusion(2) == largest_fusion(4)


def barriers(function, platform='cpu'):
    """The number of barriers in a program, compiled as a step is."""
    lowered = jax.jit(function).lower(jnp.ones(3))
    return compiled_step._with_barriers(lowered, platform).as_text().count(' opt-barrier(')


def test_a_step_keeps_its_barriers_on_cpu_alone():
    def plain(x):
        return jax.lax.optimization_barrier(jnp.sin(x)) * 2

    assert barriers(plain) == 1
    assert barriers(plain, 'gpu') == 0


def test_a_step_with_a_barrier_in_a_loop_is_compiled_without_barriers():
    def loop(x):
        step = jax.lax.optimization_barrier
        return jax.lax.scan(lambda carry, _: (step(jnp.sin(carry)), None), x, None, length=3)[0]

    with pytest.raises(jax.errors.JaxRuntimeError, match='opt-barrier'):
        jax.jit(loop, compiler_options=layers.KEEP_BARRIERS)(jnp.ones(3))
    assert barriers(loop) == 0


def test_the_step_of_a_run_is_compiled_with_barriers(monkeypatch):
    platforms = []
    monkeypatch.setattr(
        compiled_step, '_with_barriers', lambda lowered, platform: platforms.append(platform)
    )
    monkeypatch.setattr(compiled_step.host_memory, 'problem', lambda compiled: None)
    job = jobs.setup(experiment())
    compiled_step.compile_train_step(job, job.phases[0])
    assert platforms == ['cpu']
