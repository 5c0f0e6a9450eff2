"""Two streams of batches in step: the target's, and for some steps those of a source domain."""

from collections.abc import Iterable, Iterator
from typing import Any

from tljax.types import Batch


class PairedBatches:
    """The target's batches, which contain a batch of the source domain for the first steps.

    Both streams are at the same step, and each is the same as it would be alone.

    Args:
        target: the target's batches.
        source: the batches of the source domain.
        until: the first step without a batch of the source domain.
    """

    def __init__(self, target: Iterable[Batch], source: Iterable[Batch], until: int):
        self._target, self._source, self._until = target, source, until

    def __iter__(self) -> 'PairedIterator':
        return PairedIterator(iter(self._target), iter(self._source), self._until)


class PairedIterator:
    """An iterator over `PairedBatches`, with `get_state` and `set_state` as grain's have them."""

    def __init__(self, target: Iterator[Batch], source: Iterator[Batch], until: int):
        self._target: Any = target
        self._source: Any = source
        self._until, self._step = until, 0

    def __iter__(self) -> 'PairedIterator':
        return self

    def __next__(self) -> Batch:
        batch: Batch = next(self._target)
        if self._step < self._until:
            batch = {**batch, 'source': next(self._source)}
        self._step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """The positions in both streams."""
        target, source = self._target.get_state(), self._source.get_state()
        return {'target': target, 'source': source, 'step': self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to positions that `get_state` returned."""
        self._target.set_state(state['target'])
        self._source.set_state(state['source'])
        self._step = state['step']
