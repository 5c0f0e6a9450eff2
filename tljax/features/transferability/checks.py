"""Checks of the arguments of all scores."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tljax.types import Array, InputError

SUM_TOLERANCE = 1e-2  # deviation of a row of probabilities from sum 1; bfloat16 has 8 bits


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """Labels [N] in 0 to K - 1, and the number of examples of each class [K]."""

    labels: np.ndarray
    counts: np.ndarray

    def indicators(self) -> np.ndarray:
        """One-hot labels [N, K] float64."""
        return np.eye(len(self.counts))[self.labels]

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Sums [K, F] of rows [N, F] over the examples of each class."""
        return self.indicators().T @ rows

    def means(self, rows: np.ndarray) -> np.ndarray:
        """Means [K, F] of rows [N, F] over the examples of each class."""
        return self.sums(rows) / self.counts[:, None]


def matrix(name: str, value: Array) -> np.ndarray:
    """Checks a matrix of floats [N, F], finite, with two rows or more.

    Args:
        name: of the argument, for error messages.
        value: the argument.

    Returns:
        The matrix as float64.

    Raises:
        InputError: it is anything else.
    """
    array = np.asarray(value)
    if array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f'{name} is {list(array.shape)} {array.dtype}, wanted a matrix of floats with one row '
            'per example'
        )
    if array.shape[0] < 2 or array.shape[1] < 1:
        raise InputError(f'{name} is {list(array.shape)}, wanted two rows and one column or more')
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f'{name}[{row}, {column}] is {array[row, column]}, wanted finite values')
    return array


def classes(name: str, value: Array, count: int) -> ClassLabels:
    """Checks the labels of `count` examples: every class of 0 to K - 1 occurs, K at least 2.

    Args:
        name: of the argument, for error messages.
        value: the argument, [N].
        count: N.

    Raises:
        InputError: they are anything else.
    """
    labels = integers(name, value, count)
    if labels.min() < 0:
        raise InputError(f'{name} has {labels.min()}, wanted integers from 0')
    if labels.max() >= count:
        raise InputError(f'{name} has {labels.max()} for {count} examples, wanted 0 to K - 1')
    counts = np.bincount(labels)
    if missing := np.flatnonzero(counts == 0).tolist():
        raise InputError(
            f'{name} has no example of {missing} among 0 to {len(counts) - 1}, wanted every class'
        )
    if len(counts) < 2:
        raise InputError(f'{name} are all of one class, wanted at least two')
    return ClassLabels(labels=labels, counts=counts)


def integers(name: str, value: Array, count: int | None = None) -> np.ndarray:
    """Checks a vector of integers.

    Args:
        name: of the argument, for error messages.
        value: the argument.
        count: the length that is wanted; None for any.

    Returns:
        [N] int64.

    Raises:
        InputError: it is anything else.
    """
    array = np.asarray(value)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or not len(array):
        raise InputError(
            f'{name} is {list(array.shape)} {array.dtype}, wanted a vector of integers'
        )
    if count is not None and len(array) != count:
        raise InputError(f'{name} has {len(array)} entries for {count} examples')
    return array.astype(np.int64)


def probabilities(name: str, value: Array) -> np.ndarray:
    """Checks probabilities [N, Z] whose rows have sum 1.

    Args:
        name: of the argument, for error messages.
        value: the argument.

    Returns:
        The matrix as float64, each row divided by its sum.

    Raises:
        InputError: it is anything else, for example logits.
    """
    array = matrix(name, value)
    off = np.abs(array.sum(1) - 1)
    if array.min() < 0 or off.max() > SUM_TOLERANCE:
        row = int(off.argmax())
        raise InputError(
            f'{name} has the minimum {array.min():.3g}, and row {row} sums to '
            f'{array[row].sum():.3g}: wanted probabilities (the softmax of logits)'
        )
    return array / array.sum(1, keepdims=True)


def same_width(source: int, target: int) -> None:
    """Raises an `InputError` if the features of two domains differ in width."""
    if source != target:
        raise InputError(
            f'source has {source} features and target {target}, wanted features of one network'
        )
