"""Re-estimates BatchNorm statistics on a set of images.

Averaged networks need this, because the mean of their statistics is not the mean's statistics.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tljax import devices, tree
from tljax.models import layers, stages
from tljax.models.averaging import NetworkValues
from tljax.models.stages import Model
from tljax.types import Batch, InputError, Params, Stats


def reestimated(
    model: Model,
    values: NetworkValues,
    batches: Callable[[], Iterable[Batch]],
    *,
    names: Sequence[str] | None = None,
    tolerance: float = 1e-3,
) -> NetworkValues:
    """The network with BatchNorm statistics re-estimated on the given images.

    Every layer gets the mean and variance of its input in evaluation, over all images and
    positions, as if all images were one batch: exact values, not running means. A layer's input
    depends on the statistics below it, so passes over the images repeat until no statistic
    changes, at most one pass per layer and often that many. The first pass normalises each batch
    by its own moments, because the old statistics can give the upper layers arbitrary inputs. The
    variance is unbiased, as in torch.

    Args:
        model: the stages.
        values: the network.
        batches: yields the images again at each call; masked rows do not count.
        names: of the stages to re-estimate; None for all.
        tolerance: stops at this largest change, of means in standard deviations and of variances
            relative to them; 0 for exact statistics.

    Raises:
        InputError: there are no images, or statistics belong to no `layers.BatchNorm`.

    Source: the idea, with running means or means over batches: Izmailov et al. 2018, "Averaging
    weights leads to wider optima"; Wu & Johnson 2021, "Rethinking batch in BatchNorm".
    """
    chosen = [name for name in (names or model.names) if name in values.stats]
    if not chosen:
        return values
    mesh = devices.make_mesh()
    first, next_ = (_compiled_moments(model, chosen, mesh, by_batch=b) for b in (True, False))
    params = devices.put_replicated(mesh, values.params)  # once instead of for every batch
    before = tree.flatten(values.stats)
    count = sum(path.split('/')[0] in chosen for path in before) // 2  # layers
    for index in range(count + 2):
        stats, moments = tree.unflatten(before), next_ if index else first
        after = _statistics(moments(params, stats, batch) for batch in batches())
        _check_paths(after, before, chosen)
        change = _largest_change(after, before)
        before = {**before, **after}
        if index and change <= tolerance:
            break
    return NetworkValues(values.params, stages.ordered(model, tree.unflatten(before)))


Moments = dict[str, tuple[jax.Array, jax.Array, jax.Array]]  # count [], mean [C], squares [C]


def _compiled_moments(
    model: Model, names: Sequence[str], mesh: Mesh, *, by_batch: bool
) -> Callable[[Params, Stats, Batch], Moments]:
    replicated, rows = devices.replicated(mesh), devices.split(mesh)

    def function(params: Params, stats: Stats, batch: Batch) -> Moments:
        return batch_moments(model, params, stats, batch, names, by_batch=by_batch)

    compiled = jax.jit(
        function, in_shardings=(replicated, replicated, rows), out_shardings=replicated
    )
    return lambda params, stats, batch: compiled(params, stats, devices.put_batch(mesh, batch))


def batch_moments(
    model: Model,
    params: Params,
    stats: Stats,
    batch: Batch,
    names: Sequence[str],
    *,
    by_batch: bool = False,
) -> Moments:
    """Moments of the inputs of the BatchNorm layers of some stages, in evaluation.

    Args:
        model: the stages.
        params: of all of them.
        stats: the statistics that the layers normalise by.
        batch: of images; masked rows do not count.
        names: the stages of the layers.
        by_batch: whether the layers normalise by the batch's own moments instead.

    Returns:
        By the path of a layer: the number of values per channel, their mean, and the sum of squared
        deviations from it.
    """
    moments: Moments = {}
    copies: set[str] = set()
    mask = jnp.asarray(batch['mask'])

    def run(stage: str, following: str | None, x: jax.Array) -> jax.Array:
        def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            layer = context.module
            norm = isinstance(layer, layers.BatchNorm) and context.method_name == '__call__'
            path = '/'.join((stage, *layer.path))
            if not norm or stage not in names or path in copies:
                return call(*args, **kwargs)
            count, mean, squares = _moments(args[0], mask)
            moments[path] = count, mean, squares
            if not by_batch:
                return call(*args, **kwargs)
            batch_stats = {'mean': mean, 'var': squares / jnp.maximum(count - 1, 1)}
            variables = {**layer.variables, 'batch_stats': batch_stats}
            copy = layer.clone(parent=None)
            copies.add(stage)  # the path of a layer without a parent
            try:
                return copy.apply(variables, *args, **kwargs)
            finally:
                copies.remove(stage)

        with nn.intercept_methods(note):
            return stages.run(model, params, stats, x, start=stage, stop=following)[0]

    x = stages.normalise(model.preprocessing, jnp.asarray(batch['image']))
    for stage, following in zip(model.names, [*model.names[1:], None], strict=True):
        x = run(stage, following, x)
    return moments


def _moments(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B, ..., C] to the count [], the mean [C] and the sum of squared deviations [C]."""
    x = x.astype(jnp.float32)
    kept = mask.reshape(-1, *(1,) * (x.ndim - 1))
    count = mask.sum() * (x[0, ..., 0].size)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.where(kept, x, 0).sum(axes, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.where(kept, jnp.square(x - mean), 0).sum(axes)
    return count, mean.reshape(-1), squares


def _statistics(moments: Iterable[Moments]) -> dict[str, np.ndarray]:
    """Means and unbiased variances by path, from the moments of all batches.

    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".
    """
    total: dict[str, tuple[Any, Any, Any]] = {}
    seen = False
    for batch in moments:
        seen = True
        for path, more in jax.device_get(batch).items():
            n, mean, squares = (np.asarray(value, np.float64) for value in more)
            m, before, sum_before = total.get(path, (np.float64(0), np.zeros_like(mean), 0.0))
            share = n / max(m + n, 1)
            joined = sum_before + squares + np.square(mean - before) * m * share
            total[path] = (m + n, before + (mean - before) * share, joined)
    if not (seen and all(n > 0 for n, _, _ in total.values())):
        raise InputError('there are no images to estimate BatchNorm statistics from')
    statistics = {}
    for path, (n, mean, squares) in total.items():
        statistics[f'{path}/mean'] = mean.astype(np.float32)
        statistics[f'{path}/var'] = (squares / max(n - 1, 1)).astype(np.float32)
    return statistics


def _check_paths(
    statistics: Mapping[str, Any], wanted: Mapping[str, Any], stages: Sequence[str]
) -> None:
    expected = {path: leaf for path, leaf in wanted.items() if path.split('/')[0] in stages}
    if lines := tree.difference(statistics, expected):
        raise InputError(
            'some running statistics belong to no `layers.BatchNorm` (- missing, + extra):\n  '
            + '\n  '.join(lines)
        )


def _largest_change(after: Mapping[str, np.ndarray], before: Mapping[str, Any]) -> float:
    """The largest change: of means in standard deviations, of variances relative to them."""
    changes = []
    for path, value in after.items():
        variance = after[path.rpartition('/')[0] + '/var']
        scale = np.sqrt(variance) if path.endswith('/mean') else variance
        changes.append(np.abs(value - before[path]) / np.maximum(scale, 1e-12))
    return max(float(change.max()) for change in changes)
