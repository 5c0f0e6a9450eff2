"""Selects the pretrained values that a model uses, and adapts them to other images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tljax import tree
from tljax.models import positions, stages
from tljax.models.stages import HEAD, Model
from tljax.types import InputError, Params, Preprocessing, Stats, TextPreprocessing
from tljax.weights import vocabulary
from tljax.weights.pretrained import Pretrained


class AdaptError(InputError):
    """Weights that cannot be adapted to a model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapted:
    """The pretrained values for a model.

    Attributes:
        params: of complete stages; the other stages start at random.
        stats: of the same stages.
        dropped: stages of the weights that the model lacks.
        notes: a sentence for every change.
    """

    params: Params
    stats: Stats
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def adapt(pretrained: Pretrained, model: Model, *, keep_head: bool = False) -> Adapted:
    """The values of pretrained weights for a model.

    The model gets a new head unless `keep_head`. Kernels are adapted to another number of channels,
    and position embeddings to another image size. The embedding of tokens moves to the vocabulary
    of the model.

    Raises:
        AdaptError: the weights have no head to keep, their head has another number of classes, or a
            leaf cannot be adapted.
    """
    notes = list(pretrained.origin.notes)
    if keep_head:
        _check_head(pretrained, model)
    elif HEAD in pretrained.params:
        notes.append(
            f'The head is new: {model.task.counted(model.num_classes)} instead of '
            f'{pretrained.num_classes}.'
        )
    kept = [n for n in model.names if n in pretrained.params and (keep_head or n != HEAD)]
    params = {name: pretrained.params[name] for name in kept}
    if _reads_other_images(pretrained, model):
        params, more = _fitted(params, model)
        notes += more
    if vocabularies := _other_vocabulary(pretrained, model):
        params, note = vocabulary.moved(params, model, *vocabularies)
        notes.append(note)
    return Adapted(
        params=params,
        stats={name: pretrained.stats[name] for name in kept if name in pretrained.stats},
        dropped=tuple(name for name in pretrained.params if name not in model.names),
        notes=tuple(notes),
    )


def _check_head(pretrained: Pretrained, model: Model) -> None:
    if HEAD not in pretrained.params:
        raise AdaptError(f'weights {pretrained.origin.source!r} have no head to keep')
    task, count = pretrained.origin.task, pretrained.num_classes or 0
    if task.numbers != model.task.numbers or task.outputs(count) - count != (
        model.outputs - model.num_classes
    ):
        raise AdaptError(
            f'the head of weights {pretrained.origin.source!r} is for {task.counted(count)}, and '
            f'the labels are {model.task.counted(model.num_classes)}: wanted a new head'
        )
    if pretrained.num_classes != model.num_classes:
        raise AdaptError(
            f'the head of weights {pretrained.origin.source!r} is for '
            f'{pretrained.num_classes} classes, wanted {model.num_classes} to keep it'
        )


def _reads_other_images(pretrained: Pretrained, model: Model) -> bool:
    one, other = pretrained.preprocessing, model.preprocessing
    if not (isinstance(one, Preprocessing) and isinstance(other, Preprocessing)):
        return False
    return (one.size_px, len(one.mean)) != (other.size_px, len(other.mean))


def _other_vocabulary(
    pretrained: Pretrained, model: Model
) -> tuple[Sequence[str], Sequence[str]] | None:
    """The vocabularies of the weights and of the model, if both are known and differ."""
    one, other = pretrained.preprocessing, model.preprocessing
    if not (isinstance(one, TextPreprocessing) and isinstance(other, TextPreprocessing)):
        return None
    before, after = one.vocabulary, other.vocabulary
    return (before, after) if before and after and before != after else None


def _fitted(params: Params, model: Model) -> tuple[Params, list[str]]:
    """Every leaf in the shape that the model needs, and a note for every change."""
    shapes = tree.flatten(stages.shapes(model)[0])
    first, leaves, notes, problems = model.names[0], {}, [], []
    for path, leaf in tree.flatten(params).items():
        wanted = shapes[path].shape
        leaves[path] = leaf
        if leaf.shape == wanted:
            continue
        if path.endswith('position_embedding'):
            leaves[path], note = _resized(leaf, wanted[1], model.stages[first])
            notes.append(f'{path} {note}')
        elif path.split('/')[0] == first and leaf.ndim == 4 and _same_but_input(leaf.shape, wanted):
            leaves[path] = adapt_channels(leaf, wanted[2])
            notes.append(f'{path} reads {wanted[2]} channels instead of {leaf.shape[2]}.')
        else:
            problems.append(f'{path} is {list(leaf.shape)}, wanted {list(wanted)}')
    if problems:
        raise AdaptError('the weights cannot be adapted to this model:\n  ' + '\n  '.join(problems))
    return tree.unflatten(leaves), notes


def _same_but_input(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two kernels' shapes differ only in the input channels."""
    return (*one[:2], one[3]) == (*other[:2], other[3])


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first convolution's kernel for images with another number of channels.

    For one channel, the kernels are summed, so a gray image gives the same output as the image
    repeated in every channel gave before. For more channels, the kernels are repeated in order and
    scaled by old over new, which keeps the scale of the output. With a multiple of the old number,
    an image repeated in every channel gives the same output as before.

    Args:
        kernel: [h, w, C, F].
        channels: the new C.

    Returns:
        [h, w, channels, F].

    Source: timm's `adapt_input_conv`.
    """
    before = kernel.shape[2]
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    repeats = -(-channels // before)
    repeated = np.tile(kernel, (1, 1, repeats, 1))[:, :, :channels]
    return repeated * np.float32(before / channels)


def _resized(embedding: np.ndarray, tokens: int, stage: Any) -> tuple[np.ndarray, str]:
    """Position embeddings resized as the stage that adds them states, and the note on it."""
    prefix, resizing = stage.position_prefix, stage.position_resizing
    try:
        resized = positions.resize(embedding, tokens, prefix=prefix, resizing=resizing)
    except InputError as error:
        raise AdaptError(str(error)) from error
    before, after = (array.shape[1] - prefix for array in (embedding, resized))
    return resized, f'was resized from {before} patches to {after}.'
