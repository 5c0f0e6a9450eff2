"""Ledoit and Wolf's shrinkage of a covariance towards a multiple of the identity."""

from typing import Any


def ledoit_wolf(centred: Any, trace: Any, squares: Any) -> tuple[Any, Any]:
    """Numerator and denominator of the share of the identity that minimises the expected error.

    The caller divides them, because the denominator is 0 for a multiple of the identity.

    Args:
        centred: [N, F] features minus their mean, a NumPy or JAX array.
        trace: of their covariance S [F, F], divided by N.
        squares: the sum of the squared entries of S.

    Returns:
        The squared error of S, and the squared distance of S to the nearest multiple of the
        identity.

    Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices", lemmas 3.1 to 3.4.
    """
    count, width = centred.shape
    # The mean over examples of |x x' - S|^2 is that of |x|^4, minus |S|^2.
    error = (((centred**2).sum(1) ** 2).mean() - squares) / count
    return error, squares - width * (trace / width) ** 2
