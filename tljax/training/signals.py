"""Stops a run on a signal, after its state is saved; the same command resumes it."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):  # noqa: N818  (not an error)
    """A signal asked the run to stop; its state is saved."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f'stopped at step {step} by {signal.Signals(signal_number).name}')
        self.signal_number, self.step = signal_number, step


class Paused(Exception):  # noqa: N818  (not an error)
    """A run has reached the step until which it was asked to train; its state is saved."""

    def __init__(self, step: int):
        super().__init__(f'paused at step {step}')
        self.step = step


class Signals:
    """Notes SIGTERM and the first Ctrl-C, so that the run can stop after the current step.

    A second Ctrl-C interrupts at once. Several processes all stop at the same step; in that case
    JAX handles SIGTERM itself.
    """

    def __enter__(self) -> 'Signals':
        self._number = 0
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            alone = jax.process_count() == 1
            for number in (signal.SIGTERM, signal.SIGINT) if alone else ():
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._number == signal.SIGINT:
            raise KeyboardInterrupt
        self._number = number

    def received(self, step: int) -> int:
        """The number of the signal that this or another process received; 0 for none."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            return self._number or signal.SIGTERM
        return self._number if jax.process_count() == 1 else 0
