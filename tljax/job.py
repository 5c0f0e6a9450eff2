"""An experiment made ready: its data, network and phases resolved, its steps compiled."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from tljax import config, metrics, optim, schedule, sharding, step, weights
from tljax import model as models
from tljax import state as states
from tljax.config import ConfigError, Experiment
from tljax.data import canvases, pipeline, subsets
from tljax.losses import ClassWeighted
from tljax.model import Model
from tljax.types import Balance, Batch, Examples, Loss, Params, Phase, Stats
from tljax.weights import Pretrained
from tljax.weights.adapt import adapt


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """A phase in steps of the experiment: from `start` up to, not including, `stop`."""

    index: int
    start: int
    stop: int
    labels: Params
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule  # over the steps of the phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """An experiment, resolved: data, network and phases, with nothing compiled yet."""

    experiment: Experiment
    splits: Mapping[str, Examples]
    model: Model
    params: Params  # where training starts, as host arrays
    stats: Stats
    phases: tuple[PhasePlan, ...]
    mesh: Mesh
    weights: dict[str, Any] | None  # what is recorded of them
    dropped: tuple[str, ...]  # stages of the weights that are not used
    notes: tuple[str, ...]  # what of them was replaced or adapted

    @property
    def steps(self) -> int:
        """The length of the whole."""
        return self.phases[-1].stop

    @property
    def steps_per_epoch(self) -> float:
        """Not a whole number where the batch size does not divide the examples."""
        return len(self.splits['train']) / self.experiment.batch_size


def setup(experiment: Experiment) -> Job:
    """Resolves an experiment: reads the data's index and the weights, assigns every leaf a group.

    Raises:
        InputError: anything that would keep it from running.
    """
    config.validate(experiment)
    mesh = sharding.make_mesh()
    if experiment.batch_size % mesh.size:
        raise ConfigError(
            f'config.batch_size is {experiment.batch_size}, wanted a multiple of the '
            f'{mesh.size} devices it is split over'
        )
    splits = subsets.prepare(
        experiment.data.splits(),
        experiment.per_class,
        experiment.validation_fraction,
        experiment.seed,
        experiment.subset,
    )
    model, pretrained = _network(experiment, len(splits['train'].class_names))
    adapted = None
    if pretrained is not None:
        adapted = adapt(pretrained, model, keep_head=experiment.head == config.PRETRAINED)
    given = (adapted.params, adapted.stats) if adapted else ({}, {})
    params, stats = models.start(model, *given, keys(experiment.seed)[0])
    splits = canvases.wrap(splits, model.preprocessing, experiment.cache_gigabytes)
    return Job(
        experiment=experiment,
        splits=splits,
        model=model,
        params=params,
        stats=stats,
        phases=_plan(experiment, model, params, len(splits['train'])),
        mesh=mesh,
        weights=pretrained.record() if pretrained else None,
        dropped=adapted.dropped if adapted else (),
        notes=adapted.notes if adapted else (),
    )


def _network(experiment: Experiment, num_classes: int) -> tuple[Model, Pretrained | None]:
    """The model, and the weights it starts from; their preprocessing is used in any case."""
    backbone, head = experiment.backbone, experiment.head
    pretrained = weights.load(backbone.weights, backbone) if backbone.weights else None
    stated = pretrained.preprocessing if pretrained else None
    model = models.build(
        backbone,
        num_classes,
        cut_after=experiment.cut_after,
        head=None if isinstance(head, str) else head,
        preprocessing=experiment.preprocessing or stated,
    )
    return model, pretrained if experiment.strategy.pretrained else None


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """The key of the initial values and the key of training."""
    init_key, train_key = jax.random.split(jax.random.key(seed))
    return init_key, train_key


def train_key(job: Job) -> jax.Array:
    """The key of training, on every device."""
    whole = sharding.replicated(job.mesh)
    return jax.jit(lambda: keys(job.experiment.seed)[1], out_shardings=whole)()


def _plan(
    experiment: Experiment, model: Model, params: Params, examples: int
) -> tuple[PhasePlan, ...]:
    plans, start = [], 0
    steps_per_epoch = examples / experiment.batch_size
    for index, phase in enumerate(experiment.strategy.phases(model.names)):
        epochs = experiment.epochs if phase.epochs is None else phase.epochs
        length = schedule.steps(epochs, examples, experiment.batch_size)
        labels = optim.assign(params, phase.rules)
        learning_rate = _learning_rate(experiment, phase, steps_per_epoch, length)
        step.find_cut(model, labels)  # something has to train
        plans.append(
            PhasePlan(
                index=index,
                start=start,
                stop=start + length,
                labels=labels,
                optimizer=optim.make(
                    experiment.optimizer,
                    phase.rules,
                    labels,
                    learning_rate,
                    experiment.clip_norm,
                ),
                learning_rate=learning_rate,
            )
        )
        start += length
    return tuple(plans)


def _learning_rate(
    experiment: Experiment, phase: Phase, steps_per_epoch: float, length: int
) -> optax.Schedule:
    chosen = phase.schedule or experiment.schedule
    multiplier = chosen.multiplier(steps_per_epoch, length)
    return lambda n: experiment.optimizer.learning_rate * multiplier(n)


def compile_train_step(job: Job, phase: PhasePlan) -> jax.stages.Compiled:
    """The phase's step `(key, state, batch) -> (state, sums)`, compiled for the job's devices."""
    function = step.make_train_step(
        job.model,
        phase.optimizer,
        phase.labels,
        _training_loss(job),
        job.experiment.augmentations,
    )
    whole, rows = sharding.replicated(job.mesh), sharding.split(job.mesh)
    jitted = jax.jit(
        function,
        in_shardings=(whole, whole, rows),
        out_shardings=(whole, whole),
        donate_argnums=1,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = checkpoint_shapes(job, phase)['state']
    return jitted.lower(key, state, _batch_shape(job)).compile()


def _training_loss(job: Job) -> Loss:
    if job.experiment.balance is not Balance.WEIGH:
        return job.experiment.loss
    weights = subsets.balanced_weights(job.splits['train'].labels, job.model.num_classes)
    return ClassWeighted(loss=job.experiment.loss, weights=weights)


def _batch_shape(job: Job) -> Batch:
    rows, side = job.experiment.batch_size, job.model.preprocessing.resize_px
    return {
        'image': jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((rows,), jnp.int32),
        'id': jax.ShapeDtypeStruct((rows,), jnp.uint32),
        'mask': jax.ShapeDtypeStruct((rows,), jnp.bool_),
    }  # type: ignore[typeddict-item]


def checkpoint_shapes(job: Job, phase: PhasePlan) -> dict[str, Any]:
    """What a checkpoint of a phase holds: the state and the sums since the last record."""
    shapes = jax.eval_shape(
        lambda p, s: {
            'state': states.create(p, s, phase.optimizer, phase.labels),
            'totals': metrics.zeros(job.model.num_classes),
        },
        job.params,
        job.stats,
    )
    whole = sharding.replicated(job.mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)


Evaluate = Callable[[Params, Stats, str], dict[str, Any]]


def make_evaluate(job: Job) -> Evaluate:
    """The function `(params, stats, split) -> metrics`, exact on every example.

    It gives `loss`, `accuracy`, `top5_accuracy`, `count` and `class_accuracy`, and compiles at
    its first use.
    """
    whole, rows = sharding.replicated(job.mesh), sharding.split(job.mesh)
    function = step.make_eval_step(job.model, job.experiment.loss)
    eval_step = jax.jit(function, in_shardings=(whole, whole, rows), out_shardings=whole)
    add = jax.jit(metrics.add)

    def evaluate(params: Params, stats: Stats, split: str) -> dict[str, Any]:
        total = sharding.put_replicated(job.mesh, metrics.zeros(job.model.num_classes))
        batches = pipeline.eval_batches(
            job.splits[split],
            job.model.preprocessing,
            batch_size=job.experiment.batch_size,
            process=(jax.process_index(), jax.process_count()),
            threads=job.experiment.data_threads,
        )
        for batch in batches:
            sums = eval_step(params, stats, sharding.put_batch(job.mesh, batch))
            total = add(total, sums)
        return metrics.summary(total)

    return evaluate
