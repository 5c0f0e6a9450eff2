"""Stops a run on a signal, so that the same command can resume it.

Within `heard`, a signal raises `Interrupted` wherever the program is: the results of that stage are
computed again later. Within `deferred`, it is only noted, and the training loop asks for it after
each step and saves its state first.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# SIGUSR1 is SLURM's early warning (sbatch --signal=USR1@60), SIGHUP the end of a terminal.
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
RUN_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


class Interrupted(BaseException):  # not an Exception, so that no `except Exception` swallows it
    """A signal asked the run to stop; the state of training is saved.

    Args:
        signal_number: of the signal.
        step: the step that is saved; None outside of training.
    """

    def __init__(self, signal_number: int, step: int | None = None):
        place = '' if step is None else f' at step {step}'
        super().__init__(f'stopped{place} by {signal.Signals(signal_number).name}')
        self.signal_number, self.step = signal_number, step


class Paused(Exception):  # noqa: N818  (not an error)
    """A run has reached the step until which it was asked to train; its state is saved."""

    def __init__(self, step: int):
        super().__init__(f'paused at step {step}')
        self.step = step


class _Heard:
    """The signals of this process.

    Attributes:
        number: of the signal that was received; 0 for none.
        forwarded: the signal that was passed on to JAX as SIGTERM; 0 for none.
        depth: how many `heard` are open.
        deferred: whether a signal is only noted.
        asked: how often `received` was called in this process.
    """

    def __init__(self):
        self.number, self.forwarded, self.depth, self.deferred = 0, 0, 0, False
        self.asked = 0


_heard = _Heard()


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Raises `Interrupted` on SIGTERM, SIGINT, SIGUSR1 and SIGHUP.

    A second signal ends the process at once; the last checkpoint stays intact. It has no effect
    within another `heard` and outside of the main thread. With several processes JAX handles
    SIGTERM itself, and the other signals count as SIGTERM, because all processes have to stop at
    one step.
    """
    outermost = _heard.depth == 0 and threading.current_thread() is threading.main_thread()
    if not outermost:
        yield
        return
    handlers = dict.fromkeys(HEARD, _note)
    if _several_processes():
        handlers = {number: _forward for number in HEARD if number != signal.SIGTERM}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _heard.depth += 1
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _heard.depth, _heard.number, _heard.forwarded = _heard.depth - 1, 0, 0


def _several_processes() -> bool:
    import jax

    return jax.process_count() > 1


def _note(number: int, frame: FrameType | None) -> None:
    """Handles a signal."""
    if _heard.number and number == signal.SIGINT:
        raise KeyboardInterrupt
    if _heard.number:
        name = signal.Signals(number).name
        os.write(2, f'ended at once by a second signal, {name}\n'.encode())
        os._exit(RUN_AGAIN)
    _heard.number = number
    if not _heard.deferred:
        raise Interrupted(number)


def _forward(number: int, frame: FrameType | None) -> None:
    """Passes a signal on to JAX, which tells the others; a second one ends this process."""
    if _heard.forwarded:
        os.write(2, f'ended at once by a second signal, {signal.Signals(number).name}\n'.encode())
        os._exit(RUN_AGAIN)
    _heard.forwarded = number
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Notes signals without raising `Interrupted`."""
    before, _heard.deferred = _heard.deferred, True
    try:
        yield
    finally:
        _heard.deferred = before


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raises `Interrupted` on a signal within `deferred`, also on one that was noted before."""
    before, _heard.deferred = _heard.deferred, False
    try:
        if before and _heard.number:
            raise Interrupted(_heard.number)
        yield
    finally:
        _heard.deferred = before


def received() -> int:
    """The number of the signal that this or another process received; 0 for none.

    All processes must call it equally often, and get the same answer.
    """
    from jax.experimental import multihost_utils

    # Not the step: JAX lets all stop at the call after its highest number so far. In a resumed run,
    # a signal before the first call would mean call 1, which never came.
    _heard.asked += 1
    if _several_processes() and multihost_utils.reached_preemption_sync_point(_heard.asked):
        return _heard.forwarded or signal.SIGTERM
    return _heard.number
