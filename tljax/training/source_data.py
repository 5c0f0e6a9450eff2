"""The samples of a source domain: their examples, their head, and their part of the state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np

from tljax import devices, tree
from tljax.config.experiment import ConfigError, Experiment
from tljax.config.phases import PhasePlan
from tljax.data import decoded_images, pipeline
from tljax.metrics.tasks import choice
from tljax.models import stages
from tljax.models.stages import HEAD, Model
from tljax.sample_transfer import Guard, LabelledSource, UnlabelledPool
from tljax.strategies import partition, schedules
from tljax.training import states
from tljax.training.states import SamplesState
from tljax.types import Examples, Params, Reweighing, Rule

STREAM = 0x736F7572  # separates the random draws of samples from those of the target
FIELD = 'config.samples'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """Source-domain samples that are trained together with the target's images.

    Attributes:
        config: the configuration, `config.samples` of the experiment.
        examples: the N samples; their ids are 0 to N - 1.
        model: the target's stages with the samples' head.
        head: the starting values of the samples' head, `{'head': ...}`; {} if samples use the
            target's head.
        weights: the weights at the start of training, [N] float32.
        rows: the number of samples in each batch.
        until: the first step without samples.
        falls: whether the strength of samples falls linearly to 0 at `until`.
        epoch_steps: the number of steps in an epoch of the target.
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
        """The ratio of samples to target images, as configured."""
        return self.config.fraction / (1 - self.config.fraction)

    @property
    def reweighing(self) -> Reweighing | None:
        """The method that changes the weights during training; None for constant weights."""
        return self.config.reweighing

    def strength(self, at: jax.Array) -> jax.Array | float:
        """The factor of the samples' mean loss at step `at`."""
        return self.ratio * (1 - at / self.until if self.falls else 1.0)

    def matter_in(self, phase: PhasePlan) -> bool:
        """Whether samples change a parameter of the target's network in a phase."""
        trainable = phase.cut.trainable
        return bool(trainable - {HEAD} if self.head else trainable)

    def steps_in(self, phase: PhasePlan) -> int:
        """The largest possible number of steps with samples in a phase.

        It is reached if the phase starts at its earliest step.
        """
        steps = min(phase.length, self.until - phase.earliest)
        return max(steps, 0) if self.matter_in(phase) else 0

    def optimizer(self, phase: PhasePlan, experiment: Experiment):
        """The optimizer of the samples' head and the labels of its parameters.

        The rule of the target's head applies.
        """
        path = f'{HEAD}/{next(iter(tree.flatten(self.head[HEAD])))}'
        matching = (r for r in phase.phase.rules if tree.matches(r.pattern, path))
        rule = next(matching, Rule(pattern=HEAD))
        rule = dataclasses.replace(rule if rule.train else Rule(pattern=HEAD), pattern=HEAD)
        labels = partition.assign(self.head, (rule,))
        transform = partition.make(
            experiment.optimizer, (rule,), labels, phase.learning_rate, experiment.clip_norm
        )
        return transform, labels

    def start(self, phase: PhasePlan, experiment: Experiment) -> SamplesState:
        """The samples' part of the state at the start of the first phase."""
        opt = self._init_optimizer(phase, experiment) if self.head else ()
        memory = self.config.start_memory(len(self.examples), self.epoch_steps, self.until)
        weights: Any = self.weights
        return SamplesState(head=self.head, opt=opt, weights=weights, memory=memory)

    def next_phase(
        self, state: SamplesState, before: PhasePlan, phase: PhasePlan, experiment: Experiment
    ) -> SamplesState:
        """The samples' part of the state at the start of a later phase.

        The optimizer's moments are kept; its schedules start again.
        """
        if not self.head:
            return state
        fresh = self._init_optimizer(phase, experiment)
        labels = [self.optimizer(one, experiment)[1] for one in (before, phase)]
        return dataclasses.replace(state, opt=partition.carry(state.opt, fresh, *labels))

    def _init_optimizer(self, phase: PhasePlan, experiment: Experiment) -> Any:
        transform, labels = self.optimizer(phase, experiment)
        return states.init_optimizer(transform, self.head, labels)

    def batches(self, steps: int, *, seed: int, threads: int) -> grain.IterDataset:
        """The rows of each batch that this process reads; see `pipeline.train_batches`."""
        examples = self.examples
        if not self.reweighing:  # samples with weight 0 need not be read
            examples = examples.take(np.flatnonzero(self.weights > 0))
        return pipeline.train_batches(
            examples,
            self.model.preprocessing,
            batch_size=self.rows,
            steps=max(1, min(steps, self.until)),
            seed=seed ^ STREAM,
            process=devices.process(),
            threads=threads,
        )


