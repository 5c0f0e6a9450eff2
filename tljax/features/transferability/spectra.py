"""Singular values and vectors of features: fast where that is exact enough, else exact."""

import dataclasses

import numpy as np
import scipy.linalg
from scipy.linalg.blas import dsyrk  # pyright: ignore[reportAttributeAccessIssue]
from scipy.linalg.lapack import dormqr, dsytrd  # pyright: ignore[reportAttributeAccessIssue]

# Squared singular values, relative to the largest, below which those of the Gram matrix are mostly
# rounding: its eigenvalues are off by about 2e-16 of the largest.
TRUSTED = 1e-10


# Columns from which it pays to leave the eigenvectors in the coordinates of a tridiagonal matrix.
LARGE = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eigenvectors:
    """Those of a symmetric matrix, `reflected(inner)`; most uses need but a product with them.

    Attributes:
        inner: [F, F] of the tridiagonal matrix that it is similar to, or its own.
        reflectors: [F - 1, F - 1] what makes it tridiagonal, as LAPACK stores it.
        scales: [F - 1] of the reflectors.
    """

    inner: np.ndarray
    reflectors: np.ndarray | None = None
    scales: np.ndarray | None = None

    def project(self, y: np.ndarray) -> np.ndarray:
        """`v.T @ y`, [F, K] of [F, K]."""
        return self.inner.T @ self._reflected(y, 'T')

    def whole(self) -> np.ndarray:
        """`v`, [F, F]."""
        return self._reflected(self.inner, 'N')

    def _reflected(self, y: np.ndarray, transposed: str) -> np.ndarray:
        if self.reflectors is None:
            return y
        space = 64 * y.shape[1]  # LAPACK's largest block
        rest = np.asfortranarray(y[1:])
        turned, _, _ = dormqr('L', transposed, self.reflectors, self.scales, rest, space)
        return np.concatenate([y[:1], turned])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    """`x = u diag(sqrt(squares)) v.T` of rank r; of u and v, the one that was computed.

    Attributes:
        x: [N, F].
        squares: [r] squared singular values, more than 0, descending.
        u: [N, r].
        v: [F, r].
    """

    x: np.ndarray
    squares: np.ndarray
    u: np.ndarray | None = None
    v: Eigenvectors | None = None

    def project(self, y: np.ndarray) -> np.ndarray:
        """`u.T @ y`, [r, K] of [N, K], without u where it is large."""
        if self.u is not None:
            return self.u.T @ y
        assert self.v is not None
        return self.v.project(self.x.T @ y) / np.sqrt(self.squares)[:, None]

    def left(self) -> np.ndarray:
        """`u`, [N, r]."""
        if self.u is not None:
            return self.u
        assert self.v is not None
        return self.x @ self.v.whole() / np.sqrt(self.squares)


def factors(x: np.ndarray) -> Factors:
    """The factors of [N, F].

    The eigenvectors of the smaller Gram matrix give them several times faster than a singular value
    decomposition, which follows where the features are too ill-conditioned for that.
    """
    if not (active := x.any(0)).all():
        x = np.ascontiguousarray(x[:, active])  # the others would make it ill-conditioned
    if not x.size:
        return Factors(x=x, squares=np.zeros(0), u=np.zeros((len(x), 0)))
    tall = x.shape[0] > x.shape[1]
    squares, vectors = _eigen(gram(x if tall else x.T))
    if squares[-1] > TRUSTED * squares[0]:
        if tall:
            return Factors(x=x, squares=squares, v=vectors)
        return Factors(x=x, squares=squares, u=vectors.whole())
    u, values, _ = np.linalg.svd(x, full_matrices=False)
    rank = int((values > max(x.shape) * np.finfo(x.dtype).eps * values[0]).sum())
    return Factors(x=x, squares=values[:rank] ** 2, u=u[:, :rank])


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, Eigenvectors]:
    """Eigenvalues, descending, and eigenvectors."""
    count = len(matrix)
    if count < LARGE:
        values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
        return values[::-1], Eigenvectors(inner=vectors[:, ::-1])
    # scipy.linalg.eigh does the same, and then turns all vectors back.
    reduced, diagonal, beside, scales, _ = dsytrd(matrix, lower=1, lwork=64 * count)
    values, inner = scipy.linalg.eigh_tridiagonal(
        diagonal, beside, check_finite=False, lapack_driver='stevd'
    )
    reflectors = np.asfortranarray(reduced[1:, :-1])
    return values[::-1], Eigenvectors(inner=inner[:, ::-1], reflectors=reflectors, scales=scales)


def gram(x: np.ndarray) -> np.ndarray:
    """`x.T @ x` of [N, F], from half of the products."""
    # BLAS reads in Fortran's order, of which one of these is, so that nothing is copied.
    rows = x.flags.c_contiguous
    upper = dsyrk(1.0, x.T if rows else x, trans=0 if rows else 1)
    return np.triu(upper) + np.triu(upper, 1).T


def principal(x: np.ndarray, components: int) -> np.ndarray:
    """The first principal components [N, components] of centred features [N, F]."""
    found = factors(x)
    return found.left()[:, :components] * np.sqrt(found.squares[:components])
