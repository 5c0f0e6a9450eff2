"""The vocabulary of a text network: the token of each number."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from tljax.data.text_tokens import SPECIAL
from tljax.types import UNKNOWN

LEAST_COUNT, MOST_TOKENS = 3, 60_000  # fastai's min_freq and max_vocab


def build(
    texts: Iterable[Sequence[str]],
    *,
    least_count: int = LEAST_COUNT,
    most_tokens: int = MOST_TOKENS,
) -> tuple[str, ...]:
    """The vocabulary of texts: fastai's special tokens, then the others by their frequency.

    Equally frequent tokens are in the order of their characters, so that the order of the texts
    does not matter.

    Args:
        texts: the tokens of each text.
        least_count: rarer tokens are unknown.
        most_tokens: the largest number of tokens, with the special ones.
    """
    counts = collections.Counter(token for text in texts for token in text)
    for token in SPECIAL:
        counts.pop(token, None)
    usual = sorted((-count, token) for token, count in counts.items() if count >= least_count)
    return (*SPECIAL, *(token for _, token in usual))[: max(most_tokens, len(SPECIAL))]


class Numbers:
    """The number of each token of a vocabulary.

    Args:
        vocabulary: see `TextPreprocessing`; of a token that is twice in it, the first number.
    """

    def __init__(self, vocabulary: Sequence[str]):
        self._of = {token: number for number, token in reversed(list(enumerate(vocabulary)))}
        self._unknown = self._of[UNKNOWN]

    def __call__(self, tokens: Sequence[str]) -> np.ndarray:
        """[T] int32; tokens that are not in the vocabulary have the number of `xxunk`."""
        return np.array([self._of.get(token, self._unknown) for token in tokens], np.int32)
