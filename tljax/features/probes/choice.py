"""Selecting the regularisation strength of a probe on validation; probes of several stages."""

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
PADDED_VALUES = 2**22  # the most feature values that `by_stage` pads to one width

# Called as `fitter(x, labels, strengths, num_classes=K)`: kernels [L, F, K] and biases [L, K].
Fitter = Callable[..., Linear | Fit]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """A linear layer and the selection of its regularisation strength.

    Attributes:
        linear: the layer on raw features.
        strength: the selected strength.
        strengths: [L], the candidates.
        val_accuracy: [L], validation accuracy of each candidate, fitted to training features only.
    """

    linear: Linear
    strength: float
    strengths: np.ndarray
    val_accuracy: np.ndarray

    @property
    def best_val_accuracy(self) -> float:
        """The validation accuracy of the selected strength."""
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
    """Fits every strength to `train`, selects the best on `val`, and refits it to both.

    If several strengths are equally good, the largest is selected.

    Args:
        train: features [N, F] and labels [N].
        val: features [M, F] and labels [M].
        fitter: `logistic`, `ridge_classifier`, `discriminant`, or a function with their signature.
        strengths: [L]; larger ones regularise more.
        num_classes: K; None for one more than the largest label.
        standardise: scale every feature to standard deviation 1 before fitting.
        refit: refit the selected strength to both; False keeps its fit to `train`.

    Raises:
        InputError: see `linear.checked` and the fitter.
    """
    classes = num_classes or 1 + max(int(np.max(np.asarray(part[1]))) for part in (train, val))
    x, labels, _ = checked(*train, classes)
    val_x, val_labels, _ = checked(*val, classes, name='validation features')
    if x.shape[1] != val_x.shape[1]:
        raise InputError(f'features are {x.shape[1]} for training, {val_x.shape[1]} for validation')
    candidates = np.asarray(strengths, np.float32)
    layers = _fit(fitter, x, labels, candidates, classes, standardise)
    scores = np.asarray(accuracy(layers.logits(val_x), val_labels))
    best = max(range(len(candidates)), key=lambda i: (scores[i], candidates[i]))
    linear, strength = layers.at(best), candidates[best]
    if refit:
        both, all_labels = jnp.concatenate([x, val_x]), jnp.concatenate([labels, val_labels])
        linear = _fit(fitter, both, all_labels, strength[None], classes, standardise).at(0)
    return Probe(linear=linear, strength=float(strength), strengths=candidates, val_accuracy=scores)


def by_stage(
    train: Mapping[str, Array],
    labels: Array,
    val: Mapping[str, Array],
    val_labels: Array,
    **options: Any,
) -> dict[str, Probe]:
    """Selects a probe for every stage, to compare how well their features transfer.

    Args:
        train: features [N, F] by stage; F may differ between stages.
        labels: [N].
        val: features [M, F] of the same stages.
        val_labels: [M].
        **options: of `choose`.

    Raises:
        InputError: the stages differ; see `choose`.
    """
    same_stages(train, val)
    widest = max(np.shape(x)[-1] for x in train.values())
    # Padded to one width, all stages share one compiled program. This pays if features are few.
    width = widest if len(labels) * widest <= PADDED_VALUES else 0
    result = {}
    for stage, x in train.items():
        size = np.shape(x)[-1]
        parts = (_widened(x, width), labels), (_widened(val[stage], width), val_labels)
        probe = choose(*parts, **options)
        linear = Linear(probe.linear.kernel[:size], probe.linear.bias)
        result[stage] = dataclasses.replace(probe, linear=linear)
    return result


def _widened(x: Array, width: int) -> jax.Array:
    x = jnp.asarray(x, jnp.float32)
    return jnp.pad(x, ((0, 0), (0, max(0, width - x.shape[1]))))


def same_stages(train: Mapping[str, Any], val: Mapping[str, Any]) -> None:
    """Raises an `InputError` if training and validation have different stages."""
    if not train or list(train) != list(val):
        raise InputError(f'stages are {list(train)} for training, {list(val)} for validation')


def _fit(
    fitter: Fitter, x: Array, labels: Array, strengths: np.ndarray, classes: int, standardise: bool
) -> Linear:
    scale: Scaling | None = scaling(x) if standardise else None
    result = fitter(scale.apply(x) if scale else x, labels, strengths, num_classes=classes)
    linear = result.linear if isinstance(result, Fit) else result
    return scale.fold(linear) if scale else linear
