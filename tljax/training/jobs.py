"""An experiment made ready: its data, network and phases resolved, and the states of training."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from tljax import devices
from tljax.config import data_checks, phases, validation
from tljax.config.experiment import PRETRAINED, ConfigError, Experiment
from tljax.config.phases import PhasePlan
from tljax.data import decoded_images, label_sets, subsets
from tljax.metrics import totals
from tljax.metrics.losses import BinaryCrossEntropy, ClassWeighted
from tljax.models import adapters, stages, views
from tljax.models.stages import Model
from tljax.strategies import partition
from tljax.strategies.cut import find_cut
from tljax.training import source_data, states
from tljax.training.penalty_start import Anchor, Touched
from tljax.training.penalty_terms import Given, find_upstream, names_of
from tljax.training.source_data import Sourced
from tljax.training.states import TrainState
from tljax.types import Balance, Examples, Loss, Params, Preprocessing, Stats
from tljax.weights import loading
from tljax.weights.adapt import Adapted, adapt
from tljax.weights.pretrained import Pretrained

ADDED = 2**31  # folded into the key of what adapters draw; stages have their small index


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
    anchor: Anchor | None = None  # of penalties, where there are any
    source: Sourced | None = None  # of samples, where there is one

    @functools.cached_property
    def given(self) -> tuple[Given, ...]:
        """The arrays of penalties, a further argument of every step; none without penalties."""
        if self.anchor is None:
            return ()
        measured = self.anchor.measure(
            self.splits['train'],
            self.mesh,
            seed=self.experiment.seed,
            batch_size=self.experiment.batch_size,
            threads=self.experiment.data_threads,
        )
        return (measured,)

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
    validation.validate(experiment)
    mesh = devices.make_mesh()
    if experiment.batch_size % mesh.size:
        raise ConfigError(
            f'config.batch_size is {experiment.batch_size}, wanted a multiple of the '
            f'{mesh.size} devices it is split over'
        )
    splits = read_splits(experiment)
    model, pretrained = _network(experiment, len(splits['train'].class_names))
    model = dataclasses.replace(
        model, preprocessing=_with_gray_range(experiment, splits['train'], model.preprocessing)
    )
    views.check(experiment.test_views, model.preprocessing)
    adapted = None
    if pretrained is not None:
        adapted = adapt(pretrained, model, keep_head=experiment.head == PRETRAINED)
    model, params, stats = _start(experiment, model, adapted)
    splits = decoded_images.wrap(splits, model.preprocessing, experiment.cache_gigabytes)
    planned = phases.make(experiment, model, params, splits)
    return Job(
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
        anchor=_anchor(experiment, model, (params, stats), adapted, pretrained, planned),
        source=source_data.make(
            experiment, model, splits, planned, keys(experiment.seed)[0], mesh.size
        ),
    )


def _start(
    experiment: Experiment, model: Model, adapted: Adapted | None
) -> tuple[Model, Params, Stats]:
    """The model with its adapters, and the values of all leaves."""
    given = (adapted.params, adapted.stats) if adapted else ({}, {})
    key = keys(experiment.seed)[0]
    params, stats = stages.start(model, *given, key)
    model = dataclasses.replace(model, adapters=experiment.adapters)
    params = adapters.extended(model.adapters, params, jax.random.fold_in(key, ADDED))
    return model, params, stats


def read_splits(experiment: Experiment) -> dict[str, Examples]:
    """The examples that an experiment trains on, validates and tests with."""
    splits = experiment.data.splits()
    data_checks.check(experiment, splits)
    return subsets.prepare(
        splits,
        experiment.per_class,
        experiment.validation_fraction,
        experiment.seed,
        experiment.subset,
    )


def _with_gray_range(
    experiment: Experiment, train: Examples, preprocessing: Preprocessing
) -> Preprocessing:
    """The preprocessing with the range of gray values of the data, if images are deep.

    The config's own comes first, then that of the weights, then a scan of the training images.
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


