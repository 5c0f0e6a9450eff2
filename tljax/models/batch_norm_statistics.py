"""BatchNorm statistics taken anew: what a network's layers are given on a set of images.

The statistics of a mean of networks are not the mean of their statistics.
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
from tljax.models.averaging import Values
from tljax.models.stages import Model
from tljax.types import Batch, InputError, Params, Stats


def reestimated(
    model: Model,
    values: Values,
    batches: Callable[[], Iterable[Batch]],
    *,
    names: Sequence[str] | None = None,
    tolerance: float = 1e-3,
) -> Values:
    """The network with BatchNorm statistics that are its own on the given images.

    Every layer gets the mean and the variance, over all images and places, of what it is given in
    evaluation, when the layers below have theirs: as if all images were one batch, however they are
    batched. They are no running means. As layers follow one another, passes over the images are
    repeated until no statistic moves; after as many as there are layers none can, and it often
    takes them. In the first each batch is normalised by its own moments: by statistics of another
    network the layers above could be given anything. The variance is unbiased, as torch keeps it.

    Args:
        model: the stages.
        values: the network.
        batches: gives the images anew at each call; rows that are masked count nowhere.
        names: of the stages whose statistics are taken; None for all.
        tolerance: the largest change, in standard deviations and in shares of the variance, at
            which it ends; 0 for exactness.

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
    params = devices.put_replicated(mesh, values.params)  # once, not for every batch
    before = tree.flatten(values.stats)
    count = sum(path.split('/')[0] in chosen for path in before) // 2  # of layers
    for index in range(count + 2):
        stats, moments = tree.unflatten(before), next_ if index else first
        found = _statistics(moments(params, stats, batch) for batch in batches())
        _check_found(found, before, chosen)
        change = _largest_change(found, before)
        before = {**before, **found}
        if index and change <= tolerance:
            break
    return Values(values.params, stages.ordered(model, tree.unflatten(before)))


Moments = dict[str, tuple[jax.Array, jax.Array, jax.Array]]  # count [], mean [C], squares [C]


def _compiled_moments(
    model: Model, names: Sequence[str], mesh: Mesh, *, by_batch: bool
) -> Callable[[Params, Stats, Batch], Moments]:
    whole, rows = devices.replicated(mesh), devices.split(mesh)

    def function(params: Params, stats: Stats, batch: Batch) -> Moments:
        return batch_moments(model, params, stats, batch, names, by_batch=by_batch)

    compiled = jax.jit(function, in_shardings=(whole, whole, rows), out_shardings=whole)
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
    """What the BatchNorm layers of some stages are given in evaluation, in numbers.

    Args:
        model: the stages.
        params: of all of them.
        stats: by which the layers normalise.
        batch: of images; rows that are masked count nowhere.
        names: of the stages of the layers.
        by_batch: whether these layers normalise by the batch's own moments instead.

    Returns:
        By the path of a layer: the count of values of a channel, their mean, and the sum of the
        squares of their distances from it.
    """
    found: Moments = {}
    twins: set[str] = set()
    mask = jnp.asarray(batch['mask'])

    def run(stage: str, following: str | None, x: jax.Array) -> jax.Array:
        def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            layer = context.module
            norm = isinstance(layer, layers.BatchNorm) and context.method_name == '__call__'
            path = '/'.join((stage, *layer.path))
            if not norm or stage not in names or path in twins:
                return call(*args, **kwargs)
            count, mean, squares = _moments(args[0], mask)
            found[path] = count, mean, squares
            if not by_batch:
                return call(*args, **kwargs)
            own = {'mean': mean, 'var': squares / jnp.maximum(count - 1, 1)}
            variables = {**layer.variables, 'batch_stats': own}
            twin = layer.clone(parent=None)
            twins.add(stage)  # which is the path of a layer without a parent
            try:
                return twin.apply(variables, *args, **kwargs)
            finally:
                twins.remove(stage)

        with nn.intercept_methods(note):
            return stages.run(model, params, stats, x, start=stage, stop=following)[0]

    x = stages.normalise(model.preprocessing, jnp.asarray(batch['image']))
    for stage, following in zip(model.names, [*model.names[1:], None], strict=True):
        x = run(stage, following, x)
    return found


def _moments(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B, ..., C] to the count [], the mean [C] and the sum of squares around it [C]."""
    x = x.astype(jnp.float32)
    shown = mask.reshape(-1, *(1,) * (x.ndim - 1))
    count = mask.sum() * (x[0, ..., 0].size)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.where(shown, x, 0).sum(axes, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.where(shown, jnp.square(x - mean), 0).sum(axes)
    return count, mean.reshape(-1), squares


def _statistics(moments: Iterable[Moments]) -> dict[str, np.ndarray]:
    """Means and unbiased variances by path, from the moments of batches.

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
        raise InputError('there are no images to take BatchNorm statistics from')
    found = {}
    for path, (n, mean, squares) in total.items():
        found[f'{path}/mean'] = mean.astype(np.float32)
        found[f'{path}/var'] = (squares / max(n - 1, 1)).astype(np.float32)
    return found


def _check_found(
    found: Mapping[str, Any], wanted: Mapping[str, Any], stages: Sequence[str]
) -> None:
    own = {path: leaf for path, leaf in wanted.items() if path.split('/')[0] in stages}
    if lines := tree.difference(found, own):
        raise InputError(
            'not all running statistics are of `layers.BatchNorm` (- theirs, + found):\n  '
            + '\n  '.join(lines)
        )


def _largest_change(found: Mapping[str, np.ndarray], before: Mapping[str, Any]) -> float:
    """Of means in standard deviations, of variances in shares of them."""
    changes = []
    for path, after in found.items():
        variance = found[path.rpartition('/')[0] + '/var']
        scale = np.sqrt(variance) if path.endswith('/mean') else variance
        changes.append(np.abs(after - before[path]) / np.maximum(scale, 1e-12))
    return max(float(change.max()) for change in changes)
