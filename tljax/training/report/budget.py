"""How long a page may take."""

import time

SHARE = 0.05  # of the time of the run
LEAST_SECONDS, MOST_SECONDS = 2.0, 30.0
ASKED_SECONDS = 120.0  # when a command asks for the page


class Budget:
    """Seconds that a page may still take."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds; negative when they are over."""
        return self._end - time.perf_counter()


def of_training(wall_seconds: float) -> Budget:
    """The budget of a page that a run ends with: a share of the time the run took."""
    return Budget(min(max(SHARE * wall_seconds, LEAST_SECONDS), MOST_SECONDS))
