"""How the examples of a split become rows of batches: decoded images, or numbers of tokens."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tljax.data import decode, decoded_images, image_inputs, text_examples, text_rows
from tljax.metrics.tasks.next_token import NextToken
from tljax.types import (
    AnyPreprocessing,
    BadFiles,
    Examples,
    InputError,
    Preprocessing,
    TextPreprocessing,
)

# The index of the example at a position of the stream of training; see `pipeline.stream`.
Order = Callable[[int], int]


def prepared(
    splits: Mapping[str, Examples], preprocessing: AnyPreprocessing, gigabytes: float
) -> dict[str, Examples]:
    """The splits as a network reads them: images through a cache, texts as numbers of tokens.

    Args:
        splits: the splits of a data source.
        preprocessing: of the network.
        gigabytes: disk limit of decoded images; see `decoded_images.wrap`.

    Raises:
        InputError: a network of images gets texts, or a network of text gets images.
    """
    if isinstance(preprocessing, TextPreprocessing):
        return {name: text_examples.numbered(one, preprocessing) for name, one in splits.items()}
    for examples in splits.values():
        text_examples.refuse(examples)
    return decoded_images.wrap(splits, preprocessing, gigabytes)


def row(examples: Examples, preprocessing: AnyPreprocessing, index: int) -> tuple[np.ndarray, bool]:
    """The row of an example, and whether it is valid; see `Preprocessing.row`.

    Args:
        examples: of a split.
        preprocessing: of the network.
        index: of the example.
    """
    if isinstance(preprocessing, TextPreprocessing):
        numbers = text_examples.numbers(examples.load(index), preprocessing)
        return text_row(numbers, preprocessing), True
    return _decoded_image(examples, preprocessing, index)


def text_row(numbers: np.ndarray, preprocessing: TextPreprocessing) -> np.ndarray:
    """The numbers of a text's tokens as a row [most_tokens]."""
    length, padding = preprocessing.most_tokens, preprocessing.padding
    return text_rows.padded(numbers, length, padding, backward=preprocessing.backward)


def sorted_order(
    examples: Examples, preprocessing: AnyPreprocessing, batch_size: int, seed: int
) -> Order | None:
    """The order of training of examples that have one of their own; None if any order will do.

    The rows of a batch of texts have similar lengths, so that few of their tokens are padding. The
    windows of a language model follow each other.

    Args:
        examples: the training split, after `prepared`.
        preprocessing: of the network.
        batch_size: examples in the global batch.
        seed: of the shuffling.
    """
    if not isinstance(preprocessing, TextPreprocessing):
        return None
    if text_examples.are_windows(examples):
        return text_rows.continued_stream(len(examples), batch_size, seed)
    lengths = text_examples.lengths(examples, preprocessing)
    return text_rows.sorted_stream(lengths, batch_size, seed)


def decoded(values: Any, preprocessing: AnyPreprocessing) -> Iterator[np.ndarray]:
    """Rows of images or texts of the user, one after another; see `image_inputs.decoded`.

    Raises:
        InputError: a value is not what the network reads.
    """
    if not isinstance(preprocessing, TextPreprocessing):
        return image_inputs.decoded(values, preprocessing)
    texts = [values] if isinstance(values, str) else list(values)
    return (text_row(text_examples.numbers(one, preprocessing), preprocessing) for one in texts)


def batch(rows: list[np.ndarray]) -> np.ndarray:
    """Stacks rows; see `image_inputs.batch`."""
    return np.stack(rows) if rows[0].ndim == 1 else image_inputs.batch(rows)


def described(preprocessing: AnyPreprocessing) -> str:
    """What a network reads, in a few words."""
    if isinstance(preprocessing, TextPreprocessing):
        return f'texts of {preprocessing.most_tokens} tokens'
    size, channels = preprocessing.size_px, len(preprocessing.mean)
    return f'images {size} x {size} x {channels}'


def settings(preprocessing: AnyPreprocessing) -> str:
    """Everything that changes the row of an example, as a name."""
    if not isinstance(preprocessing, TextPreprocessing):
        return decoded_images.settings(preprocessing)
    vocabulary = hashlib.sha256(json.dumps(preprocessing.vocabulary).encode()).hexdigest()
    direction = 'backward' if preprocessing.backward else 'forward'
    return f'text-{preprocessing.most_tokens}-{direction}-{vocabulary}'


def _decoded_image(
    examples: Examples, preprocessing: Preprocessing, index: int
) -> tuple[np.ndarray, bool]:
    """The decoded image and True, or a black image and False if the image is unreadable."""
    side = preprocessing.resize_px
    try:
        return decode.resize_square(examples.load(index), preprocessing), True
    except decode.ImageError as error:
        findings = examples.findings
        if findings is None or findings.policy is not BadFiles.SKIP or not examples.encoded:
            raise
        findings.bad[str(examples.encoded[index])] = str(error)
        return np.zeros((side, side, 3), np.uint8), False


def _check_weights(made: TextPreprocessing, usual: TextPreprocessing, weights: str) -> None:
    """Refuses weights whose embedding would be read with other tokens or in another direction."""
    if not (made.vocabulary or usual.vocabulary):
        raise InputError(
            f'weights {weights!r} have no vocabulary: state it with '
            'preprocessing=TextPreprocessing(vocabulary=tljax.read_vocabulary(FILE))'
        )
    if usual.vocabulary and made.backward is not usual.backward:
        raise InputError(
            f'config.preprocessing.backward is {made.backward}, and weights {weights!r} read texts '
            f'with {usual.backward}: wanted the same'
        )


def settled(
    stated: AnyPreprocessing | None,
    usual: AnyPreprocessing,
    train: Examples,
    vocabulary: int,
    weights: str | None = None,
) -> AnyPreprocessing:
    """The preprocessing of a network: the stated one, else that of its weights or its family.

    A vocabulary that is not stated is that of the weights; without one it is built from the
    training split. The rows of a language model are windows.

    Args:
        stated: in the experiment.
        usual: of the weights or the family.
        train: the training split, before `prepared`.
        vocabulary: the most tokens of a vocabulary that is built.
        weights: the name of the weights; None without any.

    Raises:
        InputError: the stated preprocessing is not for what the network reads, reads texts in
            another direction than the weights, or weights have no vocabulary.
    """
    made = stated or usual
    if type(made) is not type(usual):
        raise InputError(
            f'preprocessing is a {type(made).__name__}, wanted a {type(usual).__name__}'
        )
    if not isinstance(made, TextPreprocessing) or not isinstance(usual, TextPreprocessing):
        return made
    if weights is not None:
        _check_weights(made, usual, weights)
    made = dataclasses.replace(made, vocabulary=made.vocabulary or usual.vocabulary)
    if not made.vocabulary:
        found = text_examples.vocabulary_of(train, vocabulary)
        made = dataclasses.replace(made, vocabulary=found)
    if isinstance(train.task, NextToken):
        made = dataclasses.replace(made, most_tokens=train.task.window)
    return made
