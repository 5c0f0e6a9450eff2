"""Penalties: terms of the loss that depend on the starting network."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from tljax.types.arrays import Params
from tljax.types.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The stages of a network: which have pretrained weights and which train."""

    stages: tuple[str, ...]  # in forward order, the head last
    shared: frozenset[str]  # stages that start from the pretrained weights; the others are new
    trained: frozenset[str]  # stages with a trainable leaf
    upstream_classes: int | None = None  # S, of the pretrained head; None without one

    @property
    def changed(self) -> tuple[str, ...]:
        """The stages below the head whose output changes: from the first trained stage on."""
        first = next((i for i, n in enumerate(self.stages) if n in self.trained), len(self.stages))
        return self.stages[first:-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """The inputs that a penalty reads, so that no others are computed."""

    features: tuple[str, ...] = ()  # stages whose outputs it reads
    start: bool = False  # the starting parameters, and the starting network's outputs of `features`
    upstream: bool = False  # the pretrained head


@dataclasses.dataclass(frozen=True, kw_only=True)
class PenaltyInputs:
    """The inputs of penalties in one step; gradients flow through `trained` and `features`.

    Parameter trees have None for frozen leaves. The starting network sees the same augmented
    images and uses its running statistics. `upstream` maps the output of the last stage below the
    head to the [B, S] logits of the pretrained head, which is frozen. `features` can hold more
    stages than one penalty asked for, because all penalties share it.
    """

    setting: Setting
    trained: Params
    start: Params
    features: Mapping[str, jax.Array]  # {stage: [B, ...]}
    start_features: Mapping[str, jax.Array]
    upstream: Callable[[jax.Array], jax.Array] | None
    targets: jax.Array  # [B, K] distributions
    mask: jax.Array  # [B] bool; rows of padding must not count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The network before training, for values that a penalty computes once.

    `run(params, x, start, stop)` evaluates stages with running statistics. `batches(limit)` yields
    `limit` random examples of the training split, or with None all of them: normalised images
    [B, ...], labels [B, ...] and masks [B], replicated on every device. `upstream` is as in
    `PenaltyInputs`.
    """

    setting: Setting
    num_classes: int  # K
    task: Task
    params: Params
    trained: Params  # a bool per leaf: whether it trains in some phase
    run: Callable[[Params, jax.Array, str | None, str | None], jax.Array]
    upstream: Callable[[jax.Array], jax.Array] | None
    batches: Callable[[int | None], Iterable[tuple[jax.Array, jax.Array, jax.Array]]]
    key: jax.Array


@runtime_checkable
class Penalty(Protocol):
    """A term added to the mean loss of a batch; several penalties add up."""

    def obstacle(self, setting: Setting) -> str | None:
        """Why it cannot have an effect, or None; `trained` covers all phases."""
        ...

    def needs(self, setting: Setting) -> Needs:
        """Its inputs in a phase; features that the phase does not change can be left out."""
        ...

    def prepare(self, start: Start) -> Any:
        """A tree of arrays, computed once; the same when a run resumes."""
        ...

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """The penalty [] float32 of one batch, including its strength."""
        ...
