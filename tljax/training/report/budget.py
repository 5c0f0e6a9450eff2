"""The time limit of a page."""

import time

SHARE = 0.05  # of the time of a long run
SHORT_SHARE, SHORT_SECONDS = 0.25, 15.0  # the share for a short run, and its largest time
MOST_SECONDS = 30.0  # the largest time after training
ASKED_SECONDS = 120.0  # the default of `tljax report`
COMPILE_SECONDS = 5.0  # approximate time to compile a network


class Budget:
    """The remaining time of a page."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """The remaining seconds, at least 0."""
        return max(self._end - time.perf_counter(), 0.0)


def of_training(wall_seconds: float) -> Budget:
    """The budget of the page at the end of a run: a share of the time of the run."""
    short = min(SHORT_SHARE * wall_seconds, SHORT_SECONDS)
    return Budget(min(max(SHARE * wall_seconds, short), MOST_SECONDS))
