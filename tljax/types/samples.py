"""Weights for samples of a source domain."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domains:
    """Inputs from which weights of source examples are computed before training.

    `features()` returns the head's input in the starting network for the N source and the M target
    examples, [N, F] and [M, F] float32; `labels()` the labels of the source, [N] int32;
    `predictions()` the probabilities [M, Z] that a linear probe on the source gives the target. The
    network runs only if one of them is called; N then excludes unreadable images.
    """

    count: int  # N
    features: Callable[[], tuple[np.ndarray, np.ndarray]]
    labels: Callable[[], np.ndarray]
    predictions: Callable[[], np.ndarray]
    seed: int


@runtime_checkable
class Weighing(Protocol):
    """Computes a weight for each example of a source."""

    def measure(self, domains: Domains) -> np.ndarray:
        """Weights [N] >= 0 with mean 1 at the start of training; deterministic.

        Raises:
            InputError: the method does not apply to these domains.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """The source rows of a training step, as input of a `Reweighing`; without gradients.

    `slope` [F, C] and `offset` [C] are the gradient of the target's loss with respect to the layer
    that both domains share, `features` [B, F] that layer's input for the source rows, and `errors`
    [B, C] the gradient of each row's own loss with respect to the layer's output. The layer is the
    head's last one if the head is shared, else an identity layer in front of both heads.
    """

    step: jax.Array  # [] int32
    last: bool  # whether this is the last part of an accumulated step
    rows: jax.Array  # [B] indices into the N examples
    mask: jax.Array  # [B] bool; rows of padding must not count
    wrong: jax.Array  # [B] one minus the probability of the label
    features: jax.Array | None  # this and the fields below are None unless `needs_slope`
    errors: jax.Array | None
    slope: jax.Array | None
    offset: jax.Array | None


@runtime_checkable
class Reweighing(Weighing, Protocol):
    """A weighing that is updated in training; its memory is part of the training state."""

    @property
    def needs_slope(self) -> bool:
        """Whether it reads features and gradients, for which the target's head must train."""
        ...

    def begin(self, count: int, epoch_steps: float, total_steps: int) -> Any:
        """The initial memory for N examples, a tree of arrays.

        Args:
            count: N.
            epoch_steps: steps in an epoch of the target.
            total_steps: steps of training with a source.
        """
        ...

    def update(self, weights: jax.Array, memory: Any, seen: Seen) -> tuple[jax.Array, Any]:
        """New weights [N] and memory, from some rows of a step that used `weights`."""
        ...