def _anchor(
    experiment: Experiment,
    model: Model,
    start: tuple[Params, Stats],
    adapted: Adapted | None,
    pretrained: Pretrained | None,
    phases: tuple[PhasePlan, ...],
) -> Anchor | None:
    """What penalties hold training to.

    Raises:
        InputError: one of them could change nothing.
    """
    if not experiment.penalties:
        return None
    cuts = [find_cut(model, phase.labels, experiment.norm) for phase in phases]
    anchor = Anchor(
        penalties=experiment.penalties,
        model=model,
        params=start[0],
        stats=start[1],
        shared=frozenset(adapted.params if adapted else ()),
        upstream=find_upstream(model, pretrained) if pretrained else None,
        phases=tuple(
            Touched(
                leaves=partition.trained(phase.labels),
                changed=cut.trainable | cut.updates_statistics,
            )
            for phase, cut in zip(phases, cuts, strict=True)
        ),
    )
    anchor.check()
    return anchor


def _network(experiment: Experiment, num_classes: int) -> tuple[Model, Pretrained | None]:
    """The model, and the weights it starts from; their preprocessing is used in any case."""
    backbone, head = experiment.backbone, experiment.head
    pretrained = loading.load(backbone.weights, backbone) if backbone.weights else None
    stated = pretrained.preprocessing if pretrained else None
    model = stages.build(
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
    whole = devices.replicated(job.mesh)
    return jax.jit(lambda: keys(job.experiment.seed)[1], out_shardings=whole)()


def source_ends(job: Job, phase: PhasePlan) -> int:
    """The first step from which a phase has no rows of a source; 0 where it has none at all."""
    source = job.source
    return source.until if source and source.counts(phase, job.experiment) else 0


def first_state(job: Job, phase: PhasePlan | None = None) -> TrainState:
    """The state at the start of training in a phase, the first one if none is named."""
    state = _start_of(job, phase or job.phases[0], job.params, job.stats)
    return devices.put_replicated(job.mesh, state)


def _start_of(job: Job, phase: PhasePlan, params: Params, stats: Stats) -> TrainState:
    source = job.source.start(phase, job.experiment) if job.source else None
    return states.create(params, stats, phase.optimizer, phase.labels, phase.averaged, source)


def next_state(job: Job, state: TrainState, phase: PhasePlan) -> TrainState:
    """The state at the start of a phase, from that at the end of the one before."""
    before = job.phases[phase.index - 1]
    fresh = states.next_phase(state, phase.optimizer, phase.labels, before.labels, phase.averaged)
    if job.source and fresh.source:
        source = job.source.next_phase(fresh.source, before, phase, job.experiment)
        fresh = dataclasses.replace(fresh, source=source)
    return devices.put_replicated(job.mesh, fresh)


def training_loss(job: Job, weighing: Collection[Balance] = (Balance.WEIGH,)) -> Loss:
    """The loss per example, by classes where the experiment balances them as `weighing` says."""
    loss, train = job.experiment.loss, job.splits['train']
    if job.experiment.balance not in weighing:
        return loss
    if train.multi_label and isinstance(loss, BinaryCrossEntropy):  # `agreement` wants it
        weights = label_sets.positive_weights(train.labels)
        return dataclasses.replace(loss, positive_weights=weights)
    weights = subsets.balanced_weights(train.labels, job.model.num_classes)
    return ClassWeighted(loss=loss, weights=weights)


def zero_totals(job: Job) -> totals.Sums:
    """The sums of no step."""
    several = job.splits['train'].multi_label
    names = names_of(job.experiment.penalties) + (totals.SOURCE if job.source else ())
    return totals.zeros(job.model.num_classes, names, several_labels=several)


def checkpoint_shapes(job: Job, phase: PhasePlan) -> dict[str, Any]:
    """What a checkpoint of a phase holds: the state and the sums since the last record."""
    shapes = jax.eval_shape(
        lambda p, s: {
            'state': _start_of(job, phase, p, s),
            'totals': zero_totals(job),
        },
        job.params,
        job.stats,
    )
    whole = devices.replicated(job.mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
