"""XLA's flags, and what they do to compiled programs."""

import importlib.util
import os
import re

import jax
import jax.numpy as jnp
import pytest

from tljax import environment
from tljax.models import stages
from tljax.models.backbones.vit import ViT


@pytest.mark.parametrize(
    ('platforms', 'plugins', 'expected'),
    [
        ('', (), True),
        ('', ('jax_plugins',), False),
        ('', ('libtpu',), False),
        ('cpu', ('jax_plugins',), True),
        ('cuda,cpu', (), False),
    ],
)
def test_barriers_are_kept_only_where_jax_has_no_other_platform(
    platforms, plugins, expected, monkeypatch
):
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
    monkeypatch.setenv('XLA_FLAGS', '')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name in plugins or None)
    environment.prepare()
    assert (environment.CPU_BARRIERS in os.environ['XLA_FLAGS']) is expected
    assert environment.CPU_CONVOLUTIONS in os.environ['XLA_FLAGS']


def test_a_flag_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    flags = '--xla_disable_hlo_passes=dce --xla_cpu_experimental_ynn_fusion_type=dot'
    monkeypatch.setenv('XLA_FLAGS', flags)
    environment.prepare()
    assert os.environ['XLA_FLAGS'] == flags


def largest_fusion(depth):
    """The number of instructions in the largest fusion of a gradient of a small ViT."""
    backbone = ViT(width=16, depth=depth, head_width=8, patch_px=8, size_px=16)
    model = stages.build(backbone, 3)
    params, stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), stages.shapes(model))

    def loss(params):
        return stages.run(model, params, stats, jnp.ones((2, 16, 16, 3)))[0].sum()

    text = jax.jit(jax.grad(loss)).lower(params).compile().as_text()
    return max(len(body.splitlines()) for body in re.findall(r'^%fused.*?^}', text, re.M | re.S))


def test_a_block_does_not_compute_the_sums_of_other_blocks_again():
    assert largest_fusion(2) == largest_fusion(4)
