"""Resolves an experiment: its data, its network, its phases, and the states of training."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from tljax import devices
from tljax.config import data_checks, phases, validation
from tljax.config.experiment import PRETRAINED, ConfigError, Experiment
from tljax.config.phases import PhasePlan
from tljax.data import inputs, subsets
from tljax.metrics import totals
from tljax.metrics.tasks import choice
from tljax.models import adapters, language_model, shared_programs, stages, views
from tljax.models.stages import Model
from tljax.training import source_data, states
from tljax.training.penalty_start import PenaltyStart, PhaseChanges
from tljax.training.penalty_terms import PenaltyArrays, PhasePenalties, find_upstream, names_of
from tljax.training.source_data import Samples
from tljax.training.states import TrainState
from tljax.types import (
    AnyPreprocessing,
    Backbone,
    Balance,
    Examples,
    Loss,
    Params,
    Preprocessing,
    Stats,
)
from tljax.weights import loading
from tljax.weights.adapt import Adapted, adapt
from tljax.weights.pretrained import Pretrained

ADAPTERS = 2**31  # folded into the key for adapters; stages fold in their small index


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A resolved experiment; nothing is compiled yet.

    Attributes:
        experiment: what was asked for.
        splits: the examples of each split.
        model: the network.
        params: the starting parameters, as host arrays.
        stats: the starting statistics, as host arrays.
        phases: the phases of training.
        mesh: the devices that batches, and with sharding the states of training, are split over.
        weights: the record of the pretrained weights; None for random ones.
        dropped: the stages of the weights that are not used.
        notes: what was replaced or adapted in the weights.
        penalty_start: the penalties, if there are any.
        samples: the samples of a source domain, if there are any.
    """

    experiment: Experiment
    splits: Mapping[str, Examples]
    model: Model
    params: Params
    stats: Stats
    phases: tuple[PhasePlan, ...]
    mesh: Mesh
    weights: dict[str, Any] | None
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    penalty_start: PenaltyStart | None = None
    samples: Samples | None = None

    @functools.cached_property
    def penalty_arrays(self) -> tuple[PenaltyArrays, ...]:
        """The arrays of penalties, as the last arguments of a step; () without penalties."""
        if self.penalty_start is None:
            return ()
        experiment = self.experiment
        arrays = self.penalty_start.measure(
            self.splits['train'], self.mesh, seed=experiment.seed, reading=experiment.reading
        )
        return (arrays,)

    def penalties_in(self, phase: PhasePlan) -> PhasePenalties | None:
        """The penalties of a phase; None without penalties."""
        return self.penalty_start.in_phase(phase.index) if self.penalty_start else None

    @property
    def steps(self) -> int:
        """The number of training steps of all phases."""
        return self.phases[-1].stop

    @property
    def steps_per_epoch(self) -> float:
        """Steps per epoch of the training split; may be fractional."""
        return len(self.splits['train']) / self.experiment.batch_size


def setup(experiment: Experiment) -> Job:
    """Resolves an experiment: reads the index of the data and the weights, and plans the phases.

    Raises:
        InputError: the experiment cannot run.
    """
    validation.validate(experiment)
    mesh = devices.make_mesh(experiment.mesh, experiment.sharding)
    check_batch_size(experiment, mesh)
    splits = read_splits(experiment)
    pretrained = _pretrained(experiment.backbone)
    preprocessing = _preprocessing(experiment, splits['train'], pretrained)
    splits = inputs.prepared(splits, preprocessing, experiment.cache_gigabytes)
    model = _network(experiment, splits['train'], preprocessing)
    pretrained = pretrained if experiment.strategy.pretrained else None
    adapted = None
    if pretrained is not None:
        adapted = adapt(pretrained, model, keep_head=experiment.head == PRETRAINED)
    model, params, stats = _start(experiment, model, adapted)
    planned = phases.make(experiment, model, params, splits)
    job = Job(
        experiment=experiment,
        splits=splits,
        model=model,
        params=params,
        stats=stats,
        phases=planned,
        mesh=mesh,
        weights=pretrained.record() if pretrained else None,
        dropped=adapted.dropped if adapted else (),
        notes=adapted.notes if adapted else (),
    )
    return dataclasses.replace(
        job,
        penalty_start=_penalty_start(job, adapted, pretrained),
        samples=source_data.make(
            experiment, model, splits, planned, keys(experiment.seed)[0], mesh.size
        ),
    )


