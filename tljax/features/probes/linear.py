"""Linear layers, scaling of features, accuracy and the checks that all probes share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax.types import Array, InputError


class Linear(NamedTuple):
    """One linear layer or an array of layers; usable as the layer `linear` of a head.

    Attributes:
        kernel: [..., F, K] float32.
        bias: [..., K] float32.
    """

    kernel: jax.Array
    bias: jax.Array

    def logits(self, x: Array) -> jax.Array:
        """Logits [..., N, K] of features [N, F]."""
        with jax.default_matmul_precision('highest'):
            products = jnp.einsum('nf,...fk->...nk', jnp.asarray(x, jnp.float32), self.kernel)
            return products + self.bias[..., None, :]

    def at(self, *index: int) -> 'Linear':
        """One layer of the array."""
        return Linear(self.kernel[index], self.bias[index])

    def params(self) -> dict[str, dict[str, jax.Array]]:
        """The layer as parameters of `layers.ClassifierHead`."""
        return {'linear': {'kernel': self.kernel, 'bias': self.bias}}


class Scaling(NamedTuple):
    """Means and standard deviations of features, [F] each."""

    mean: jax.Array
    std: jax.Array

    def apply(self, x: Array) -> jax.Array:
        """Features [N, F] with mean 0 and standard deviation 1; constant features become 0."""
        return (jnp.asarray(x, jnp.float32) - self.mean[None]) / self.std[None]

    def fold(self, linear: Linear) -> Linear:
        """The layers on raw features that equal the layers `linear` on scaled features."""
        leading = (None,) * (linear.bias.ndim - 1)
        kernel = linear.kernel / self.std[(*leading, slice(None), None)]
        return Linear(kernel, linear.bias - jnp.einsum('f,...fk->...k', self.mean, kernel))


@jax.jit
def scaling(x: Array) -> Scaling:
    """The scaling of features [N, F]; a constant feature has the divisor 1."""
    x = jnp.asarray(x, jnp.float32)
    mean = x.mean(0)
    std = jnp.sqrt(jnp.square(x - mean[None]).mean(0))
    # Rounding gives a constant feature a small standard deviation.
    constant = std <= 1e-6 * jnp.abs(mean)
    return Scaling(mean, jnp.where(constant, 1.0, std))


@jax.jit
def accuracy(logits: jax.Array, labels: Array) -> jax.Array:
    """The share [...] of examples whose label has the largest of the logits [..., N, K].

    A tie counts as wrong, so constant logits and NaN have accuracy 0.
    """
    return (rank(logits, labels) == 0).mean(-1)


def rank(logits: jax.Array, labels: Array) -> jax.Array:
    """The number [..., N] of other classes whose logit is not less than the label's."""
    wanted = jnp.broadcast_to(jnp.asarray(labels)[..., None], (*logits.shape[:-1], 1))
    own = jnp.take_along_axis(logits, wanted, -1)
    return (~(logits < own)).sum(-1) - ~jnp.isnan(own[..., 0])


@jax.jit
def cross_entropy(logits: jax.Array, labels: Array) -> jax.Array:
    """The mean cross-entropy [...] in nats of logits [..., N, K] and labels [N]."""
    wanted = jnp.broadcast_to(jnp.asarray(labels)[..., None], (*logits.shape[:-1], 1))
    own = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted, -1)
    return -own.mean((-1, -2))


def checked(
    x: Any, labels: Any, num_classes: int | None = None, name: str = 'features'
) -> tuple[jax.Array, jax.Array, int]:
    """Checks features and labels and converts them to the types that probes compute with.

    Args:
        x: [N, F], any floating-point type.
        labels: [N] int.
        num_classes: K; None for one more than the largest label.
        name: of the features in error messages.

    Returns:
        [N, F] float32, [N] int32, K.

    Raises:
        InputError: a shape does not fit, features are not finite, or labels are out of range.
    """
    x, labels = jnp.asarray(x, jnp.float32), np.asarray(labels)
    if x.ndim != 2 or labels.ndim != 1 or len(x) != len(labels) or not x.size:
        raise InputError(
            f'{name} are {list(x.shape)} and labels {list(labels.shape)}, wanted [N, F] and [N]'
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f'labels are {labels.dtype}, wanted integers')
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f'labels are {labels.min()} to {labels.max()}, wanted 0 to {classes - 1}')
    if not bool(jnp.isfinite(x).all()):
        bad = int((~jnp.isfinite(x)).any(-1).sum())
        raise InputError(f'{name} of {bad} of {len(x)} examples are not finite')
    return x, jnp.asarray(labels, jnp.int32), classes


def checked_decays(values: Any) -> jax.Array:
    """Weight decays [L] as float32.

    Raises:
        InputError: the shape is another one, or a decay is not finite or not more than 0.
    """
    decays = np.asarray(values, np.float32)
    if decays.ndim != 1 or not decays.size or not (np.isfinite(decays) & (decays > 0)).all():
        raise InputError(f'decays are {decays.tolist()}, wanted values more than 0')
    return jnp.asarray(decays)
