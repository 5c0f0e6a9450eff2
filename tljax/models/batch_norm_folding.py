"""Folds BatchNorm with running statistics into the preceding layers of frozen stages."""

import collections
import functools
import itertools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from tljax import tree
from tljax.models import convolutions, stages
from tljax.models.layers import BatchNorm
from tljax.models.stages import Model
from tljax.types import Params, Stats

Leaves = tuple[dict[str, Any], dict[str, Any]]  # a stage's parameters and statistics, by path


class _Norm(NamedTuple):
    """A BatchNorm and the layer in front of it."""

    path: str
    epsilon: float
    layer: str = ''


def folded(
    model: Model, params: Params, stats: Stats, chosen: Collection[str]
) -> tuple[Params, Stats]:
    """Parameters and statistics of a network with equal outputs in evaluation and less computation.

    A BatchNorm behind a convolution or a linear layer scales that layer's kernel and keeps only a
    bias. It is left unchanged behind any other layer, and if something else reads the layer's
    output too. The order of layers is read from the traced program, so it does not depend on the
    backbone's names.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        chosen: the stages to fold; in the others only adapters are merged.

    Returns:
        `params` and `stats` of all stages.
    """
    params, stats = dict(stages.plain(model.adapters, params)), dict(stats)
    for stage, norms in _pairs(model, params, stats, chosen).items():
        leaves, moments = tree.flatten(params[stage]), tree.flatten(stats[stage])
        for norm in norms:
            _fold(norm, leaves, moments)
        params[stage], stats[stage] = tree.unflatten(leaves), tree.unflatten(moments)
    return params, stats


def _fold(norm: _Norm, leaves: dict[str, Any], moments: dict[str, Any]) -> None:
    path, layer = norm.path, norm.layer
    mean, var = moments.pop(f'{path}/mean'), moments.pop(f'{path}/var')
    gain = leaves.pop(f'{path}/scale') * jax.lax.rsqrt(var + norm.epsilon)
    kernel = leaves[f'{layer}/kernel']
    leaves[f'{layer}/kernel'] = kernel * gain.reshape((1,) * (kernel.ndim - 1) + (-1,))
    if f'{layer}/bias' in leaves:
        leaves[f'{layer}/bias'] = leaves[f'{layer}/bias'] * gain
    leaves[f'{path}/bias'] = leaves[f'{path}/bias'] - mean * gain


def _pairs(
    model: Model, params: Params, stats: Stats, chosen: Collection[str]
) -> dict[str, list[_Norm]]:
    """For each stage, the BatchNorms that can be folded, each with the layer in front of it."""
    pairs: dict[str, list[_Norm]] = {}
    x: Any = model.preprocessing.first_input(1)
    last = max(map(model.names.index, chosen), default=-1)  # later stages need not be traced
    following_names = [*model.names[1:], None]
    for stage, following in list(zip(model.names, following_names, strict=True))[: last + 1]:

        def run(leaves: Leaves, x: jax.Array, start=stage, stop=following) -> jax.Array:
            p, s = ({start: tree.unflatten(flat)} for flat in leaves)
            return stages.run(model, p, s, x, start=start, stop=stop)[0]

        leaves = tree.flatten(params[stage]), tree.flatten(stats.get(stage, {}))
        marked: dict[str, Any] = {}
        with nn.intercept_methods(functools.partial(_marking, marked)):
            traced, x = jax.make_jaxpr(run, return_shape=True)(leaves, x)
        if stage in chosen:
            pairs[stage] = _foldable(traced.jaxpr, leaves, marked)
    return {name: norms for name, norms in pairs.items() if norms}


def _marking(marked: dict[str, Any], call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """For `nn.intercept_methods`: names the outputs of layers and the inputs of BatchNorms.

    Args:
        marked: filled here: `{name: the path of a layer, or a BatchNorm}`.
        call: the method.
        args: of the call.
        kwargs: of the call.
        context: holds the module and the method's name.
    """

    def mark(value: jax.Array, meaning: Any) -> jax.Array:
        name = f'tljax.fold {len(marked)}'
        marked[name] = meaning
        return checkpoint_name(value, name)

    module = context.module
    if context.method_name != '__call__':
        return call(*args, **kwargs)
    # A subclass of BatchNorm can compute anything else.
    if type(module) is BatchNorm and args and kwargs.get('use_running_average') is True:
        norm = _Norm('/'.join(module.path), module.epsilon)
        return call(mark(args[0], norm), *args[1:], **kwargs)
    result = call(*args, **kwargs)
    return mark(result, '/'.join(module.path)) if _scales_with_kernel(module) else result


def _scales_with_kernel(module: nn.Module) -> bool:
    """Whether it is a plain convolution or linear layer, which uses its kernel as it is."""
    if type(module) is nn.Conv:
        plain = (None, jax.lax.conv_general_dilated, convolutions.convolve)
        return module.conv_general_dilated in plain and module.conv_general_dilated_cls is None
    if type(module) is nn.Dense:
        plain = module.dot_general in (None, jax.lax.dot_general)
        return plain and module.dot_general_cls is None
    return False


def _foldable(jaxpr: Any, leaves: Leaves, marked: Mapping[str, Any]) -> list[_Norm]:
    """The BatchNorms that are the only reader of a layer's output, each with that layer.

    Every parameter of both must have one reader too. A layer that is called twice, or whose kernel
    is read elsewhere, has more and is left out.
    """
    equations = [e for e in jaxpr.eqns if e.primitive.name == 'name']
    marks = [(e, marked[e.params['name']]) for e in equations if e.params['name'] in marked]
    every = [*itertools.chain.from_iterable(e.invars for e in jaxpr.eqns), *jaxpr.outvars]
    readers = collections.Counter(map(id, every))
    paths = [path for flat in leaves for path in sorted(flat)]  # in JAX's order
    read_once = {
        path
        for path, variable in zip(paths, jaxpr.invars, strict=False)
        if readers[id(variable)] == 1
    }
    outputs = {id(e.outvars[0]): mark for e, mark in marks if isinstance(mark, str)}
    foldable = []
    for equation, norm in marks:
        source = id(equation.invars[0])
        if isinstance(norm, str) or source not in outputs or readers[source] > 1:
            continue
        layer = outputs[source]
        both = {path for path in paths if path.rpartition('/')[0] in (layer, norm.path)}
        fits = {f'{layer}/kernel', f'{norm.path}/scale'} <= both <= read_once
        if fits and leaves[0][f'{norm.path}/scale'].ndim == 1:
            foldable.append(norm._replace(layer=layer))
    return foldable
