"""The speed of training and the share of it spent waiting for data."""

import contextlib
import time
from collections.abc import Iterator

import jax


class Clock:
    """Measures the speed of training and the share of time spent waiting for data.

    It allows two unfinished steps, so that the host neither waits for the device at every step nor
    queues more steps than that.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._in_flight: list[jax.Array] = []
        self.restart()

    def restart(self) -> None:
        """Starts the measurement again."""
        self._begun, self._steps, self._waited = time.perf_counter(), 0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A context whose duration counts as waiting for data."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    def tick(self, marker: jax.Array) -> None:
        """Counts a step, of which `marker` is an output."""
        self._in_flight.append(marker)
        if len(self._in_flight) > 2:
            self._in_flight.pop(0).block_until_ready()
        self._steps += 1

    def count(self, steps: int) -> None:
        """Counts steps that the device has finished."""
        self._steps += steps

    @property
    def images_per_second(self) -> float:
        """Training images per second since the last restart."""
        return self._steps * self._batch_size / max(time.perf_counter() - self._begun, 1e-9)

    @property
    def waiting_share(self) -> float:
        """The share of the time since the last restart that was spent waiting for data."""
        return self._waited / max(time.perf_counter() - self._begun, 1e-9)

    def seconds_left(self, steps: int) -> float:
        """The seconds for `steps` more steps at this speed."""
        return steps * self._batch_size / max(self.images_per_second, 1e-9)
