"""Computes a training step with the range of every value on the way, and finds the first bad one.

The order is that of the computation: images, the outputs of the layers of each stage, the loss, the
gradient, the update, the statistics and the optimizer state.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tljax import tree
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.strategies import partition
from tljax.strategies.cut import Compute
from tljax.training import batch_inputs, compiled_step, jobs, objective, step
from tljax.training.batch_inputs import Inputs
from tljax.training.jobs import Job
from tljax.training.penalty_terms import PenaltyArrays
from tljax.training.states import TrainState
from tljax.types import Batch

# A place in the step and its array; the first part of a place is its kind.
Values = list[tuple[tuple[str, str], jax.Array]]
OF_OPTAX = {'inner_states', 'inner_state'}
OUTPUT = ''  # the name of the layer that is a whole stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueRange:
    """The range of an array of a step.

    Attributes:
        kind: `images`, the name of a stage, `loss`, `gradient`, `update`, `statistic`, `optimizer`.
        name: the layer or the leaf; '' for all of the kind.
        low: the smallest finite value; None without one.
        high: the largest finite value.
        count: the number of values.
        bad: the number of values that are infinite or NaN.
        rows: for images and outputs, the rows of the batch with such values, of any of its views.
    """

    kind: str
    name: str
    low: float | None
    high: float | None
    count: int
    bad: int
    rows: tuple[int, ...] = ()


def trace(
    job: Job, phase: PhasePlan, state: TrainState, batch: Batch, accumulate: int, *, cached: bool
) -> list[ValueRange]:
    """The ranges of all values of a step, in the order in which they are computed.

    The program is another one than that of training: its last bits may differ. Frozen stages are
    computed without folding, and nothing is computed twice.

    Args:
        job: the experiment.
        phase: the phase of the step.
        state: the state before the step.
        batch: its batch, on the devices.
        accumulate: the number of parts of the batch.
        cached: whether the batch has cached features instead of images.
    """
    compute = compiled_step.compute_of(job, accumulate, cached=cached)
    compute = dataclasses.replace(compute, fold_prefix=False, remat=())
    places: list[tuple[str, str]] = []

    def ranges(key: jax.Array, state: TrainState, batch: Batch, *arrays: PenaltyArrays) -> Any:
        values = _values(job, phase, compute, key, state, batch, *arrays)
        places.extend(place for place, _ in values)
        return [_range(array, len(batch['mask'])) for _, array in values]

    results = jax.jit(ranges)(jobs.train_key(job), state, batch, *job.penalty_arrays)
    pairs = zip(places, jax.device_get(results), strict=True)
    return [_on_host(*place, *result) for place, result in pairs]


def _values(
    job: Job,
    phase: PhasePlan,
    compute: Compute,
    key: jax.Array,
    state: TrainState,
    batch: Batch,
    arrays: PenaltyArrays | None = None,
) -> Values:
    """The places and values of a step, traced."""
    augmentations = job.experiment.augmentations
    loss, labels = jobs.training_loss(job), phase.labels
    options = compiled_step.gradient_options(job, phase, compute, 'source' in batch)
    backward = step.make_gradients(job.model, labels, loss, augmentations, **options)
    result = backward(key, state, batch, arrays)
    trained = tree.select(state.params, partition.trained(labels))
    after = step.updated(phase.optimizer, state, trained, result.grads, job.experiment.ema_decay)
    inputs = step.inputs_of(job.model, augmentations, compute, key, state, batch)
    forward = objective.make_objective(
        job.model, phase.cut, loss, compute, options['penalties'], options['stochastic_norm']
    )

    def run(part: Inputs, key: jax.Array, stats: Any) -> Any:
        return forward(trained, state.params, stats, part, key, jnp.float32(1), arrays)[1][1]

    first = phase.cut.first if compute.cached else None
    outputs = _outputs(job, run, inputs, compute.accumulate, key, state, first)
    losses = loss(outputs[-1][1], inputs.targets)
    updated = tree.select(after.params, partition.trained(labels))
    update = jax.tree.map(jnp.subtract, updated, trained)
    return [
        (('images' if first is None else 'cached features', OUTPUT), inputs.images),
        *outputs,
        (('loss', 'of each image'), jnp.where(inputs.mask, losses, 0.0)),
        *((('loss', n), v) for n, v in result.sums.items() if n.startswith(totals.PENALTY)),
        (('loss', 'objective'), result.mean),
        *_leaves('gradient', result.grads),
        *_leaves('update', update),
        *_leaves('statistic', result.stats),
        *_leaves('optimizer', after.opt),
    ]


def _outputs(
    job: Job,
    run: Callable[[Inputs, jax.Array, Any], Any],
    inputs: Inputs,
    count: int,
    key: jax.Array,
    state: TrainState,
    first: str | None,
) -> Values:
    """The outputs of all layers of all stages, for the rows of all parts of a batch."""
    names, stats = job.model.names, state.stats
    names = names[names.index(first) :] if first else names
    parts = []
    step_key = jax.random.fold_in(key, state.step)
    for index, part in enumerate(batch_inputs.parts(inputs, count)):
        recorder = _Recorder(names)
        with nn.intercept_methods(recorder.intercept):
            stats = run(part, jax.random.fold_in(step_key, index), stats)
        parts.append(recorder.values)
    if count == 1:
        return parts[0]
    # A part has every `count`-th row of the batch.
    return [
        (several[0][0], _joined([array for _, array in several]))
        for several in zip(*parts, strict=True)
    ]


def _joined(parts: list[jax.Array]) -> jax.Array:
    """The rows of a batch in their order, from its parts."""
    return jnp.stack(parts, 1).reshape(-1, *parts[0].shape[1:])


class _Recorder:
    """For `nn.intercept_methods`: records the outputs of layers in their order.

    Stages run one after another, so the name of a stage is found by counting. Later calls, such as
    those of the starting network for a penalty, are not recorded.
    """

    def __init__(self, names: tuple[str, ...]):
        self._names, self._started, self._depth = names, 0, 0
        self.values: Values = []

    def intercept(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        """Calls a method of a module and records its output."""
        outermost = self._depth == 0
        self._started += outermost
        self._depth += 1
        output = call(*args, **kwargs)
        self._depth -= 1
        path = '/'.join(context.module.path)
        is_layer = context.method_name == '__call__' and (outermost or path)
        if is_layer and self._started <= len(self._names) and isinstance(output, jax.Array):
            self.values.append(((self._names[self._started - 1], path), output))
        return output


def _leaves(kind: str, values: Any) -> Values:
    """The leaves of floats, without the names that optax gives every optimizer state."""
    return [
        ((kind, '/'.join(part for part in _parts(path) if part not in OF_OPTAX)), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def _parts(path: Any) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator='/').split('/')


def _range(array: jax.Array, rows: int) -> tuple[Any, ...]:
    """Smallest and largest finite value, and the number of values that are not finite, by image."""
    finite = jnp.isfinite(array)
    low, high = jnp.where(finite, array, jnp.inf).min(), jnp.where(finite, array, -jnp.inf).max()
    by_image = array.ndim > 0 and array.size and array.shape[0] % rows == 0
    # The views of an image are adjacent.
    bad = (~finite).reshape(rows, -1).sum(1) if by_image else (~finite).sum()
    return low, high, bad, np.array(array.size)


def _on_host(kind: str, name: str, low: Any, high: Any, bad: Any, count: Any) -> ValueRange:
    total = int(np.sum(bad))
    none = total == count
    of_rows = kind not in ('gradient', 'update', 'statistic', 'optimizer')
    rows = np.flatnonzero(bad).tolist() if of_rows and np.ndim(bad) else []
    return ValueRange(
        kind=kind,
        name=name,
        low=None if none else float(low),
        high=None if none else float(high),
        count=int(count),
        bad=total,
        rows=tuple(rows),
    )
