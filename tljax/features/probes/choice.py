"""The strength of a probe's regularisation, chosen on validation; and the depth to probe at."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features.probes.lbfgs import Fit, logistic
from tljax.features.probes.linear import Linear, Scaling, accuracy, checked, scaling
from tljax.types import Array, InputError

DECAYS = tuple(np.logspace(-5, 1, 13).tolist())
PADDED_VALUES = 2**22  # of features

# `(x, labels, strengths, num_classes=K)` to kernels [L, F, K] and biases [L, K].
Fitter = Callable[..., Linear | Fit]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """A linear layer and how it was chosen.

    Attributes:
        linear: of plain features, fitted to all that was given.
        strength: the chosen one.
        strengths: [L], that were tried.
        val_accuracy: [L], on validation, of layers that were fitted without it.
    """

    linear: Linear
    strength: float
    strengths: np.ndarray
    val_accuracy: np.ndarray

    @property
    def best_val_accuracy(self) -> float:
        """That of the chosen strength."""
        return float(self.val_accuracy.max())


def choose(
    train: tuple[Array, Array],
    val: tuple[Array, Array],
    *,
    fitter: Fitter = logistic,
    strengths: Sequence[float] = DECAYS,
    num_classes: int | None = None,
    standardise: bool = True,
    refit: bool = True,
) -> Probe:
    """Fits all strengths to `train`, takes the best on `val`, and fits that to both.

    Of strengths that are as good, the largest is taken.

    Args:
        train: features [N, F] and labels [N].
        val: likewise.
        fitter: `logistic`, `ridge_classifier`, `discriminant`, or another function like them.
        strengths: [L], of which larger ones regularise more.
        num_classes: K; None for one more than the largest label.
        standardise: gives every feature a standard deviation of 1 before anything is fitted.
        refit: to both; False leaves the best that was fitted to `train`.

    Raises:
        InputError: see `linear.checked` and the fitter.
    """
    classes = num_classes or 1 + max(int(np.max(np.asarray(part[1]))) for part in (train, val))
    x, labels, _ = checked(*train, classes)
    val_x, val_labels, _ = checked(*val, classes, name='validation features')
    if x.shape[1] != val_x.shape[1]:
        raise InputError(f'features are {x.shape[1]} for training, {val_x.shape[1]} for validation')
    tried = np.asarray(strengths, np.float32)
    found = _fit(fitter, x, labels, tried, classes, standardise)
    scores = np.asarray(accuracy(found.logits(val_x), val_labels))
    best = max(range(len(tried)), key=lambda i: (scores[i], tried[i]))
    linear = found.at(best)
    if refit:
        both, all_labels = jnp.concatenate([x, val_x]), jnp.concatenate([labels, val_labels])
        one = tried[best : best + 1]
        linear = _fit(fitter, both, all_labels, one, classes, standardise).at(0)
    return Probe(linear=linear, strength=float(tried[best]), strengths=tried, val_accuracy=scores)


def by_stage(
    train: Mapping[str, Array],
    labels: Array,
    val: Mapping[str, Array],
    val_labels: Array,
    **options: Any,
) -> dict[str, Probe]:
    """A probe of every stage: which depth transfers best?

    Args:
        train: features [N, F] by stage; F may differ.
        labels: [N].
        val: features [M, F] of the same stages.
        val_labels: [M].
        **options: of `choose`.

    Raises:
        InputError: the stages differ; see `choose`.
    """
    same_stages(train, val)
    widest = max(np.shape(x)[-1] for x in train.values())
    # Columns of zeros make the stages one program, which pays where compiling takes the time.
    width = widest if len(labels) * widest <= PADDED_VALUES else 0
    found = {}
    for stage, x in train.items():
        size = np.shape(x)[-1]
        parts = (_widened(x, width), labels), (_widened(val[stage], width), val_labels)
        probe = choose(*parts, **options)
        linear = Linear(probe.linear.kernel[:size], probe.linear.bias)
        found[stage] = dataclasses.replace(probe, linear=linear)
    return found


def _widened(x: Array, width: int) -> jax.Array:
    x = jnp.asarray(x, jnp.float32)
    return jnp.pad(x, ((0, 0), (0, max(0, width - x.shape[1]))))


def same_stages(train: Mapping[str, Any], val: Mapping[str, Any]) -> None:
    """Raises an `InputError` where validation has features of other stages."""
    if not train or list(train) != list(val):
        raise InputError(f'stages are {list(train)} for training, {list(val)} for validation')


def _fit(
    fitter: Fitter, x: Array, labels: Array, strengths: np.ndarray, classes: int, standardise: bool
) -> Linear:
    scale: Scaling | None = scaling(x) if standardise else None
    found = fitter(scale.apply(x) if scale else x, labels, strengths, num_classes=classes)
    linear = found.linear if isinstance(found, Fit) else found
    return scale.fold(linear) if scale else linear
