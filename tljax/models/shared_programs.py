"""Programs that the runs of a sweep share, so that a process traces and compiles each of them once.

Nothing is shared outside of `sharing`, except by `lasting`. A program is used again if all that it
depends on is equal, so a run has the same results bit for bit. Weights and tables of stages are
shared, too.
"""

import collections
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Program = TypeVar('Program')

KEPT = 16  # programs; those of the run before and of this one
_kept: contextvars.ContextVar[collections.deque | None] = contextvars.ContextVar(
    'programs', default=None
)
_lasting: collections.deque = collections.deque(maxlen=KEPT)
_lock = threading.Lock()


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """A context in which this thread's runs share programs. Experiments must not change in it."""
    token = _kept.set(collections.deque(maxlen=KEPT))
    try:
        yield
    finally:
        _kept.reset(token)


def get(key: tuple[Any, ...], make: Callable[[], Program]) -> Program:
    """The program of an equal key, or else a new one.

    Args:
        key: its kind, and everything that it depends on. Objects of classes that define no equality
            are equal to themselves only.
        make: makes the program.
    """
    programs = _kept.get()
    return make() if programs is None else _found(programs, key, make)


def lasting(key: tuple[Any, ...], make: Callable[[], Program]) -> Program:
    """The same for the whole process: for keys of immutable parts, such as the modules of Flax."""
    with _lock:
        return _found(_lasting, key, make)


def _found(
    programs: collections.deque, key: tuple[Any, ...], make: Callable[[], Program]
) -> Program:
    for entry in programs:
        if _equal(entry[0], key):
            programs.remove(entry)
            programs.append(entry)  # the latest use comes last, and the first is dropped
            return entry[1]
    program = make()
    programs.append((key, program))
    return program


def _equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    try:
        return one[0] == other[0] and bool(one == other)
    except (TypeError, ValueError):  # arrays have no single truth value
        return False
