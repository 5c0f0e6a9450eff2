"""Stops a run on a signal, so that the same command can resume it.

Within `heard`, a signal raises `Interrupted` wherever the program is: the results of that stage are
computed again later. Within `deferred`, it is only noted, and the training loop asks for it after
each step and saves its state first.
"""

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
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
        forwarded: the signal that was passed on to JAX; 0 for none.
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
    within another `heard` and outside of the main thread. With several processes a signal is passed
    on to JAX, which tells the others, because all processes have to stop at one step.
    """
    outermost = _heard.depth == 0 and threading.current_thread() is threading.main_thread()
    if not outermost:
        yield
        return
    with _jax_told() if _several_processes() else contextlib.nullcontext(_note) as handler:
        before = {number: signal.signal(number, handler) for number in HEARD}
        _heard.depth += 1
        try:
            yield
        finally:
            for number, former in before.items():
                signal.signal(number, signal.SIG_DFL if former is None else former)
            _heard.depth, _heard.number, _heard.forwarded = _heard.depth - 1, 0, 0


def _several_processes() -> bool:
    import jax

    return jax.process_count() > 1


def _note(number: int, frame: FrameType | None) -> None:
    """Handles a signal."""
    if _heard.number and number == signal.SIGINT:
        raise KeyboardInterrupt
    if _heard.number:
        _end_at_once(number)
    _heard.number = number
    if not _heard.deferred:
        raise Interrupted(number)


@contextlib.contextmanager
def _jax_told() -> Iterator[Callable[[int, FrameType | None], None]]:
    """A handler that calls JAX's own handler of SIGTERM; a second signal ends this process.

    JAX's handler is a C function that Python neither knows nor restores. It ignores a second
    SIGTERM.
    """
    address = set_c_handler(signal.SIGTERM, None)
    assert address, 'JAX handles SIGTERM where there are several processes'
    tell = ctypes.CFUNCTYPE(None, ctypes.c_int)(address)

    def forward(number: int, frame: FrameType | None) -> None:
        if _heard.forwarded:
            _end_at_once(number)
        _heard.forwarded = number
        tell(signal.SIGTERM)

    try:
        yield forward
    finally:
        set_c_handler(signal.SIGTERM, address)


def set_c_handler(number: int, address: int | None) -> int | None:
    """Makes a C function the handler of a signal; returns the address of the one before.

    Args:
        number: of the signal.
        address: of the function; None for the default, which ends the process.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    return libc.signal(number, address)


def _end_at_once(number: int) -> None:
    os.write(2, f'ended at once by a second signal, {signal.Signals(number).name}\n'.encode())
    os._exit(RUN_AGAIN)


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
