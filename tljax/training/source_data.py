"""The samples of a source domain: their examples, their head, and their part of the state."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np

from tljax import devices, tree
from tljax.config.experiment import ConfigError, Experiment
from tljax.config.phases import PhasePlan
from tljax.data import decoded_images, pipeline
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
    """Samples that are trained together with the target's images.

    Attributes:
        config: what was asked for.
        examples: the N samples; their ids are 0 to N - 1.
        model: the target's stages, with the head of the samples.
        head: the starting values of that head, `{'head': ...}`; {} if it is the target's head.
        weights: [N] float32, at the start of training.
        rows: samples in each batch.
        until: the first step without samples.
        falls: whether the strength of samples falls linearly to 0 at `until`.
        epoch_steps: steps in an epoch of the target.
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
        """The method that changes the weights during training, if there is one."""
        return self.config.reweighing

    def strength(self, at: jax.Array) -> jax.Array | float:
        """The factor of the samples' mean loss at a step."""
        return self.ratio * (1 - at / self.until if self.falls else 1.0)

    def matter_in(self, phase: PhasePlan) -> bool:
        """Whether samples change a parameter of the target's network in a phase."""
        trainable = phase.cut.trainable
        return bool(trainable - {HEAD} if self.head else trainable)

    def steps_in(self, phase: PhasePlan) -> int:
        """The largest number of steps of a phase that can train on samples.

        The phase has this many if it starts at its earliest step.
        """
        left = min(phase.length, self.until - phase.earliest)
        return max(left, 0) if self.matter_in(phase) else 0

    def optimizer(self, phase: PhasePlan, experiment: Experiment):
        """The optimizer of the samples' head and the labels of its leaves.

        It follows the rule of the target's head.
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
        """The samples' part of the state at the start of a further phase.

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
        kept = self.examples
        if not self.reweighing:  # samples of weight 0 need not be read
            kept = kept.take(np.flatnonzero(self.weights > 0))
        return pipeline.train_batches(
            kept,
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
    """Resolves the samples of an experiment, with equal weights; None without samples.

    Args:
        experiment: what was asked for.
        model: the network.
        splits: the target's splits.
        phases: the phases of training.
        key: the key of the initial values of the samples' head.
        device_count: the number of devices that batches are split over.

    Raises:
        InputError: the samples cannot be trained together with this target.
    """
    config = experiment.samples
    if config is None:
        return None
    target = splits['train']
    examples = config.examples(target, experiment.seed)
    (examples,) = decoded_images.wrap(
        {'': examples}, model.preprocessing, experiment.cache_gigabytes
    ).values()
    examples = dataclasses.replace(examples, ids=np.arange(len(examples)))
    samples_model, head = model, {}
    if config.own_head:
        samples_model, head = _with_head(experiment, model, examples, key)
    until, steps = phases[-1].stop, phases[-1].stop
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


def _with_head(
    experiment: Experiment, model: Model, examples: Examples, key: jax.Array
) -> tuple[Model, Params]:
    """The model with a head of the same form for the samples' classes, and its initial values."""
    classes = len(examples.class_names)
    chosen = None if isinstance(experiment.head, str) else experiment.head
    head = chosen.module(classes) if chosen else experiment.backbone.head(classes)
    other = dataclasses.replace(
        model, stages={**model.stages, HEAD: head}, num_classes=classes, adapters=()
    )
    params, stats = stages.init(other, jax.random.fold_in(key, STREAM), skip=model.names[:-1])
    if stats:
        raise ConfigError(f'{FIELD}: the head has running statistics, wanted {FIELD}.share_head')
    other = dataclasses.replace(other, adapters=model.adapters)
    return other, jax.tree.map(np.asarray, {HEAD: params[HEAD]})


def _check(samples: Samples, splits: Mapping[str, Examples], phases: tuple[PhasePlan, ...]) -> None:
    """Raises: ConfigError: samples have no effect, or what they need is missing."""
    problems = []
    effective = [phase for phase in phases if samples.steps_in(phase)]
    if not effective:
        problems.append(
            'the samples have no effect: all layers that they share with the data are frozen in '
            'every phase; wanted a strategy that trains one of them'
        )
    if samples.config.guard is not Guard.OFF and not len(splits['val']):
        problems.append(
            "guard is on and there are no validation images, wanted them, or guard 'off'"
        )
    if samples.reweighing and samples.reweighing.needs_slope:
        linear = set(stages.shapes(samples.model)[0][HEAD]) == {'linear'}
        if not linear or partition.FROZEN in {
            p.labels[HEAD]['linear']['kernel'] for p in effective
        }:
            name = type(samples.reweighing).__name__
            problems.append(f'weights is {name}, wanted heads of one linear layer that train')
    if problems:
        raise ConfigError('\n'.join(f'{FIELD}: {line}' for line in problems))
