"""How long a page may take."""

import time

SHARE = 0.05  # of the time of a long run
SHORT_SHARE, SHORT_SECONDS = 0.25, 15.0  # of a short run, and at the most
MOST_SECONDS = 30.0
ASKED_SECONDS = 120.0  # when a command asks for the page
COMPILE_SECONDS = 5.0  # about, for the first program of a network


class Budget:
    """Seconds that a page may still take."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when they are over."""
        return max(self._end - time.perf_counter(), 0.0)


def of_training(wall_seconds: float) -> Budget:
    """The budget of a page that a run ends with: a share of the time the run took."""
    short = min(SHORT_SHARE * wall_seconds, SHORT_SECONDS)
    return Budget(min(max(SHARE * wall_seconds, short), MOST_SECONDS))
