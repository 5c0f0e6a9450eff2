"""What every probe gives: a linear layer, and what it is worth."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax.types import Array, InputError


class Linear(NamedTuple):
    """One linear layer, or many alike, to be used as the layer `linear` of a head.

    Attributes:
        kernel: [..., F, K] float32.
        bias: [..., K] float32.
    """

    kernel: jax.Array
    bias: jax.Array

    def logits(self, x: Array) -> jax.Array:
        """[N, F] to [..., N, K]."""
        with jax.default_matmul_precision('highest'):
            products = jnp.einsum('nf,...fk->...nk', jnp.asarray(x, jnp.float32), self.kernel)
            return products + self.bias[..., None, :]

    def at(self, *index: int) -> 'Linear':
        """One of many."""
        return Linear(self.kernel[index], self.bias[index])

    def params(self) -> dict[str, dict[str, jax.Array]]:
        """As the parameters of the stage `head` of `layers.ClassifierHead`."""
        return {'linear': {'kernel': self.kernel, 'bias': self.bias}}


class Scaling(NamedTuple):
    """Means and standard deviations of features, [F] each."""

    mean: jax.Array
    std: jax.Array

    def apply(self, x: Array) -> jax.Array:
        """[N, F] to the same with mean 0 and standard deviation 1, where it was not constant."""
        return (jnp.asarray(x, jnp.float32) - self.mean[None]) / self.std[None]

    def fold(self, linear: Linear) -> Linear:
        """Layers that make of plain features what `linear` makes of scaled ones."""
        many = (None,) * (linear.bias.ndim - 1)
        kernel = linear.kernel / self.std[(*many, slice(None), None)]
        return Linear(kernel, linear.bias - jnp.einsum('f,...fk->...k', self.mean, kernel))


@jax.jit
def scaling(x: Array) -> Scaling:
    """The scaling of features [N, F]; a feature that is constant keeps its size."""
    x = jnp.asarray(x, jnp.float32)
    mean = x.mean(0)
    std = jnp.sqrt(jnp.square(x - mean[None]).mean(0))
    # What is left of a constant by rounding is no variation.
    constant = std <= 1e-6 * jnp.abs(mean)
    return Scaling(mean, jnp.where(constant, 1.0, std))


@jax.jit
def accuracy(logits: jax.Array, labels: Array) -> jax.Array:
    """The share of examples whose label has the largest logit, [..., N, K] and [N] to [...].

    Ties count against it, so that constant logits and those that are not numbers are never right.
    """
    return (rank(logits, labels) == 0).mean(-1)


def rank(logits: jax.Array, labels: Array) -> jax.Array:
    """How many other classes are at least as likely as the right one, [..., N]."""
    wanted = jnp.broadcast_to(jnp.asarray(labels)[..., None], (*logits.shape[:-1], 1))
    own = jnp.take_along_axis(logits, wanted, -1)
    return (~(logits < own)).sum(-1) - ~jnp.isnan(own[..., 0])


@jax.jit
def cross_entropy(logits: jax.Array, labels: Array) -> jax.Array:
    """The mean over examples in nats, [..., N, K] and [N] to [...]."""
    wanted = jnp.broadcast_to(jnp.asarray(labels)[..., None], (*logits.shape[:-1], 1))
    own = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted, -1)
    return -own.mean((-1, -2))


def checked(
    x: Any, labels: Any, num_classes: int | None = None, name: str = 'features'
) -> tuple[jax.Array, jax.Array, int]:
    """Features and labels as probes compute with them.

    Args:
        x: [N, F], any floating-point type.
        labels: [N] int.
        num_classes: K; None for one more than the largest label.
        name: of the features, for messages.

    Returns:
        [N, F] float32, [N] int32, K.

    Raises:
        InputError: other shapes, features that are not finite, labels out of range.
    """
    x, told = jnp.asarray(x, jnp.float32), np.asarray(labels)
    if x.ndim != 2 or told.ndim != 1 or len(x) != len(told) or not x.size:
        raise InputError(
            f'{name} are {list(x.shape)} and labels {list(told.shape)}, wanted [N, F] and [N]'
        )
    if not np.issubdtype(told.dtype, np.integer):
        raise InputError(f'labels are {told.dtype}, wanted integers')
    known = int(told.max()) + 1 if num_classes is None else num_classes
    if told.min() < 0 or told.max() >= known:
        raise InputError(f'labels are {told.min()} to {told.max()}, wanted 0 to {known - 1}')
    if not bool(jnp.isfinite(x).all()):
        bad = int((~jnp.isfinite(x)).any(-1).sum())
        raise InputError(f'{name} of {bad} of {len(x)} examples are not finite')
    return x, jnp.asarray(told, jnp.int32), known


def checked_strengths(values: Any, name: str, least: float = 0.0) -> jax.Array:
    """Strengths of a regularisation, [L] float32, each more than `least`.

    Raises:
        InputError: another shape, or a value that is not.
    """
    found = np.asarray(values, np.float32)
    if found.ndim != 1 or not found.size or not (np.isfinite(found) & (found > least)).all():
        raise InputError(f'{name} are {found.tolist()}, wanted values more than {least:g}')
    return jnp.asarray(found)
