"""Every family of networks against the figures of the libraries that its weights come from.

The first case of a family runs by default, the others are `slow`.
"""

import dataclasses
import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_small
from tests.golden_networks import figures
from tljax import tree
from tljax.config import json_form
from tljax.models import layers, port, preprocessing, stages
from tljax.models.stages import HEAD, Model
from tljax.weights import adapt, loading
from tljax.weights.pretrained import Pretrained

CASES = [
    pytest.param(family, case, marks=() if index == 0 else pytest.mark.slow, id=f'{family}-{case}')
    for family in figures.families()
    for index, case in enumerate(figures.cases(family))
]
TRAINED = ('clip', 'convnext', 'vit')  # without the mark; the tests of others train more slowly
TRAINING_CASES = [
    case if case.values[0] in TRAINED else pytest.param(*case.values, marks=pytest.mark.slow)
    for case in CASES
]
OF_ALL = [(family, case) for family in figures.families() for case in figures.cases(family)]
# Nothing here runs twice.
OPTIONS = {'xla_backend_optimization_level': 0}


@functools.cache
def loaded(family: str, case: str) -> tuple[dict[str, Any], Pretrained]:
    """The figures of a case, and what is loaded from its entries."""
    wanted = figures.cases(family)[case]
    opened = loading.open_(figures.entries(wanted['manifest']))
    options = {**opened.options, **wanted['options']}
    return wanted, loading.load(dataclasses.replace(opened, options=options))


def model_of(pretrained: Pretrained, size: int, drop_path: float = 0.0) -> Model:
    """The network for images of a size."""
    backbone: Any = pretrained.architecture.backbone
    if drop_path:
        backbone = dataclasses.replace(backbone, drop_path=drop_path)
    images = preprocessing.with_size(pretrained.preprocessing, size)
    return stages.build(backbone, pretrained.num_classes or 1, preprocessing=images)


def outputs(
    pretrained: Pretrained, model: Model, params: Any, stats: Any, x: Any, **how: Any
) -> Any:
    """Logits, or the pooled features of a network without a head, and the statistics."""
    stop = None if HEAD in pretrained.params else HEAD
    x, stats = stages.run(model, params, stats, x, stop=stop, **how)
    return (x if stop is None else layers.pool(x)), stats


def written(leaves: Any, wanted: dict[str, Any], table: Any) -> dict[str, np.ndarray]:
    """Leaves under the names in the file, without entries that are dropped when they are read."""
    foreign = port.to_foreign(leaves, table)
    dropped = port.match(list(foreign), table).dropped
    return {_in_file(n, wanted): array for n, array in foreign.items() if n not in dropped}


def _in_file(name: str, wanted: dict[str, Any]) -> str:
    """Transformers' networks without a head omit the first part of the name."""
    full = wanted.get('prefix', '') + name
    return full if full in wanted['manifest'] else name.partition('.')[2]


@pytest.mark.parametrize(('family', 'case'), OF_ALL)
def test_the_network_of_a_file_is_recognised(family, case):
    wanted, pretrained = loaded(family, case)
    assert pretrained.origin.naming == wanted['naming']
    fields = {name: value for name, value in wanted['backbone'].items() if name != 'drop_path'}
    assert pretrained.architecture.backbone == json_form.decode(fields)


@pytest.mark.parametrize(('family', 'case'), OF_ALL)
def test_a_network_is_written_under_the_names_and_with_the_bits_of_its_library(family, case):
    wanted, pretrained = loaded(family, case)
    table = pretrained.architecture.backbone.port_tables()[wanted['naming']]
    leaves = tree.flatten({'params': pretrained.params, 'batch_stats': pretrained.stats})
    entries = figures.entries(wanted['manifest'])
    for name, array in port.to_foreign(leaves, table).items():
        assert array.shape == entries[_in_file(name, wanted)].shape, name
    for name, array in written(leaves, wanted, table).items():
        np.testing.assert_array_equal(array, entries[name], err_msg=name)


@pytest.mark.parametrize(('family', 'case'), CASES)
def test_the_outputs_equal_the_librarys_at_every_size(family, case):
    wanted, pretrained = loaded(family, case)
    for size, expected in wanted['outputs'].items():
        model = model_of(pretrained, int(size))
        adapted = adapt.adapt(pretrained, model, keep_head=HEAD in pretrained.params)
        run = functools.partial(outputs, pretrained, model)
        compiled = jax.jit(lambda *inputs, run=run: run(*inputs)[0], compiler_options=OPTIONS)
        ours = compiled(adapted.params, adapted.stats, golden_small.images(2, int(size)))
        atol = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=atol, err_msg=f'{size} px')


@pytest.mark.parametrize(('family', 'case'), TRAINING_CASES)
def test_loss_gradients_and_running_statistics_in_training_equal_the_librarys(
    family, case, monkeypatch
):
    wanted, pretrained = loaded(family, case)
    drop_path = wanted['backbone'].get('drop_path', 0.0)
    model = model_of(pretrained, wanted['size'], drop_path)
    monkeypatch.setattr(nn.Dropout, '__call__', _keeping(itertools.count(), drop_path))

    def loss(params, stats, x):
        how = {'trainable': model.names, 'dropout_key': jax.random.key(0)}
        result, stats = outputs(pretrained, model, params, stats, x, **how)
        return (result * figures.weights_of_loss(result.shape)).sum(), stats

    with jax.enable_x64(True):
        inputs = (pretrained.params, pretrained.stats, golden_small.images(4, wanted['size']))
        inputs = jax.tree.map(lambda x: jnp.asarray(x, 'float64'), inputs)
        step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=OPTIONS)
        (value, stats), gradients = jax.device_get(step(*inputs))
    np.testing.assert_allclose(value, wanted['loss'], rtol=1e-6, atol=1e-9)
    rules = pretrained.architecture.backbone.port_tables()[wanted['naming']]
    for kind, leaves in (('gradient', {'params': gradients}), ('running', {'batch_stats': stats})):
        _assert_norms(written(tree.flatten(leaves), wanted, rules), wanted, kind)


def _keeping(calls: Any, drop_path: float) -> Any:
    """Dropout of whole branches by `figures.keeps`; other dropout is off in the figures."""

    def call(self: nn.Dropout, x: jax.Array, deterministic: bool | None = None, **_: Any) -> Any:
        if not self.broadcast_dims or not self.rate:
            return x
        assert self.rate <= drop_path
        keep = jnp.asarray(figures.keeps(next(calls)), x.dtype)
        return x * keep.reshape(-1, *(1,) * (x.ndim - 1)) / (1 - self.rate)

    return call


def _assert_norms(arrays: dict[str, np.ndarray], wanted: dict[str, Any], kind: str) -> None:
    """Every norm within 1e-5, and 1e-6 of the largest for those that are zero but for rounding."""
    norms = wanted[f'{kind}_norms']
    ours = {n: float(np.linalg.norm(x)) for n, x in arrays.items()}
    assert ours.keys() == norms.keys()
    for name, norm in norms.items():
        near = pytest.approx(norm, rel=1e-5, abs=1e-6 * max(norms.values()))
        assert ours[name] == near, name
