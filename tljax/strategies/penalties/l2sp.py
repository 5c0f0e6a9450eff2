"""Penalties that keep pretrained parameters close to their starting values."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.strategies.penalties import terms
from tljax.types import Needs, Params, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class L2SP:
    """Weight decay towards the starting values, and towards zero in new stages.

    `strength / 2 |w - w0|^2` over the trained leaves of pretrained stages, and `head_strength / 2
    |w|^2` over the trained leaves of new ones. Biases and BatchNorm's scales are included. It
    replaces the optimizer's weight decay, which pulls pretrained leaves towards zero.

    Attributes:
        strength: multiplies the penalty of pretrained stages.
        head_strength: multiplies the penalty of new stages.

    Source: Li, Grandvalet & Davoine 2018, "Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks": L2-SP, alpha and beta.
    """

    strength: float = 0.1
    head_strength: float = 0.01

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return terms.strength_problems(strength=self.strength, head_strength=self.head_strength)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return _obstacle(setting, setting.stages)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(start=True)

    def prepare(self, start: Start) -> Any:
        """Nothing to compute."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        change = terms.change(inputs.trained, inputs.start)
        shared = terms.half_square(change, sorted(inputs.setting.shared))
        new = terms.half_square(inputs.trained, terms.new_stages(inputs.setting))
        return self.strength * shared + self.head_strength * new


@dataclasses.dataclass(slots=True, kw_only=True)
class L2SPFisher:
    """L2-SP with a weight for each parameter: its importance for the upstream task.

    `strength / 2 sum_j F_j (w_j - w0_j)^2` over pretrained stages below the head, and
    `head_strength / 2 |w|^2` over new stages. F is the diagonal of the Fisher information of the
    pretrained network with its upstream head (see `fisher`). It is computed at the start on
    `examples` images of the training split, because the paper's source images are not available.

    Attributes:
        strength: multiplies the penalty of pretrained stages.
        head_strength: multiplies the penalty of new stages.
        examples: training images from which the importance is computed.

    Source: Li, Grandvalet & Davoine 2018: L2-SP-Fisher; Kirkpatrick et al. 2017.
    """

    strength: float = 0.1
    head_strength: float = 0.01
    examples: int = 256

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = terms.strength_problems(strength=self.strength, head_strength=self.head_strength)
        if self.examples < 1:
            problems.append(f'examples is {self.examples}, wanted 1 or more')
        return problems

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        if setting.upstream_classes is None:
            return 'the weights have no upstream head, which gives the likelihoods'
        return _obstacle(setting, setting.stages[:-1])

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(start=True)

    def prepare(self, start: Start) -> Any:
        """The Fisher information of the pretrained stages' trained leaves, `{stage: leaves}`."""
        assert start.upstream is not None
        upstream, last = start.upstream, start.setting.stages[-1]

        def logits(params: Params, x: jax.Array) -> jax.Array:
            return upstream(start.run(params, x, None, last))

        below = {name: leaves for name, leaves in start.params.items() if name != last}
        images = (x[mask] for x, _, mask in start.batches(self.examples))
        information = fisher(logits, below, jnp.concatenate(list(images)), start.key)
        return {
            name: tree.select(leaves, start.trained[name])
            for name, leaves in information.items()
            if name in start.setting.shared
        }

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        change = terms.change(inputs.trained, inputs.start)
        roots = jax.tree.map(jnp.sqrt, prepared)
        scaled = {name: _product(change[name], roots[name]) for name in roots}
        shared = terms.half_square(scaled, sorted(scaled))
        new = terms.half_square(inputs.trained, terms.new_stages(inputs.setting))
        return self.strength * shared + self.head_strength * new


def fisher(
    logits: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    images: jax.Array,
    key: jax.Array,
) -> Params:
    """The diagonal of the Fisher information: the mean squared gradient of the log-likelihood.

    `F_j = 1/N sum_i (d log p(y_i | x_i) / d w_j)^2` with a label y_i for each image that is drawn
    from the model's own p(. | x_i). This estimates the expectation over labels without bias; Li et
    al. compute it as a sum over classes. It is not the "empirical Fisher" of the true labels.

    Args:
        logits: maps parameters and images [1, ...] to [1, S].
        params: the point of evaluation; None marks a leaf to leave out.
        images: [N, ...].
        key: for drawing the labels.

    Returns:
        A tree like `params` of values >= 0.

    Source: Kunstner et al. 2019, "Limitations of the empirical Fisher approximation".
    """

    @jax.jit
    def add(total: Params, params: Params, image: jax.Array, key: jax.Array) -> Params:
        def log_likelihood(params: Params) -> jax.Array:
            log_p = jax.nn.log_softmax(logits(params, image[None])[0].astype(jnp.float32))
            return log_p[jax.random.categorical(key, jax.lax.stop_gradient(log_p))]

        grads = jax.grad(log_likelihood)(params)
        return jax.tree.map(lambda so_far, grad: so_far + grad**2, total, grads)

    # One image at a time, because the square of a batch's gradient is not the sum of squares, and a
    # `lax.map` over images makes gradients of convolutions slow on CPU.
    total = jax.tree.map(jnp.zeros_like, params)
    for index, image in enumerate(images):
        total = add(total, params, image, jax.random.fold_in(key, index))
    return jax.tree.map(lambda leaf: leaf / len(images), total)


def _product(change: Params, roots: Params) -> Params:
    """Products of leaves; None for a leaf that is frozen now (in `change`) or always (`roots`)."""
    return jax.tree.map(
        lambda leaf, root: None if leaf is None or root is None else leaf * root,
        change,
        roots,
        is_leaf=lambda leaf: leaf is None,
    )


def _obstacle(setting: Setting, stages: Sequence[str]) -> str | None:
    if setting.shared & setting.trained & set(stages):
        return None
    return 'no pretrained stage trains'
