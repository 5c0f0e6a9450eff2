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
    weights: dict[str, str] | None  # source and SHA-256
    dropped: tuple[str, ...]  # stages of the weights that are not used

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
    backbone = experiment.backbone
    pretrained = weights.load(backbone.weights, backbone) if backbone.weights else None
    model = models.build(
        backbone,
        len(splits['train'].class_names),
        cut_after=experiment.cut_after,
        preprocessing=experiment.preprocessing
        or (pretrained.preprocessing if pretrained else None),
    )
    if not experiment.strategy.pretrained:
        pretrained = None
    params, stats = _start(model, pretrained, experiment.seed)
    splits = canvases.wrap(splits, model.preprocessing, experiment.cache_gigabytes)
    return Job(
        experiment=experiment,
        splits=splits,
        model=model,
        params=params,
        stats=stats,
        phases=_plan(experiment, model, params, len(splits['train'])),
        mesh=mesh,
        weights={'source': pretrained.source, 'sha256': pretrained.sha256} if pretrained else None,
        dropped=tuple(name for name in pretrained.params if name not in model.names)
        if pretrained
        else (),
    )


def _start(model: Model, pretrained: weights.Pretrained | None, seed: int) -> tuple[Params, Stats]:
    """Random values, replaced by pretrained ones for all stages but the head."""
    given = {}, {}
    if pretrained is not None:
        kept = [name for name in model.names[:-1] if name in pretrained.params]
        given = (
            {name: pretrained.params[name] for name in kept},
            {name: pretrained.stats[name] for name in kept if name in pretrained.stats},
        )
    init_key, _ = keys(seed)
    params, stats = models.init(model, init_key, given=given[0].keys())
    params, stats = {**params, **given[0]}, {**stats, **given[1]}
    return {n: params[n] for n in model.names}, {n: stats[n] for n in model.names if n in stats}


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
