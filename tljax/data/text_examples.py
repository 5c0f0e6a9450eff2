"""Examples of text as numbers of tokens, and the windows that a language model learns."""

import dataclasses
import functools
from typing import Any

import numpy as np

from tljax.data import text_tokens, text_vocabulary
from tljax.data.text_vocabulary import Numbers
from tljax.metrics.tasks.next_token import NextToken
from tljax.types import FILLING, Examples, InputError, TextPreprocessing

JOINED_SEED = 0  # of the order in which the texts of a language model are joined


def are_windows(examples: Examples) -> bool:
    """Whether the examples are for a language model, whose labels are the next tokens."""
    return isinstance(examples.task, NextToken)


def refuse(examples: Examples) -> None:
    """Raises: InputError: the examples are texts, which a network of images cannot read."""
    if len(examples) and isinstance(_first(examples), str):
        raise InputError('the data are texts, wanted images: this network reads images')


def _first(examples: Examples) -> Any:
    """The first example if it is in memory; None if it would be decoded."""
    stored = examples.encoded[0] if examples.encoded else None
    return getattr(stored, 'text', None) if stored is not None else examples.load(0)


def numbered(examples: Examples, preprocessing: TextPreprocessing) -> Examples:
    """The examples with `load` as the numbers of the tokens [T] int32; see `windows` for a task.

    Args:
        examples: texts.
        preprocessing: with a vocabulary.

    Raises:
        InputError: the examples are no texts.
    """
    texts = [numbers(examples.load(index), preprocessing) for index in range(len(examples))]
    if are_windows(examples):
        return windows(examples, texts, preprocessing)
    return dataclasses.replace(examples, load=lambda index: texts[index])


def windows(
    examples: Examples, texts: list[np.ndarray], preprocessing: TextPreprocessing
) -> Examples:
    """The windows of the joined texts as examples; the labels are the next tokens [N, T].

    Args:
        examples: with `NextToken` as task.
        texts: the numbers of the tokens of each.
        preprocessing: `most_tokens` is T.

    Raises:
        InputError: the texts are shorter than one window.
    """
    length = preprocessing.most_tokens
    order = np.random.default_rng(JOINED_SEED).permutation(len(texts))
    joined = np.concatenate([np.zeros(0, np.int32), *(texts[index] for index in order)])
    if preprocessing.backward:
        joined = joined[::-1]
    count = max(0, len(joined) - 1) // length
    if examples.labels.size and not count:
        raise InputError(f'the texts have {len(joined)} tokens, wanted more than {length}')
    inputs = joined[: count * length].reshape(count, length)
    return dataclasses.replace(
        examples,
        load=lambda index: inputs[index][:: -1 if preprocessing.backward else 1],
        labels=joined[1 : count * length + 1].reshape(count, length),
        ids=np.arange(count, dtype=np.int64),
        class_names=preprocessing.vocabulary,
        encoded=None,
    )


def numbers(text: Any, preprocessing: TextPreprocessing) -> np.ndarray:
    """The numbers of a text's tokens [T] int32; numbers are returned as they are.

    Raises:
        InputError: it is no text, or the preprocessing has no vocabulary.
    """
    if isinstance(text, np.ndarray) and text.ndim == 1:
        return text
    if not preprocessing.vocabulary:
        raise InputError(
            'the weights have no vocabulary: state it with '
            'preprocessing=TextPreprocessing(vocabulary=tljax.read_vocabulary(FILE))'
        )
    return _numbers(preprocessing.vocabulary)(text_tokens.tokens(_text(text)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f'an example is of type {type(value).__name__}, wanted a text')
    return value


@functools.lru_cache(maxsize=4)
def _numbers(vocabulary: tuple[str, ...]) -> Numbers:
    """The numbers of a vocabulary; the last ones are kept, because they take a while to make."""
    return Numbers(vocabulary)


def lengths(examples: Examples, preprocessing: TextPreprocessing) -> np.ndarray:
    """The tokens of each example that are read, [N]."""
    loaded = (examples.load(index) for index in range(len(examples)))
    most = preprocessing.most_tokens
    return np.array([min(most, len(numbers(one, preprocessing))) for one in loaded], np.int64)


def vocabulary_of(examples: Examples, count: int) -> tuple[str, ...]:
    """The vocabulary of the texts of a split, filled up to `count`, the size of an embedding."""
    loaded = map(_text, map(examples.load, range(len(examples))))
    found = text_vocabulary.build(map(text_tokens.tokens, loaded), most_tokens=count)
    return (*found, *(FILLING,) * (count - len(found)))
