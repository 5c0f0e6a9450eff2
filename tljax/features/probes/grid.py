"""Grids: heads or complete suffixes with many settings, trained on features in one program.

Settings with the same seed and fraction see the same batches and share the products with them. Such
a sequence of batches is called a stream.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax.features.probes import linear, streams
from tljax.features.probes.streams import Tables
from tljax.metrics.losses import CrossEntropy
from tljax.strategies import schedules
from tljax.types import Array, InputError, Loss, Optimizer, Params, Schedule

Apply = Callable[[Params, jax.Array], jax.Array]
EVALUATED_ROWS = 4096  # rows of a forward pass of `evaluate`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """The settings of a grid; every combination is a cell.

    Attributes:
        learning_rates: of the optimizer.
        weight_decays: of the optimizer.
        seeds: of the initial parameters, the selection of examples and their order.
        fractions: of each class's examples to train on, at least one example. With the same seed
            a smaller fraction is a subset of a larger one.
    """

    learning_rates: Sequence[float]
    weight_decays: Sequence[float] = (0.0,)
    seeds: Sequence[int] = (0,)
    fractions: Sequence[float] = (1.0,)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The grid's shape: learning rates, decays, seeds, fractions."""
        parts = (self.learning_rates, self.weight_decays, self.seeds, self.fractions)
        return tuple(len(part) for part in parts)  # type: ignore[return-value]

    def problems(self) -> list[str]:
        """Errors in the settings, one line each."""
        problems = [] if all(self.shape) else [f'an axis is empty: {self.shape}']
        if not all(0 < rate < float('inf') for rate in self.learning_rates):
            problems.append(f'learning_rates are {self.learning_rates}, wanted more than 0')
        if not all(0 <= decay < float('inf') for decay in self.weight_decays):
            problems.append(f'weight_decays are {self.weight_decays}, wanted 0 or more')
        if not all(seed >= 0 for seed in self.seeds):
            problems.append(f'seeds are {self.seeds}, wanted 0 or more')
        if not all(0 < fraction <= 1 for fraction in self.fractions):
            problems.append(f'fractions are {self.fractions}, wanted 0 < x <= 1')
        return problems


def linear_head(
    features: int, num_classes: int, kernel_std: float = 0.0
) -> tuple[Apply, Callable[[int], Params]]:
    """A linear layer for `train`, with the parameters of `layers.ClassifierHead`.

    Args:
        features: F.
        num_classes: K.
        kernel_std: standard deviation of the initial kernel; 0 starts from zeros for every seed.

    Returns:
        `apply` and `init`, arguments of `train`.
    """

    def init(seed: int) -> Params:
        kernel = jax.random.normal(jax.random.key(seed), (features, num_classes)) * kernel_std
        return linear.Linear(kernel, jnp.zeros(num_classes)).params()

    return _linear, init


def _linear(params: Params, x: jax.Array) -> jax.Array:
    return linear.Linear(**params['linear']).logits(x)


def train(
    values: Array,
    labels: Array,
    axes: Axes,
    *,
    apply: Apply,
    init: Callable[[int], Params],
    optimizer: Optimizer,
    num_classes: int,
    epochs: float,
    batch_size: int,
    schedule: Schedule | None = None,
    loss: Loss | None = None,
) -> Params:
    """Trains every cell of a grid. The result of a cell does not depend on the other cells.

    The seed determines the order of an epoch as in `pipeline.train_batches`. Epoch e shows view
    e modulo V. A cell with a smaller fraction has fewer steps; it stays unchanged after its last.

    Args:
        values: [N, V, ...], V views of every example's features.
        labels: [N] int.
        axes: the grid.
        apply: `(params, features [B, ...])` to logits [B, K]: a head or a complete suffix.
        init: a seed to initial parameters.
        optimizer: its learning rate and weight decay are replaced by those of the cell.
        num_classes: K.
        epochs: number of passes of every cell over its own examples.
        batch_size: B.
        schedule: of the learning rate, over the steps of each cell; None for a cosine.
        loss: per example; None for the cross-entropy.

    Returns:
        Parameters with leaves [learning rates, decays, seeds, fractions, ...].

    Raises:
        InputError: a setting is out of range, or a shape does not fit.
    """
    labels = _checked(values, labels, axes, num_classes)
    schedule = schedule or schedules.Cosine()
    choices = list(itertools.product(axes.seeds, axes.fractions))
    tables = streams.tables(labels, choices, values.shape[1], epochs, batch_size, schedule)
    flat = jnp.asarray(values).reshape(-1, *values.shape[2:])
    targets = jnp.repeat(jax.nn.one_hot(labels, num_classes), values.shape[1], 0)
    cells = itertools.product(axes.learning_rates, axes.weight_decays)
    rates, decays = jnp.asarray(list(cells), jnp.float32).T
    starts = [init(seed) for seed, _ in choices]
    program = _Program(apply, optimizer, loss or CrossEntropy())
    params = program.run(starts, rates, decays, flat, targets, tables)
    return jax.tree.map(lambda leaf: _in_order(leaf, axes), params)


