"""Penalties on parameters: what came with the weights is drawn back to where it started."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.strategies.penalties import rows
from tljax.types import Needs, Params, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class L2SP:
    """Weight decay towards the starting point, and towards zero for stages that are new.

    `strength / 2 |w - w0|^2` over the trained leaves of stages that came with the weights, and
    `head_strength / 2 |w|^2` over those of the others. Biases and BatchNorm's scales count as
    all leaves do. It takes the place of the optimizer's weight decay, which pulls to zero.

    Source: Li, Grandvalet & Davoine 2018, "Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks": L2-SP, alpha and beta.
    """

    strength: float = 0.1
    head_strength: float = 0.01

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _problems(self.strength, self.head_strength)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return _obstacle(setting, setting.stages)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(start=True)

    def prepare(self, start: Start) -> Any:
        """Nothing."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        moved = rows.apart(inputs.trained, inputs.start)
        shared = rows.half_square(moved, sorted(inputs.setting.shared))
        new = rows.half_square(inputs.trained, rows.new_stages(inputs.setting))
        return self.strength * shared + self.head_strength * new


@dataclasses.dataclass(slots=True, kw_only=True)
class L2SPFisher:
    """L2-SP in which a leaf's value is held the more, the more the source task hangs on it.

    `strength / 2 sum_j F_j (w_j - w0_j)^2` over shared stages below the head, `head_strength / 2
    |w|^2` over new ones. F is the diagonal of the Fisher information of the network that the
    weights came with, its own head included, at the start, on `examples` images of the training
    split: the source images, which the paper takes, are not there. See `fisher`.

    Source: Li, Grandvalet & Davoine 2018: L2-SP-Fisher; Kirkpatrick et al. 2017.
    """

    one_label: ClassVar[bool] = True

    strength: float = 0.1
    head_strength: float = 0.01
    examples: int = 256

    def problems(self) -> list[str]:
        """What `validate` reports."""
        problems = _problems(self.strength, self.head_strength)
        if self.examples < 1:
            problems.append(f'examples is {self.examples}, wanted 1 or more')
        return problems

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        if setting.upstream_classes is None:
            return 'the weights have no head of the source task to take likelihoods from'
        return _obstacle(setting, setting.stages[:-1])

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(start=True)

    def prepare(self, start: Start) -> Any:
        """The Fisher information of the shared stages' trained leaves; `{stage: leaves}`."""
        assert start.upstream is not None
        upstream, last = start.upstream, start.setting.stages[-1]

        def logits(params: Params, x: jax.Array) -> jax.Array:
            return upstream(start.run(params, x, None, last))

        below = {name: leaves for name, leaves in start.params.items() if name != last}
        images = (x[mask] for x, _, mask in start.batches(self.examples))
        found = fisher(logits, below, jnp.concatenate(list(images)), start.key)
        kept = [name for name in found if name in start.setting.shared]
        return {name: tree.select(found[name], start.trained[name]) for name in kept}

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        moved = rows.apart(inputs.trained, inputs.start)
        roots = jax.tree.map(jnp.sqrt, prepared)
        scaled = {name: _times(moved[name], roots[name]) for name in roots}
        shared = rows.half_square(scaled, sorted(scaled))
        new = rows.half_square(inputs.trained, rows.new_stages(inputs.setting))
        return self.strength * shared + self.head_strength * new


def fisher(
    logits: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    images: jax.Array,
    key: jax.Array,
) -> Params:
    """The diagonal of the Fisher information: the mean squared slope of the log-likelihood.

    `F_j = 1/N sum_i (d log p(y_i | x_i) / d w_j)^2`, with one label y_i drawn from the model's own
    p(. | x_i) for each image: an unbiased estimate of the expectation over labels, which Li et al.
    write out as a sum over classes. It is not the "empirical Fisher" of the true labels.

    Args:
        logits: from parameters and images [1, ...] to [1, S].
        params: where the slope is taken; None marks a leaf that is left out.
        images: [N, ...].
        key: of the labels.

    Returns:
        A tree like `params`, 0 or more everywhere.

    Source: Kunstner et al. 2019, "Limitations of the empirical Fisher approximation".
    """

    @jax.jit
    def add(total: Params, params: Params, image: jax.Array, key: jax.Array) -> Params:
        def log_likelihood(params: Params) -> jax.Array:
            log_p = jax.nn.log_softmax(logits(params, image[None])[0].astype(jnp.float32))
            return log_p[jax.random.categorical(key, jax.lax.stop_gradient(log_p))]

        slopes = jax.grad(log_likelihood)(params)
        return jax.tree.map(lambda so_far, slope: so_far + slope**2, total, slopes)

    # One image at a time: squares of a batch's slopes are not sums of squares, and a map over
    # images would make convolutions' gradients slow on CPU.
    total = jax.tree.map(jnp.zeros_like, params)
    for index, image in enumerate(images):
        total = add(total, params, image, jax.random.fold_in(key, index))
    return jax.tree.map(lambda leaf: leaf / len(images), total)


def _times(moved: Params, roots: Params) -> Params:
    """Products leaf by leaf; a hole in either stays one: what is frozen now, or in every phase."""
    return jax.tree.map(
        lambda leaf, root: None if leaf is None or root is None else leaf * root,
        moved,
        roots,
        is_leaf=lambda leaf: leaf is None,
    )


def _obstacle(setting: Setting, stages: Sequence[str]) -> str | None:
    if setting.shared & setting.trained & set(stages):
        return None
    return 'no stage that came with the weights trains'


def _problems(strength: float, head_strength: float) -> list[str]:
    problems = rows.strength_problems(strength=strength)
    if not 0 <= head_strength < math.inf:
        problems.append(f'head_strength is {head_strength}, wanted 0 or more, and finite')
    return problems