def check_batch_size(experiment: Experiment, mesh: Mesh) -> None:
    """Raises: ConfigError: the devices cannot have equal parts of a batch."""
    if experiment.batch_size % mesh.size:
        raise ConfigError(
            f'config.batch_size is {experiment.batch_size}, wanted a multiple of the '
            f'{mesh.size} devices it is split over'
        )


def _start(
    experiment: Experiment, model: Model, adapted: Adapted | None
) -> tuple[Model, Params, Stats]:
    """The model with its adapters, and the starting values of all leaves."""
    loaded = (adapted.params, adapted.stats) if adapted else ({}, {})
    key = keys(experiment.seed)[0]
    params, stats = stages.start(model, *loaded, key)
    model = dataclasses.replace(model, adapters=experiment.adapters)
    params = adapters.extended(model.adapters, params, jax.random.fold_in(key, ADAPTERS))
    return model, params, stats


def read_splits(experiment: Experiment) -> dict[str, Examples]:
    """The splits of an experiment, checked and reduced to its subset."""
    splits = experiment.data.splits()
    data_checks.check(experiment, splits)
    prepared = subsets.prepare(
        splits,
        experiment.per_class,
        experiment.validation_fraction,
        experiment.image_seed,
        experiment.subset,
    )
    stated = choice.of(prepared['train'])
    task = stated.prepared(prepared['train'].labels, experiment.loss)
    if task == stated:
        return prepared
    return {name: dataclasses.replace(split, task=task) for name, split in prepared.items()}


def _with_gray_range(
    experiment: Experiment, train: Examples, preprocessing: Preprocessing
) -> Preprocessing:
    """The preprocessing with the range of gray values of images deeper than 8 bits.

    The range is that of the config, else of the weights, else of a scan of the training images.
    """
    findings, chosen = train.findings, experiment.gray_range or preprocessing.gray_range
    if findings is None or not findings.deep:
        return dataclasses.replace(preprocessing, gray_range=chosen)
    if chosen is None and findings.gray_range is not None:
        chosen = findings.gray_range()
    if chosen is not None:
        findings.notes.append(
            f'images are deeper than 8 bits: values from {chosen[0]:g} to {chosen[1]:g} become '
            'black to white (config.gray_range)'
        )
    return dataclasses.replace(preprocessing, gray_range=chosen)


def _pretrained(backbone: Backbone) -> Pretrained | None:
    """The weights of a backbone; None for random ones."""
    weights = backbone.weights
    if not weights:
        return None
    return shared_programs.get(('weights', backbone), lambda: loading.load(weights, backbone))


def _preprocessing(
    experiment: Experiment, train: Examples, pretrained: Pretrained | None
) -> AnyPreprocessing:
    """The preprocessing, that of the weights even if the strategy ignores their values."""
    usual = pretrained.preprocessing if pretrained else experiment.backbone.preprocessing()
    most = getattr(experiment.backbone, 'vocabulary', 0)
    source = pretrained.origin.source if pretrained else None
    made = inputs.settled(experiment.preprocessing, usual, train, most, source)
    if isinstance(made, Preprocessing):
        made = _with_gray_range(experiment, train, made)
        views.check(experiment.test_views, made)
    return made


def _network(experiment: Experiment, train: Examples, preprocessing: AnyPreprocessing) -> Model:
    """The model for the task of the training split."""
    head = experiment.head
    return stages.build(
        experiment.backbone,
        len(train.class_names),
        cut_after=experiment.cut_after,
        head=None if isinstance(head, str) else head,
        preprocessing=preprocessing,
        task=choice.of(train),
    )


def _penalty_start(
    job: Job, adapted: Adapted | None, pretrained: Pretrained | None
) -> PenaltyStart | None:
    """The penalties of a job and what they refer to.

    Raises:
        InputError: a penalty has no effect.
    """
    if not job.experiment.penalties:
        return None
    start = PenaltyStart(
        penalties=job.experiment.penalties,
        model=job.model,
        params=job.params,
        stats=job.stats,
        shared=frozenset(adapted.params if adapted else ()),
        upstream=find_upstream(job.model, pretrained) if pretrained else None,
        phases=tuple(PhaseChanges.of(phase) for phase in job.phases),
    )
    start.check()
    return start


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """The key of the initial values and the key of training."""
    init_key, train_key = jax.random.split(jax.random.key(seed))
    return init_key, train_key


