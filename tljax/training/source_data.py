"""A source of samples made ready: its examples, its head, and its part of the training state."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np

from tljax import tree
from tljax.config.experiment import ConfigError, Experiment
from tljax.config.phases import PhasePlan
from tljax.data import decoded_images, pipeline, subsets, unlabelled
from tljax.models import stages
from tljax.models.stages import HEAD, Model
from tljax.sample_transfer import Guard, LabelledSource, UnlabelledPool
from tljax.strategies import partition, schedules
from tljax.strategies.cut import find_cut
from tljax.training import states
from tljax.training.states import SourceState
from tljax.types import BadFiles, Examples, Params, Reweighing, Rule

STREAM = 0x736F7572  # what is drawn for a source is not what is drawn for the target
FIELD = 'config.samples'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sourced:
    """A source beside a target.

    Attributes:
        config: what was asked for.
        examples: N of them; their ids count them, from 0.
        model: the target's stages, with the head that the source's rows go through.
        head: where that head starts, `{'head': ...}`; {} if it is the target's.
        weights: [N] float32, as training starts.
        rows: of a step.
        until: the first step without them.
        falls: whether they count ever less until then.
        epoch_steps: in an epoch of the target.
    """

    config: LabelledSource | UnlabelledPool
    examples: Examples
    model: Model
    head: Params
    weights: np.ndarray
    rows: int
    until: int
    falls: bool
    epoch_steps: float

    @property
    def ratio(self) -> float:
        """Of source rows to target rows, as the config says it."""
        return self.config.fraction / (1 - self.config.fraction)

    @property
    def reweighing(self) -> Reweighing | None:
        """What changes the weights in training, if anything."""
        weighing = self.config.weights if isinstance(self.config, LabelledSource) else None
        return weighing if isinstance(weighing, Reweighing) else None

    def strength(self, at: jax.Array) -> jax.Array | float:
        """What the mean loss of a step's rows is multiplied by."""
        fallen = 1 - at / self.until if self.falls else 1.0
        return self.ratio * fallen

    def counts(self, phase: PhasePlan, experiment: Experiment) -> bool:
        """Whether the source changes anything of the network in a phase."""
        trainable = find_cut(self.model, phase.labels, experiment.norm).trainable
        return bool(trainable if not self.head else trainable - {HEAD})

    def steps_of(self, phase: PhasePlan, experiment: Experiment) -> int:
        """The most steps of a phase that train on the source's rows.

        It has more of them where an earlier phase runs out of patience, and it begins sooner.
        """
        left = min(phase.length, self.until - phase.earliest)
        return max(left, 0) if self.counts(phase, experiment) else 0

    def optimizer(self, phase: PhasePlan, experiment: Experiment):
        """Of the source's own head, by the rule of the target's, and the labels of its leaves."""
        path = f'{HEAD}/{next(iter(tree.flatten(self.head[HEAD])))}'
        rules = (r for r in phase.phase.rules if tree.matches(r.pattern, path))
        own = next(rules, Rule(pattern=HEAD))
        own = dataclasses.replace(own if own.train else Rule(pattern=HEAD), pattern=HEAD)
        labels = partition.assign(self.head, (own,))
        transform = partition.make(
            experiment.optimizer, (own,), labels, phase.learning_rate, experiment.clip_norm
        )
        return transform, labels

    def start(self, phase: PhasePlan, experiment: Experiment) -> SourceState:
        """Its part of the state at the start of the first phase."""
        opt = ()
        if self.head:
            opt = states.init_optimizer(*self._on_head(phase, experiment))
        memory = {}
        if self.reweighing:
            memory = self.reweighing.begin(len(self.examples), self.epoch_steps, self.until)
        if isinstance(self.config, UnlabelledPool):
            memory = {'label': np.full(len(self.examples), -1, np.int32)}
        weights: Any = self.weights
        return SourceState(head=self.head, opt=opt, weights=weights, memory=memory)

    def next_phase(
        self, source: SourceState, before: PhasePlan, phase: PhasePlan, experiment: Experiment
    ) -> SourceState:
        """Its part at the start of a further phase; moments go on, schedules start anew."""
        if not self.head:
            return source
        fresh = states.init_optimizer(*self._on_head(phase, experiment))
        labels = [self.optimizer(one, experiment)[1] for one in (before, phase)]
        return dataclasses.replace(source, opt=partition.carry(source.opt, fresh, *labels))

    def _on_head(self, phase: PhasePlan, experiment: Experiment):
        transform, labels = self.optimizer(phase, experiment)
        return transform, self.head, labels

    def batches(
        self, steps: int, *, seed: int, process: tuple[int, int], threads: int
    ) -> grain.IterDataset:
        """Batches of the examples that count, as `pipeline.train_batches` gives them."""
        kept = self.examples
        if not self.reweighing:  # what counts nothing need not be read
            kept = kept.take(np.flatnonzero(self.weights > 0))
        return pipeline.train_batches(
            kept,
            self.model.preprocessing,
            batch_size=self.rows,
            steps=max(1, min(steps, self.until)),
            seed=seed ^ STREAM,
            process=process,
            threads=threads,
        )


