"""The predicted duration of trials, from one measured gradient step of each network."""

import dataclasses
import itertools
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax import tree
from tljax.advise.candidates import Candidate
from tljax.advise.tasks import TargetImages
from tljax.data import pipeline
from tljax.features.probes import Linear
from tljax.models import stages
from tljax.training.jobs import Job
from tljax.types import CachePrefix, Params

BACKWARD = 2.0  # times the forward pass: the gradients of the input and of the weights
STEP_FACTOR = 1.3  # of a gradient's time, for the optimizer and the augmentations
COMPILE_FACTOR = 1.5  # of a gradient's compilation, for the same and for tracing
MIN_COMPILE_SECONDS = 1.0
TRIAL_SECONDS = 1.0  # of a trial, besides its steps and its evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """The measured training cost of a network.

    Attributes:
        forward_shares: each stage's share of the operations of the forward pass.
        step_seconds: of a step that trains all stages.
        compile_seconds: of that step.
        gradient_ratios: by stage, the norm of the gradient over the norm of the parameters, as a
            share of the largest (Lee et al. 2023); empty without a fitted head.
    """

    forward_shares: Mapping[str, float]
    step_seconds: float
    compile_seconds: float
    gradient_ratios: Mapping[str, float]

    def relative_step(self, first: str, *, prefix_cached: bool = False) -> float:
        """The cost of a step relative to full fine-tuning.

        Args:
            first: the lowest trained stage.
            prefix_cached: whether the outputs of the frozen stages are cached.
        """
        names = list(self.forward_shares)
        trained = sum(self.forward_shares[name] for name in names[names.index(first) :])
        forward = trained if prefix_cached else 1
        return (forward + BACKWARD * trained) / (1 + BACKWARD)


@dataclasses.dataclass(frozen=True)
class TrialCost:
    """The predicted duration of the trials of a candidate.

    Attributes:
        compile_seconds: once.
        fixed_seconds: of each trial, whatever its length.
        step_seconds: of a step.
        steps: of a full-length trial.
    """

    compile_seconds: float
    fixed_seconds: float
    step_seconds: float
    steps: float

    def trial_seconds(self, stride: int) -> float:
        """Of a compiled trial that takes every `stride`-th step of the schedule."""
        return self.fixed_seconds + self.step_seconds * self.steps / stride


def predict(candidate: Candidate, network: NetworkCost, task: TargetImages) -> TrialCost:
    """Predicts the duration of the trials of a candidate of a network."""
    e = candidate.experiment
    images = len(task.labels) - (task.fold_of == 0).sum()
    cached = not e.augmentations and e.cache_prefix is not CachePrefix.NEVER
    step = network.step_seconds * network.relative_step(candidate.first, prefix_cached=cached)
    if e.samples is not None:
        step /= 1 - e.samples.fraction  # rows of the source domain are added to each batch
    evaluated = len(task.held_out(0)) + (images if cached else 0)
    forward = network.step_seconds / (1 + BACKWARD) * evaluated / e.batch_size
    compiled = 0.4 + 0.6 * network.relative_step(candidate.first)
    return TrialCost(
        compile_seconds=MIN_COMPILE_SECONDS + network.compile_seconds * compiled,
        fixed_seconds=TRIAL_SECONDS + forward,
        step_seconds=step,
        steps=candidate.steps or e.epochs * images / e.batch_size,
    )


def measure(job: Job, head: Linear | None, batches: int = 2) -> NetworkCost:
    """Times the gradient of all parameters on a few training batches.

    Args:
        job: set up for full fine-tuning.
        head: the linear layer fitted to the frozen features, because no gradient passes through a
            head of zeros; None without one.
        batches: how many.
    """
    params, fitted = _with_head(job.params, head)
    preprocessing, rows = job.model.preprocessing, job.experiment.batch_size
    examples = pipeline.train_batches(
        job.splits['train'], preprocessing, batch_size=rows, steps=batches, seed=0
    )

    def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        x = stages.normalise(preprocessing, images)
        logits, _ = stages.run(job.model, params, job.stats, x)
        targets = job.model.targets(labels)
        return job.model.task.default_loss()(logits, targets).mean()

    inputs = [
        (jnp.asarray(batch['input']), jnp.asarray(batch['label']))
        for batch in itertools.islice(examples, batches)
    ]
    started = time.perf_counter()
    gradient = jax.jit(jax.grad(loss)).lower(params, *inputs[0]).compile()
    compile_seconds = time.perf_counter() - started
    seconds, gradients = [], []
    for images, labels in inputs:
        started = time.perf_counter()
        gradients.append(jax.block_until_ready(gradient(params, images, labels)))
        seconds.append(time.perf_counter() - started)
    total = jax.tree.map(lambda *leaves: sum(leaves), *gradients)
    return NetworkCost(
        forward_shares=_forward_shares(job),
        step_seconds=STEP_FACTOR * min(seconds),
        compile_seconds=COMPILE_FACTOR * compile_seconds,
        gradient_ratios=_gradient_ratios(params, total) if fitted else {},
    )


def _with_head(params: Params, head: Linear | None) -> tuple[Params, bool]:
    """The parameters with the fitted head, and whether it fits: it must be one linear layer."""
    if head is None:
        return params, False
    fitted = head.params()
    before = {path: leaf.shape for path, leaf in tree.flatten(params[stages.HEAD]).items()}
    after = {path: leaf.shape for path, leaf in tree.flatten(fitted).items()}
    return ({**params, stages.HEAD: fitted}, True) if before == after else (params, False)


def _gradient_ratios(params: Params, grads: Params) -> dict[str, float]:
    ratios = {
        name: float(optax.tree.norm(grads[name]) / (optax.tree.norm(params[name]) + 1e-12))
        for name in params
        if name != stages.HEAD
    }
    largest = max(ratios.values(), default=0.0) or 1.0
    return {name: ratio / largest for name, ratio in ratios.items()}


def _forward_shares(job: Job) -> dict[str, float]:
    """Each stage's share of the forward pass, by the operations that the compiler counts."""
    names = job.model.names
    x = job.model.preprocessing.first_input(1)
    flops = []
    for name, following in zip(names, [*names[1:], None], strict=True):

        def run(params, stats, x, name=name, following=following):
            return stages.run(job.model, params, stats, x, start=name, stop=following)[0]

        lowered = jax.jit(run).lower(job.params, job.stats, x)
        flops.append(max(float((lowered.cost_analysis() or {}).get('flops', 0.0)), 1.0))
        x = jax.eval_shape(run, job.params, job.stats, x)
    return dict(zip(names, (np.asarray(flops) / sum(flops)).tolist(), strict=True))