def evaluate(params: Params, apply: Apply, values: Array, labels: Array) -> np.ndarray:
    """The accuracy of every cell.

    Args:
        params: the result of `train`.
        apply: the argument of `train`.
        values: [M, ...], one view of every example's features.
        labels: [M].

    Returns:
        [learning rates, decays, seeds, fractions].
    """
    shape = jax.tree.leaves(params)[0].shape[:4]
    cells = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[4:]), params)
    correct = np.zeros(int(np.prod(shape)))
    for start in range(0, len(labels), EVALUATED_ROWS):
        rows = slice(start, start + EVALUATED_ROWS)
        correct += np.asarray(_correct(apply, cells, values[rows], jnp.asarray(labels[rows])))
    return (correct / len(labels)).reshape(shape)


@functools.partial(jax.jit, static_argnums=0)
def _correct(apply: Apply, cells: Params, values: Array, labels: jax.Array) -> jax.Array:
    logits = jax.vmap(apply, (0, None))(cells, jnp.asarray(values))
    return (linear.rank(logits, labels) == 0).sum(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Program:
    """The training steps of all cells: S streams of batches with H pairs of rate and decay each.

    Programs with the same content are equal, so that a second grid is not compiled again.
    """

    apply: Apply
    optimizer: Any
    loss: Loss

    def run(
        self,
        starts: Sequence[Params],
        rates: jax.Array,
        decays: jax.Array,
        flat: jax.Array,
        targets: jax.Array,
        tables: Tables,
    ) -> Params:
        """Parameters with leaves [S, H, ...]."""
        stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *starts)
        params = jax.tree.map(lambda x: jnp.repeat(x[:, None], len(rates), 1), stacked)
        opt = jax.vmap(jax.vmap(self._transform(1.0, 1.0).init))(params)
        steps = (tables.rows, tables.multipliers, tables.active)
        inputs = (rates, decays, flat, targets)
        if self._loops_well(stacked, flat):
            return _run_all(self, (params, opt), steps, inputs)[0]
        carry = params, opt
        for step in zip(*steps, strict=True):
            carry = _run_one(self, carry, step, inputs)
        return carry[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        optimizer = dataclasses.replace(self.optimizer, learning_rate=1.0, weight_decay=1.0)
        return self.apply, repr(optimizer), repr(self.loss)

    def advance(self, carry: Any, step: Any, inputs: Any) -> Any:
        """Parameters and optimizer states after one more step of every cell."""
        (params, opt), (rates, decays, flat, targets) = carry, inputs
        rows, multipliers, active = step
        each = jax.vmap(self._step, (0, 0, 0, 0, None, None, None, None))
        every = jax.vmap(each, (0, 0, None, None, 0, 0, 0, 0))
        return every(params, opt, rates, decays, flat[rows], targets[rows], multipliers, active)

    def _loops_well(self, stacked: Params, flat: jax.Array) -> bool:
        """Whether steps can be compiled as a loop: not convolutions on CPU, slow in XLA's loops."""
        one = jax.tree.map(lambda leaf: leaf[0], stacked)
        program = str(jax.make_jaxpr(self.apply)(one, flat[:1]))
        return jax.default_backend() != 'cpu' or 'conv_general_dilated' not in program

    def _transform(self, rate: Any, decay: Any) -> optax.GradientTransformation:
        optimizer = dataclasses.replace(self.optimizer, weight_decay=decay)
        return optimizer.transform(lambda _: rate, 1.0)

    def _step(
        self,
        params: Params,
        opt: Any,
        rate: jax.Array,
        decay: jax.Array,
        x: jax.Array,
        targets: jax.Array,
        multiplier: jax.Array,
        active: jax.Array,
    ) -> tuple[Params, Any]:
        """One step of one cell; without effect unless `active`."""
        x = x.astype(jnp.float32)
        grads = jax.grad(lambda p: self.loss(self.apply(p, x), targets).mean())(params)
        updates, changed = self._transform(rate * multiplier, decay).update(grads, opt, params)
        following = (optax.apply_updates(params, updates), changed)
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), following, (params, opt))


@functools.partial(jax.jit, static_argnums=0)
def _run_all(program: _Program, carry: Any, steps: Any, inputs: Any) -> Any:
    return jax.lax.scan(lambda c, step: (program.advance(c, step, inputs), None), carry, steps)[0]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run_one(program: _Program, carry: Any, step: Any, inputs: Any) -> Any:
    return program.advance(carry, step, inputs)


def _in_order(leaf: jax.Array, axes: Axes) -> jax.Array:
    """[seeds x fractions, rates x decays, ...] to [rates, decays, seeds, fractions, ...]."""
    rates, decays, seeds, fractions = axes.shape
    leaf = leaf.reshape(seeds, fractions, rates, decays, *leaf.shape[2:])
    return jnp.moveaxis(leaf, (2, 3), (0, 1))


def _checked(values: Any, labels: Any, axes: Axes, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    problems = axes.problems()
    if values.ndim < 3 or labels.shape != values.shape[:1] or not labels.size:
        problems.append(
            f'values are {list(values.shape)} and labels {list(labels.shape)}, '
            'wanted [N, V, ...] and [N]'
        )
    elif labels.min() < 0 or labels.max() >= num_classes:
        problems.append(
            f'labels are {labels.min()} to {labels.max()}, wanted 0 to {num_classes - 1}'
        )
    if problems:
        raise InputError('; '.join(problems))
    return labels
