"""Two streams of batches side by side: the target's, and for some steps those of a source."""

from collections.abc import Iterable, Iterator
from typing import Any

from tljax.types import Batch


class Beside:
    """Batches of a target, with those of a source in them for the first `until` steps.

    The position is a target's and a source's; both are that of their own stream at the same step,
    so that either is what it would be alone.
    """

    def __init__(self, target: Iterable[Batch], source: Iterable[Batch], until: int):
        self._target, self._source, self._until = target, source, until

    def __iter__(self) -> 'BesideIterator':
        return BesideIterator(iter(self._target), iter(self._source), self._until)


class BesideIterator:
    """See `Beside`; `get_state` and `set_state` are as those of grain's iterators."""

    def __init__(self, target: Iterator[Batch], source: Iterator[Batch], until: int):
        self._target: Any = target
        self._source: Any = source
        self._until, self._step = until, 0

    def __iter__(self) -> 'BesideIterator':
        return self

    def __next__(self) -> Batch:
        batch: Batch = next(self._target)
        if self._step < self._until:
            batch = {**batch, 'source': next(self._source)}
        self._step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """Where it stands."""
        target, source = self._target.get_state(), self._source.get_state()
        return {'target': target, 'source': source, 'step': self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to where another one stood."""
        self._target.set_state(state['target'])
        self._source.set_state(state['source'])
        self._step = state['step']
