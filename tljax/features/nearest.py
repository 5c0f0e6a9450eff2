"""Exact nearest neighbours by Euclidean distance, on the host."""

from collections.abc import Iterator

import numpy as np


def nearest(
    queries: np.ndarray, x: np.ndarray, count: int, *, block: int, leave_one_out: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The nearest rows of `x` to each query, for one block of queries after the other.

    Args:
        queries: [M, F].
        x: [N, F].
        count: neighbours of a query, at most N, or N - 1 with `leave_one_out`.
        block: queries whose distances are in memory at a time.
        leave_one_out: query i is row i of `x`, which is not its own neighbour.

    Yields:
        Of each block of B queries: the indices [B, count] of their neighbours in any order, and
        the squared distances [B, count], minus the query's squared norm.
    """
    norms = (x**2).sum(1)
    for start in range(0, len(queries), block):
        distances = queries[start : start + block] @ x.T
        distances *= -2
        distances += norms
        if leave_one_out:
            rows = np.arange(len(distances))
            distances[rows, start + rows] = np.inf
        places = np.argpartition(distances, count - 1, 1)[:, :count]
        yield places, np.take_along_axis(distances, places, 1)
