"""Singular values and vectors of features: fast where that is exact enough, else exact."""

import dataclasses

import numpy as np
import scipy.linalg

# Squared singular values, relative to the largest, below which those of the Gram matrix are mostly
# rounding: its eigenvalues are off by about 2e-16 of the largest.
TRUSTED = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    """`x = u diag(sqrt(squares)) v.T` of rank r; of u and v, those that were computed.

    Attributes:
        x: [N, F].
        squares: [r] squared singular values, more than 0, descending.
        u: [N, r].
        v: [F, r].
    """

    x: np.ndarray
    squares: np.ndarray
    u: np.ndarray | None
    v: np.ndarray | None

    def project(self, y: np.ndarray) -> np.ndarray:
        """`u.T @ y`, [r, K] of [N, K], without u where it is large."""
        if self.u is not None:
            return self.u.T @ y
        assert self.v is not None
        return self.v.T @ (self.x.T @ y) / np.sqrt(self.squares)[:, None]

    def left(self) -> np.ndarray:
        """`u`, [N, r]."""
        if self.u is not None:
            return self.u
        assert self.v is not None
        return self.x @ self.v / np.sqrt(self.squares)


def factors(x: np.ndarray) -> Factors:
    """The factors of [N, F].

    The eigenvectors of the smaller Gram matrix give them several times faster than a singular value
    decomposition, which follows where the features are too ill-conditioned for that.
    """
    if not (active := x.any(0)).all():
        x = np.ascontiguousarray(x[:, active])  # the others would make it ill-conditioned
    if not x.size:
        nothing = np.zeros((len(x), 0))
        return Factors(x=x, squares=np.zeros(0), u=nothing, v=nothing[: x.shape[1]])
    tall = x.shape[0] > x.shape[1]
    squares, vectors = scipy.linalg.eigh(gram(x if tall else x.T), check_finite=False, driver='evd')
    if squares[0] > TRUSTED * squares[-1]:
        squares, vectors = squares[::-1], vectors[:, ::-1]
        u, v = (None, vectors) if tall else (vectors, None)
        return Factors(x=x, squares=squares, u=u, v=v)
    u, values, _ = np.linalg.svd(x, full_matrices=False)
    rank = int((values > max(x.shape) * np.finfo(x.dtype).eps * values[0]).sum())
    return Factors(x=x, squares=values[:rank] ** 2, u=u[:, :rank], v=None)


def gram(x: np.ndarray) -> np.ndarray:
    """`x.T @ x` of [N, F], from half of the products."""
    # BLAS reads in Fortran's order, of which one of these is, so that nothing is copied.
    rows = x.flags.c_contiguous
    upper = scipy.linalg.blas.dsyrk(1.0, x.T if rows else x, trans=0 if rows else 1)
    return np.triu(upper) + np.triu(upper, 1).T


def principal(x: np.ndarray, components: int) -> np.ndarray:
    """The first principal components [N, components] of centred features [N, F]."""
    found = factors(x)
    return found.left()[:, :components] * np.sqrt(found.squares[:components])
