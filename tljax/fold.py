"""BatchNorm by running statistics folded into the layers before it, for stages that are frozen."""

from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import model as models
from tljax import tree
from tljax.layers import BatchNorm
from tljax.model import Model
from tljax.types import Params, Stats

Path = tuple[str, ...]


def folded(
    model: Model, params: Params, stats: Stats, stages: Collection[str]
) -> tuple[Params, Stats]:
    """Parameters and statistics of an equal network, in evaluation, with less to compute.

    A BatchNorm that follows a convolution or a linear layer scales its kernel and keeps a bias
    alone; one that follows anything else stays as it is.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        stages: the stages to fold; of the others, adapters alone are merged.

    Returns:
        `params` and `stats` of all stages.
    """
    params, stats = dict(models.plain(model.adapters, params)), dict(stats)
    for stage, pairs in _pairs(model, params, stats, stages).items():
        leaves, moments = tree.flatten(params[stage]), tree.flatten(stats[stage])
        for layer, norm, epsilon in pairs:
            _fold('/'.join(layer), '/'.join(norm), epsilon, leaves, moments)
        params[stage], stats[stage] = tree.unflatten(leaves), tree.unflatten(moments)
    return params, stats


def _fold(
    layer: str, norm: str, epsilon: float, leaves: dict[str, Any], moments: dict[str, Any]
) -> None:
    mean, var = moments.pop(f'{norm}/mean'), moments.pop(f'{norm}/var')
    gain = leaves.pop(f'{norm}/scale') * jax.lax.rsqrt(var + epsilon)
    kernel = leaves[f'{layer}/kernel']
    leaves[f'{layer}/kernel'] = kernel * gain.reshape((1,) * (kernel.ndim - 1) + (-1,))
    if f'{layer}/bias' in leaves:
        leaves[f'{layer}/bias'] = leaves[f'{layer}/bias'] * gain
    leaves[f'{norm}/bias'] = leaves[f'{norm}/bias'] - mean * gain


def _pairs(
    model: Model, params: Params, stats: Stats, stages: Collection[str]
) -> dict[str, list[tuple[Path, Path, float]]]:
    """Per stage, each layer that feeds a BatchNorm, the BatchNorm, and its epsilon.

    Found by tracing: the BatchNorm's input is the very value that the layer returned, so that
    nothing depends on what a backbone calls its layers.
    """
    found: dict[str, list[tuple[Path, Path, float]]] = {name: [] for name in stages}
    made: list[tuple[jax.Array, Path]] = []
    stage = ''

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == '__call__':
            source = next((path for value, path in made if value is args[0]), None)
            if source is not None:
                found[stage].append((source, module.path, module.epsilon))
        result = call(*args, **kwargs)
        if isinstance(module, nn.Conv | nn.Dense) and context.method_name == '__call__':
            made.append((result, module.path))
        return result

    size, channels = model.preprocessing.size_px, len(model.preprocessing.mean)
    x: Any = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    last = max(map(model.names.index, stages), default=-1)  # of the others nothing need be known
    following_names = [*model.names[1:], None]
    for stage, following in list(zip(model.names, following_names, strict=True))[: last + 1]:

        def run(p: Params, s: Stats, x: jax.Array, start=stage, stop=following) -> jax.Array:
            return models.run(model, p, s, x, start=start, stop=stop)[0]

        if stage not in stages:
            x = jax.eval_shape(run, params, stats, x)
            continue
        made.clear()
        with nn.intercept_methods(watch):
            x = jax.eval_shape(run, params, stats, x)
    return {name: pairs for name, pairs in found.items() if pairs}