def train_key(job: Job) -> jax.Array:
    """The key of training, replicated on every device."""
    return _train_key_program(job.experiment.seed, devices.replicated(job.mesh))()


@functools.lru_cache(maxsize=16)  # each phase of each run of a process asks for its key
def _train_key_program(
    seed: int, replicated: jax.sharding.NamedSharding
) -> Callable[[], jax.Array]:
    return jax.jit(lambda: keys(seed)[1], out_shardings=replicated)


def samples_end(job: Job, phase: PhasePlan) -> int:
    """The first step of training whose batch has no samples in this phase; 0 if none has."""
    return job.samples.until if job.samples and job.samples.matter_in(phase) else 0


def first_state(job: Job, phase: PhasePlan | None = None) -> TrainState:
    """The state at the start of training, in the first phase unless another one is named."""
    phase = phase or job.phases[0]
    make = functools.partial(_state, job, phase)
    values = (job.params, job.stats)
    if devices.shards(job.mesh) == 1:
        return devices.put_replicated(job.mesh, make(*values))
    # Compiled, because no device may have to hold all of it.
    values = devices.put_sharded(job.mesh, values)
    return jax.jit(make, out_shardings=_shardings(job, jax.eval_shape(make, *values)))(*values)


def _state(job: Job, phase: PhasePlan, params: Params, stats: Stats) -> TrainState:
    samples = job.samples.start(phase, job.experiment) if job.samples else None
    carried = None
    if job.model.task.continues:
        carried = language_model.start_states(job.model, job.experiment.batch_size)
    labelled = phase.optimizer, phase.labels, phase.averaged
    return states.create(params, stats, *labelled, samples, carried)


def next_state(job: Job, state: TrainState, phase: PhasePlan) -> TrainState:
    """The state at the start of a phase, from the state at the end of the phase before."""
    before = job.phases[phase.index - 1]

    def make(state: TrainState) -> TrainState:
        labels = (phase.labels, before.labels)
        fresh = states.next_phase(state, phase.optimizer, *labels, phase.averaged)
        if job.samples and fresh.source:
            samples = job.samples.next_phase(fresh.source, before, phase, job.experiment)
            fresh = dataclasses.replace(fresh, source=samples)
        return fresh

    if devices.shards(job.mesh) == 1:
        return devices.put_replicated(job.mesh, make(state))
    return jax.jit(make, out_shardings=_shardings(job, jax.eval_shape(make, state)))(state)


def _shardings(job: Job, state: TrainState) -> TrainState:
    """The sharding of each leaf of a state: statistics and samples are replicated."""
    shardings = jax.tree.map(lambda _: devices.replicated(job.mesh), state)
    sharded = functools.partial(devices.sharded, job.mesh)
    params, opt, ema = jax.tree.map(sharded, (state.params, state.opt, state.ema))
    return dataclasses.replace(shardings, params=params, opt=opt, ema=ema)


def training_loss(job: Job, weighing: Collection[Balance] = (Balance.WEIGH,)) -> Loss:
    """The loss per example; weighted if the experiment's `balance` is in `weighing`."""
    loss, train = job.experiment.loss, job.splits['train']
    if job.experiment.balance not in weighing:
        return loss
    return job.model.task.weighted(loss, train.labels, job.model.num_classes)


def zero_totals(job: Job) -> totals.Sums:
    """The sums of a training step, all zero."""
    names = names_of(job.experiment.penalties) + (totals.SOURCE if job.samples else ())
    return totals.training_zeros(job.model.task.zeros(job.model.num_classes), names)


def checkpoint_shapes(job: Job, phase: PhasePlan) -> dict[str, Any]:
    """The content of a checkpoint of a phase: the state, and the sums since the last record.

    Returns:
        `state` and `totals`, of abstract arrays with the shardings that the job needs.
    """

    def content(params: Params, stats: Stats) -> dict[str, Any]:
        return {'state': _state(job, phase, params, stats), 'totals': zero_totals(job)}

    shapes = jax.eval_shape(content, job.params, job.stats)
    replicated = jax.tree.map(lambda _: devices.replicated(job.mesh), shapes['totals'])
    shardings = {'state': _shardings(job, shapes['state']), 'totals': replicated}
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings,
    )
