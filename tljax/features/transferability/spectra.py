"""Singular values and vectors of features, by the fastest method that is exact enough."""

import dataclasses

import numpy as np
import scipy.linalg
from scipy.linalg.blas import dsyrk  # pyright: ignore[reportAttributeAccessIssue]
from scipy.linalg.lapack import dormqr, dsytrd  # pyright: ignore[reportAttributeAccessIssue]

# The eigenvalues of the Gram matrix have errors of about 2e-16 of the largest. They are used if all
# are above this share of the largest.
TRUSTED = 1e-10
# From this size on it is faster to keep eigenvectors in the coordinates of a tridiagonal matrix.
LARGE = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eigenvectors:
    """Eigenvectors v of a symmetric matrix: those of a tridiagonal matrix, times reflectors.

    Most callers only need products with v, for which v itself is not computed.

    Attributes:
        inner: [F, F] eigenvectors of the similar tridiagonal matrix; without reflectors, v itself.
        reflectors: [F - 1, F - 1] Householder reflectors of the reduction, as LAPACK stores them.
        scales: [F - 1] of the reflectors.
    """

    inner: np.ndarray
    reflectors: np.ndarray | None = None
    scales: np.ndarray | None = None

    def project(self, y: np.ndarray) -> np.ndarray:
        """`v.T @ y` [F, K] for y [F, K]."""
        return self.inner.T @ self._reflected(y, 'T')

    def matrix(self) -> np.ndarray:
        """`v` [F, F]."""
        return self._reflected(self.inner, 'N')

    def _reflected(self, y: np.ndarray, transposed: str) -> np.ndarray:
        if self.reflectors is None:
            return y
        space = 64 * y.shape[1]  # workspace for LAPACK's largest block
        rest = np.asfortranarray(y[1:])
        turned, _, _ = dormqr('L', transposed, self.reflectors, self.scales, rest, space)
        return np.concatenate([y[:1], turned])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    """The decomposition `x = u diag(sqrt(squares)) v.T` of rank r, with either u or v computed.

    Attributes:
        x: [N, F].
        squares: [r] squared singular values, positive, descending.
        u: [N, r].
        v: [F, r].
    """

    x: np.ndarray
    squares: np.ndarray
    u: np.ndarray | None = None
    v: Eigenvectors | None = None

    def project(self, y: np.ndarray) -> np.ndarray:
        """`u.T @ y` [r, K] for y [N, K]."""
        if self.u is not None:
            return self.u.T @ y
        assert self.v is not None
        return self.v.project(self.x.T @ y) / np.sqrt(self.squares)[:, None]

    def left(self) -> np.ndarray:
        """`u` [N, r]."""
        if self.u is not None:
            return self.u
        assert self.v is not None
        return self.x @ self.v.matrix() / np.sqrt(self.squares)


def factors(x: np.ndarray) -> Factors:
    """The singular value decomposition of features [N, F].

    It is computed from the eigenvectors of the smaller Gram matrix, several times faster than by a
    direct decomposition, which is used if the features are too ill-conditioned.
    """
    if not (active := x.any(0)).all():
        x = np.ascontiguousarray(x[:, active])  # columns of zeros make the Gram matrix singular
    if not x.size:
        return Factors(x=x, squares=np.zeros(0), u=np.zeros((len(x), 0)))
    tall = x.shape[0] > x.shape[1]
    squares, vectors = _eigen(gram(x if tall else x.T))
    if squares[-1] > TRUSTED * squares[0]:
        if tall:
            return Factors(x=x, squares=squares, v=vectors)
        return Factors(x=x, squares=squares, u=vectors.matrix())
    u, values, _ = np.linalg.svd(x, full_matrices=False)
    rank = int((values > max(x.shape) * np.finfo(x.dtype).eps * values[0]).sum())
    return Factors(x=x, squares=values[:rank] ** 2, u=u[:, :rank])


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, Eigenvectors]:
    """The eigenvalues in descending order, and the eigenvectors."""
    count = len(matrix)
    if count < LARGE:
        values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
        return values[::-1], Eigenvectors(inner=vectors[:, ::-1])
    # The first steps of scipy.linalg.eigh, without its transformation of all eigenvectors.
    reduced, diagonal, off_diagonal, scales, _ = dsytrd(matrix, lower=1, lwork=64 * count)
    values, inner = scipy.linalg.eigh_tridiagonal(
        diagonal, off_diagonal, check_finite=False, lapack_driver='stevd'
    )
    reflectors = np.asfortranarray(reduced[1:, :-1])
    return values[::-1], Eigenvectors(inner=inner[:, ::-1], reflectors=reflectors, scales=scales)


def gram(x: np.ndarray) -> np.ndarray:
    """`x.T @ x` for x [N, F], computing half of the products."""
    # x or x.T is in Fortran's order, which BLAS reads without a copy.
    rows = x.flags.c_contiguous
    upper = dsyrk(1.0, x.T if rows else x, trans=0 if rows else 1)
    return np.triu(upper) + np.triu(upper, 1).T


def principal(x: np.ndarray, components: int) -> np.ndarray:
    """The first principal components [N, components] of centred features [N, F]."""
    decomposition = factors(x)
    return decomposition.left()[:, :components] * np.sqrt(decomposition.squares[:components])
