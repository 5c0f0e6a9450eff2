"""The compiled programs of a grid: steps and evaluations of the heads of C jobs."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import totals
from tljax.models.stages import HEAD, Model
from tljax.strategies import partition
from tljax.strategies.cut import Compute
from tljax.training import states, step
from tljax.training.head_grid.tables import UNREADABLE, Steps
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Batch, Params


@dataclasses.dataclass(frozen=True)
class Grid:
    """The states of C jobs; every leaf has the jobs as its first axis.

    Attributes:
        states: of the heads.
        sums: of the steps since the last record of each job.
        best: the states at the best evaluation so far.
    """

    states: TrainState
    sums: totals.Sums
    best: TrainState


jax.tree_util.register_dataclass(Grid)


class Program:
    """The programs of jobs that differ only in what they take as arguments.

    The training step is that of `step.make_train_step`, for the head as the only stage of a network
    whose images are features.
    """

    def __init__(self, jobs: Sequence[Job]):
        job = jobs[0]
        (phase,) = job.phases
        self._experiment, self._rules = job.experiment, phase.phase.rules
        self._labels: Params = {HEAD: phase.labels[HEAD]}
        self._model = _head_alone(job.model)
        optimizers: list[Any] = [one.experiment.optimizer for one in jobs]
        self._settings = (
            jnp.array([one.learning_rate for one in optimizers], jnp.float32),
            jnp.array([one.weight_decay for one in optimizers], jnp.float32),
        )

    def start(self, jobs: Sequence[Job]) -> Grid:
        """The states at the start of training."""
        heads = [{HEAD: job.params[HEAD]} for job in jobs]
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *heads)

        @jax.jit
        def create(params: Params, rates: jax.Array, decays: jax.Array) -> Grid:
            def one(params: Params, rate: jax.Array, decay: jax.Array) -> Grid:
                optimizer = self._optimizer(rate, decay, rate)
                state = states.create(params, {}, optimizer, self._labels)
                zeros = totals.training_zeros(self._model.task.zeros(self._model.num_classes))
                return Grid(state, zeros, jax.tree.map(jnp.copy, state))

            return jax.vmap(one)(params, rates, decays)

        return create(params, *self._settings)

    def _optimizer(self, base_rate: Any, decay: Any, rate: Any) -> Any:
        """The optimizer of a job at a step with a learning rate."""
        own: Any = self._experiment.optimizer
        optimizer = dataclasses.replace(own, learning_rate=base_rate, weight_decay=decay)
        clip = self._experiment.clip_norm
        return partition.make(optimizer, self._rules, self._labels, lambda _: rate, clip)

    def advance(
        self, grid: Grid, reset: np.ndarray, steps: Steps, count: int, features: jax.Array
    ) -> Grid:
        """Trains some steps.

        Args:
            grid: the states; their arrays are donated.
            reset: [C] bool, the jobs whose sums start anew.
            steps: at least `count` of them.
            count: the number of steps.
            features: of the table that the steps refer to.
        """
        arrays = (steps.rows, steps.labels, steps.rates, steps.active)
        return self._advance(grid, reset, arrays, count, self._settings, features)

    @functools.cached_property
    def _advance(self) -> Any:
        zeros = totals.training_zeros(self._model.task.zeros(self._model.num_classes))

        def advance(
            grid: Grid, reset: Any, arrays: Any, count: Any, settings: Any, features: jax.Array
        ) -> Grid:
            since_record = jax.vmap(jnp.where, (0, None, 0))
            sums = {
                name: since_record(reset, zeros[name], value) for name, value in grid.sums.items()
            }
            one: Any = jax.vmap(self._step, (0, 0, (0, 0, 0, 0), (0, 0), None))

            def body(index: Any, carry: Any) -> Any:
                return one(*carry, tuple(array[index] for array in arrays), settings, features)

            moved, sums = jax.lax.fori_loop(0, count, body, (grid.states, sums))
            return Grid(moved, sums, grid.best)

        return jax.jit(advance, donate_argnums=0)

    def _step(
        self,
        state: TrainState,
        sums: totals.Sums,
        arrays: tuple[jax.Array, ...],
        settings: tuple[jax.Array, jax.Array],
        features: jax.Array,
    ) -> tuple[TrainState, totals.Sums]:
        """One step of one job; without effect unless `active`."""
        rows, labels, rate, active = arrays
        train_step = step.make_train_step(
            self._model,
            self._optimizer(*settings, rate),
            self._labels,
            self._experiment.loss,
            norm=self._experiment.norm,
            compute=Compute(cached=True),
        )
        key = jax.random.key(0)  # a linear head draws no random numbers
        after, more = train_step(key, state, _batch(features, rows, labels))
        following = (after, totals.add(sums, more))
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), following, (state, sums))

    @functools.cached_property
    def evaluate(self) -> Any:
        """`(heads, features, rows [C, M], labels [C, M], with_logits)` to sums and logits.

        The result also has, for each job, whether its head is finite. Without `with_logits` the
        logits are None. A row can be `UNREADABLE`, which pads.
        """
        eval_step = step.make_eval_step(self._model, self._experiment.loss, first=HEAD)

        def evaluate(heads: Params, features: Any, rows: Any, labels: Any, with_logits: bool):
            def one(arguments: Any) -> Any:
                head, rows, labels = arguments
                sums, logits = eval_step(head, {}, _batch(features, rows, labels))
                finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(head)]).all()
                sums = {name: value for name, value in sums.items() if 'row_' not in name}
                return sums, finite, logits if with_logits else None

            # One job after the other, so that the gathered features of one job are in memory.
            return jax.lax.map(one, (heads, rows, labels))

        return jax.jit(evaluate, static_argnums=4)


@functools.partial(jax.jit, donate_argnums=0)
def keep_best(grid: Grid, better: np.ndarray) -> Grid:
    """The grid with the present states of some jobs, [C] bool, as their best ones."""

    def chosen(new: jax.Array, old: jax.Array) -> jax.Array:
        return jax.vmap(jnp.where)(better, new, old)

    return dataclasses.replace(grid, best=jax.tree.map(chosen, grid.states, grid.best))


def _head_alone(model: Model) -> Model:
    return dataclasses.replace(model, stages={HEAD: model.stages[HEAD]})


def _batch(features: jax.Array, rows: jax.Array, labels: jax.Array) -> Batch:
    batch: Any = {
        'image': features[jnp.maximum(rows, 0)],
        'label': labels,
        'mask': rows != UNREADABLE,
    }
    return batch