def make(
    experiment: Experiment,
    model: Model,
    splits: Mapping[str, Examples],
    phases: tuple[PhasePlan, ...],
    key: jax.Array,
    device_count: int,
) -> Samples | None:
    """Sets up the samples of an experiment, with equal weights; None without samples.

    Args:
        experiment: the experiment.
        model: the network.
        splits: the target's splits.
        phases: the phases of training.
        key: the random key for the initial values of the samples' head.
        device_count: the number of devices that batches are split over.

    Raises:
        InputError: the samples cannot be trained together with this target.
    """
    config = experiment.samples
    if config is None:
        return None
    target = splits['train']
    examples = _read(experiment, config, target, model)
    samples_model, head = model, {}
    if config.own_head:
        samples_model, head = _with_head(experiment, model, examples, key)
    until = steps = phases[-1].stop
    if config.until_epochs is not None:
        until = schedules.steps(config.until_epochs, len(target), experiment.batch_size)
    ratio = config.fraction / (1 - config.fraction)
    samples = Samples(
        config=config,
        examples=examples,
        model=samples_model,
        head=head,
        weights=np.ones(len(examples), np.float32),
        rows=max(1, round(experiment.batch_size * ratio / device_count)) * device_count,
        until=min(until, steps),
        falls=config.until_epochs is not None,
        epoch_steps=len(target) / experiment.batch_size,
    )
    _check(samples, splits, phases)
    return samples


def _read(
    experiment: Experiment,
    config: LabelledSource | UnlabelledPool,
    target: Examples,
    model: Model,
) -> Examples:
    """The samples with ids 0 to N - 1, decoded when they are read."""
    examples = config.examples(target, experiment.image_seed)
    gigabytes = experiment.cache_gigabytes
    decoded = decoded_images.wrap({'': examples}, model.preprocessing, gigabytes)['']
    return dataclasses.replace(decoded, ids=np.arange(len(decoded)))


def _with_head(
    experiment: Experiment, model: Model, examples: Examples, key: jax.Array
) -> tuple[Model, Params]:
    """The model with a new head for the samples' classes, and the head's initial values.

    The head has the type of the target's head.
    """
    classes = len(examples.class_names)
    configured = None if isinstance(experiment.head, str) else experiment.head
    task = choice.of(examples)
    outputs = task.outputs(classes)
    head = configured.module(outputs) if configured else experiment.backbone.head(outputs)
    with_head = dataclasses.replace(
        model, stages={**model.stages, HEAD: head}, num_classes=classes, adapters=(), task=task
    )
    params, stats = stages.init(with_head, jax.random.fold_in(key, STREAM), skip=model.names[:-1])
    if stats:
        raise ConfigError(f'{FIELD}: the head has running statistics, wanted {FIELD}.share_head')
    with_head = dataclasses.replace(with_head, adapters=model.adapters)
    return with_head, jax.tree.map(np.asarray, {HEAD: params[HEAD]})


def _check(samples: Samples, splits: Mapping[str, Examples], phases: tuple[PhasePlan, ...]) -> None:
    """Raises: ConfigError: samples have no effect, or something they need is missing."""
    problems = []
    effective = [phase for phase in phases if samples.steps_in(phase)]
    if not effective:
        problems.append(
            'the samples have no effect: all layers that they share with the target are frozen in '
            'every phase; wanted a strategy that trains one of these layers'
        )
    if samples.config.guard is not Guard.OFF and not len(splits['val']):
        problems.append(
            "the guard needs validation images and there are none; wanted these or guard='off'"
        )
    needs_linear_head = samples.reweighing and samples.reweighing.needs_slope
    if needs_linear_head and not _has_trained_linear_head(samples, effective):
        name = type(samples.reweighing).__name__
        problems.append(f'weights={name} needs trained heads of one linear layer')
    if problems:
        raise ConfigError('\n'.join(f'{FIELD}: {line}' for line in problems))


def _has_trained_linear_head(samples: Samples, phases: Sequence[PhasePlan]) -> bool:
    """Whether the head is one linear layer, trained in each of the phases."""
    if set(stages.shapes(samples.model)[0][HEAD]) != {'linear'}:
        return False
    labels = {phase.labels[HEAD]['linear']['kernel'] for phase in phases}
    return partition.FROZEN not in labels