def make(
    experiment: Experiment,
    model: Model,
    splits: Mapping[str, Examples],
    phases: tuple[PhasePlan, ...],
    key: jax.Array,
    devices: int,
) -> Sourced | None:
    """The source of an experiment, its weights even; None where there is none.

    Args:
        experiment: with or without `samples`.
        model: the network.
        splits: the target's.
        phases: of training.
        key: of the head's initial values.
        devices: that rows are split over.

    Raises:
        InputError: it cannot be used beside this target.
    """
    config = experiment.samples
    if config is None:
        return None
    target = splits['train']
    read = _labelled if isinstance(config, LabelledSource) else _pool
    examples = read(config, target, experiment)  # type: ignore[arg-type]
    (examples,) = decoded_images.wrap(
        {'': examples}, model.preprocessing, experiment.cache_gigabytes
    ).values()
    examples = dataclasses.replace(examples, ids=np.arange(len(examples)))
    own_head = isinstance(config, LabelledSource) and not config.share_head
    source_model, head = _with_head(experiment, model, examples, key) if own_head else (model, {})
    until, steps = phases[-1].stop, phases[-1].stop
    if config.until_epochs is not None:
        until = schedules.steps(config.until_epochs, len(target), experiment.batch_size)
    ratio = config.fraction / (1 - config.fraction)
    sourced = Sourced(
        config=config,
        examples=examples,
        model=source_model,
        head=head,
        weights=np.ones(len(examples), np.float32),
        rows=max(1, round(experiment.batch_size * ratio / devices)) * devices,
        until=min(until, steps),
        falls=config.until_epochs is not None,
        epoch_steps=len(target) / experiment.batch_size,
    )
    _check(sourced, experiment, splits, phases)
    return sourced


def _labelled(source: LabelledSource, target: Examples, experiment: Experiment) -> Examples:
    """The labelled examples; with one head, by the target's labels."""
    found = source.data.splits()['train']
    if found.multi_label or target.multi_label:
        raise ConfigError(f'{FIELD}: images with several labels, wanted one each, in both sets')
    if source.per_class is not None:
        found = found.take(subsets.per_class(found.labels, source.per_class, experiment.seed))
    if not source.share_head:
        return found
    names = target.class_names
    unknown = [name for name in found.class_names if name not in names]
    if unknown:
        raise ConfigError(
            f'{FIELD}.share_head is on and the source has classes {unknown}, wanted some of '
            f'the target’s, {list(names)}'
        )
    numbers = np.array([names.index(name) for name in found.class_names], np.int32)
    return dataclasses.replace(found, labels=numbers[found.labels], class_names=names)


def _pool(source: UnlabelledPool, target: Examples, experiment: Experiment) -> Examples:
    """The images without their labels, if they had any."""
    if target.multi_label:
        raise ConfigError(
            f'{FIELD}: a pool is labelled with one label an image, the target has sets'
        )
    if source.data is not None:
        found = source.data.splits()['train']
    else:
        found = unlabelled.read(source.paths, BadFiles.ERROR)
    labels = np.zeros(len(found), np.int32)
    return dataclasses.replace(found, labels=labels, class_names=target.class_names)


def _with_head(
    experiment: Experiment, model: Model, examples: Examples, key: jax.Array
) -> tuple[Model, Params]:
    """The model with a head of the same form for the source's classes, and where that starts."""
    classes = len(examples.class_names)
    chosen = None if isinstance(experiment.head, str) else experiment.head
    head = chosen.module(classes) if chosen else experiment.backbone.head(classes)
    own = dataclasses.replace(
        model, stages={**model.stages, HEAD: head}, num_classes=classes, adapters=()
    )
    params, stats = stages.init(own, jax.random.fold_in(key, STREAM), skip=model.names[:-1])
    if stats:
        raise ConfigError(f'{FIELD}: the head has running statistics, wanted {FIELD}.share_head')
    own = dataclasses.replace(own, adapters=model.adapters)
    return own, jax.tree.map(np.asarray, {HEAD: params[HEAD]})


def _check(
    sourced: Sourced,
    experiment: Experiment,
    splits: Mapping[str, Examples],
    phases: tuple[PhasePlan, ...],
) -> None:
    """Raises: ConfigError: the source could change nothing, or be judged by nothing."""
    found = []
    effective = [phase for phase in phases if sourced.steps_of(phase, experiment)]
    if not effective:
        found.append('it has no effect: in no phase does anything train that it shares')
    if sourced.config.guard is not Guard.OFF and not len(splits['val']):
        found.append("guard is on and there are no validation images, wanted them, or guard 'off'")
    if sourced.reweighing and sourced.reweighing.needs_slope:
        linear = set(stages.shapes(sourced.model)[0][HEAD]) == {'linear'}
        if not linear or partition.FROZEN in {
            p.labels[HEAD]['linear']['kernel'] for p in effective
        }:
            name = type(sourced.reweighing).__name__
            found.append(f'weights is {name}, wanted heads of one linear layer that train')
    if found:
        raise ConfigError('\n'.join(f'{FIELD}: {line}' for line in found))
