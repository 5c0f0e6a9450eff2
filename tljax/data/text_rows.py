"""Rows of tokens: padded rows in batches of similar length, and windows of one long text."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tljax.types import InputError

SORTED_BATCHES = 50  # batches whose rows are sorted together, as in fastai's SortedDL


def padded(numbers: np.ndarray, length: int, padding: int, *, backward: bool = False) -> np.ndarray:
    """The first `length` tokens of a text [T] as a row [length], padded at its end.

    Args:
        numbers: of the tokens.
        length: of the row.
        padding: the number of the padding token.
        backward: whether the tokens that are read are in reverse order.
    """
    read = numbers[:length]
    row = np.full(length, padding, np.int32)
    row[: len(read)] = read[::-1] if backward else read
    return row


def sorted_stream(lengths: np.ndarray, batch_size: int, seed: int) -> Callable[[int], int]:
    """The index of the example at each position of an endless stream of shuffled epochs.

    The rows of a batch have similar lengths: an epoch is shuffled, `SORTED_BATCHES` batches at a
    time are sorted by length, and their batches are shuffled. Each epoch has every example once. A
    batch that spans two epochs has rows of both. The stream depends only on the lengths, the batch
    size and the seed.

    Args:
        lengths: tokens of each example, [N].
        batch_size: B.
        seed: of the shuffling.

    Source: fastai's `SortedDL`.
    """
    count = len(lengths)

    @functools.lru_cache(maxsize=4)
    def order(epoch: int) -> np.ndarray:
        rng = np.random.default_rng([seed, epoch])
        shuffled = rng.permutation(count)
        begun = min(
            -epoch * count % batch_size, count
        )  # rows of the last batch of the epoch before
        rest = shuffled[begun:]
        groups = [
            by_length(rest[start : start + SORTED_BATCHES * batch_size], lengths)
            for start in range(0, len(rest), SORTED_BATCHES * batch_size)
        ]
        ordered = np.concatenate([rest[:0], *groups])
        full = len(ordered) // batch_size
        batches = ordered[: full * batch_size].reshape(full, batch_size)
        return np.concatenate(
            [shuffled[:begun], batches[rng.permutation(full)].ravel(), ordered[full * batch_size :]]
        )

    def example_at(position: int) -> int:
        epoch, index = divmod(position, count)
        return int(order(epoch)[index])

    return example_at


def by_length(indices: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of examples, the longest first."""
    return indices[np.argsort(-lengths[indices], kind='stable')]


def continued_stream(count: int, batch_size: int, seed: int) -> Callable[[int], int]:
    """The index of the window at each position of an endless stream of windows of one long text.

    Row b of a step continues row b of the step before: the windows are cut into B runs of equal
    length. Each epoch begins at another window. The stream depends only on the arguments.

    Args:
        count: the number of windows.
        batch_size: B.
        seed: of the beginnings.
    """
    steps = max(1, count // batch_size)  # of an epoch

    def window_at(position: int) -> int:
        step, row = divmod(position, batch_size)
        epoch, index = divmod(step, steps)
        begin = int(np.random.default_rng([seed, epoch]).integers(count)) if epoch else 0
        return (begin + row * steps + index) % count

    return window_at


class Windows:
    """The windows of texts that a language model reads one after the other.

    The texts of an epoch are shuffled and joined, and the joined text is cut into B rows. Step s
    reads a window of every row, so that the state after it is the state before step s + 1. An epoch
    ends with the last complete window, and the next one begins with another order of the texts. A
    step depends only on the texts, the sizes and the seed.

    Args:
        texts: the numbers of the tokens of each text.
        batch_size: B.
        window: tokens in a window.
        seed: of the shuffling.
        backward: whether the joined text is read from its end.

    Raises:
        InputError: the texts are shorter than one window of all rows.
    """

    def __init__(
        self,
        texts: Sequence[np.ndarray],
        *,
        batch_size: int,
        window: int,
        seed: int,
        backward: bool = False,
    ):
        self._texts, self._seed, self._backward = texts, seed, backward
        self._rows, self._window = batch_size, window
        total = sum(map(len, texts))
        self.steps = (total // batch_size - 1) // window  # of an epoch
        if self.steps < 1:
            wanted = batch_size * (window + 1)
            raise InputError(f'the texts have {total} tokens, wanted {wanted} or more')
        self._rows_of = functools.lru_cache(maxsize=2)(self._joined)

    def _joined(self, epoch: int) -> np.ndarray:
        """[B, tokens of a row]."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._texts))
        joined = np.concatenate([self._texts[index] for index in order])
        joined = joined[::-1] if self._backward else joined
        length = len(joined) // self._rows
        return joined[: self._rows * length].reshape(self._rows, length)

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """The tokens [B, window] of a step, the next ones, and whether an epoch begins with it."""
        epoch, index = divmod(step, self.steps)
        start = index * self._window
        rows = self._rows_of(epoch)[:, start : start + self._window + 1]
        return rows[:, :-1], rows[:, 1:], index == 0
