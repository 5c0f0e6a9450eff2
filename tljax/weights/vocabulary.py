"""The vocabulary of text weights: reading it from a file, and moving weights to another one."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tljax.models.recurrent import EMBEDDING
from tljax.models.stages import HEAD, Model
from tljax.types import InputError, Params, TextPreprocessing
from tljax.weights import torch_pickle

EMBED = 'embed'  # the stage with the embedding


def read_vocabulary(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The vocabulary in a file of fastai, for `TextPreprocessing(vocabulary=...)`.

    Args:
        path: a JSON list of tokens, or a pickle with one (`itos_wt103.pkl`), which is read without
            executing it.

    Raises:
        InputError: there is no such file, or it has something else.
    """
    file = pathlib.Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f'{file}: the vocabulary cannot be read: {error.strerror}') from error
    try:
        tokens = json.loads(content) if content[:1] in (b'[', b'{') else _unpickled(file)
    except torch_pickle.UnsafeFileError as error:
        raise InputError(f'{file}: refused: {error}') from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f'{file}: neither JSON nor a pickle: {error!r:.200}') from error
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError(f'{file}: it has a {type(tokens).__name__}, wanted a list of tokens')
    if problems := TextPreprocessing(vocabulary=tuple(tokens)).problems():
        raise InputError(f'{file}: {"; ".join(problems)}')
    return tuple(tokens)


def _unpickled(file: pathlib.Path) -> Any:
    def no_storage(pid: tuple[Any, ...]) -> torch_pickle.Storage:
        raise torch_pickle.UnsafeFileError('it has tensors, wanted a list of tokens')

    with file.open('rb') as stream:
        return torch_pickle.load(stream, no_storage)


def moved(
    params: Params, model: Model, before: Sequence[str], after: Sequence[str]
) -> tuple[Params, str]:
    """Parameters for another vocabulary of the same size, and a note on it.

    The rows of the embedding move with their tokens; a token that is new gets their mean. The
    outputs of a language model move likewise.

    Args:
        params: of the stages that are loaded.
        model: the network that they are for.
        before: the vocabulary of the weights.
        after: that of the network.

    Raises:
        InputError: the vocabularies have different sizes.

    Source: fastai's `match_embeds`.
    """
    if len(before) != len(after):
        raise InputError(
            f'the vocabulary has {len(after)} tokens and that of the weights {len(before)}: wanted '
            "as many, filled up with 'xxfake'"
        )
    rows = {token: row for row, token in reversed(list(enumerate(before)))}
    chosen = np.array([rows.get(token, len(before)) for token in after])

    def along(leaf: np.ndarray, axis: int) -> np.ndarray:
        with_mean = np.concatenate([leaf, leaf.mean(axis, keepdims=True)], axis)
        return np.take(with_mean, chosen, axis)

    result = {**params, EMBED: {EMBEDDING: along(params[EMBED][EMBEDDING], 0)}}
    if HEAD in params and model.task.continues:
        linear = {name: along(leaf, -1) for name, leaf in params[HEAD]['linear'].items()}
        result[HEAD] = {**params[HEAD], 'linear': linear}
    shared = int((chosen < len(before)).sum())
    note = f'The embedding was moved to another vocabulary: {shared:,} of {len(after):,} tokens'
    return result, f'{note} are in that of the weights, the others start at the mean.'
