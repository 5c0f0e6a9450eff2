"""What candidates will cost, from one measured gradient, and what that gradient says of stages."""

import dataclasses
import itertools
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax import tree
from tljax.data import pipeline
from tljax.features.probes import Linear
from tljax.models import stages
from tljax.training import batch_inputs
from tljax.training.jobs import Job
from tljax.types import Params

BACKWARD = 2.0  # times the forward pass: one product for the input's gradient, one for the weights'
STEP_SHARE = 1.3  # of a gradient's time: the optimizer and the augmentations
COMPILE_SHARE = 1.5  # of a gradient's compilation: those, and tracing a run
LEAST_COMPILE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Price:
    """What training a network takes, measured where it was measured once.

    Attributes:
        share: by stage, its part of the forward pass's operations.
        step_seconds: of a step that trains everything.
        compile_seconds: of that step.
        ratios: by stage, the norm of the gradient over that of the parameters, as a share of the
            largest (Lee et al. 2023); empty where the head was not known.
    """

    share: Mapping[str, float]
    step_seconds: float
    compile_seconds: float
    ratios: Mapping[str, float]

    def part(self, first: str, *, ahead: bool = False) -> float:
        """What a step costs that trains from a stage on, beside one that trains everything.

        `ahead` says whether the stages below were run before.
        """
        stages = list(self.share)
        trained = sum(self.share[name] for name in stages[stages.index(first) :])
        return ((trained if ahead else 1) + BACKWARD * trained) / (1 + BACKWARD)

    def step(self, first: str, *, ahead: bool = False) -> float:
        """Seconds of a step that trains from a stage on."""
        return self.step_seconds * self.part(first, ahead=ahead)

    def compilation(self, first: str) -> float:
        """Seconds until such a step can run, and evaluate."""
        return LEAST_COMPILE_SECONDS + self.compile_seconds * (0.4 + 0.6 * self.part(first))


def measure(job: Job, head: Linear | None, batches: int = 2) -> Price:
    """Takes the gradient of the whole network on some batches, by the clock.

    Args:
        job: set up for training everything.
        head: the linear layer that was read out of the frozen features; with a head of zeros no
            gradient would reach the stages below. None where it is not known.
        batches: of training images.
    """
    params, known = _with_head(job.params, head)
    examples = job.splits['train']
    shown = job.model.preprocessing
    rows = job.experiment.batch_size
    seen = pipeline.train_batches(examples, shown, batch_size=rows, steps=batches, seed=0)

    def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        x = stages.normalise(shown, images)
        logits, _ = stages.run(job.model, params, job.stats, x)
        targets = batch_inputs.targets_of(labels, job.model.num_classes)
        return optax.softmax_cross_entropy(logits, targets).mean()

    shown_batches = [
        (jnp.asarray(batch['image']), jnp.asarray(batch['label']))
        for batch in itertools.islice(seen, batches)
    ]
    begun = time.perf_counter()
    compiled = jax.jit(jax.grad(loss)).lower(params, *shown_batches[0]).compile()
    compile_seconds = time.perf_counter() - begun
    seconds, found = [], []
    for images, labels in shown_batches:
        started = time.perf_counter()
        found.append(jax.block_until_ready(compiled(params, images, labels)))
        seconds.append(time.perf_counter() - started)
    total = jax.tree.map(lambda *leaves: sum(leaves), *found)
    return Price(
        share=_shares(job),
        step_seconds=STEP_SHARE * min(seconds),
        compile_seconds=COMPILE_SHARE * compile_seconds,
        ratios=_ratios(params, total) if known else {},
    )


def _with_head(params: Params, head: Linear | None) -> tuple[Params, bool]:
    """The parameters with the head put in its place, where the head is a linear layer alone."""
    if head is None:
        return params, False
    given = {stages.HEAD: head.params()}
    ours = {path: leaf.shape for path, leaf in tree.flatten(params[stages.HEAD]).items()}
    theirs = {path: leaf.shape for path, leaf in tree.flatten(given[stages.HEAD]).items()}
    return ({**params, **given}, True) if ours == theirs else (params, False)


def _ratios(params: Params, grads: Params) -> dict[str, float]:
    found = {
        name: float(optax.tree.norm(grads[name]) / (optax.tree.norm(params[name]) + 1e-12))
        for name in params
        if name != stages.HEAD
    }
    largest = max(found.values(), default=0.0) or 1.0
    return {name: value / largest for name, value in found.items()}


def _shares(job: Job) -> dict[str, float]:
    """Each stage's part of the forward pass, by the operations that the compiler counts."""
    names = job.model.names
    side, channels = job.model.preprocessing.size_px, len(job.model.preprocessing.mean)
    x: jax.ShapeDtypeStruct = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    flops = []
    for name, following in zip(names, [*names[1:], None], strict=True):

        def run(params, stats, x, name=name, following=following):
            return stages.run(job.model, params, stats, x, start=name, stop=following)[0]

        lowered = jax.jit(run).lower(job.params, job.stats, x)
        flops.append(max(float((lowered.cost_analysis() or {}).get('flops', 0.0)), 1.0))
        x = jax.eval_shape(run, job.params, job.stats, x)
    return dict(zip(names, (np.asarray(flops) / sum(flops)).tolist(), strict=True))
