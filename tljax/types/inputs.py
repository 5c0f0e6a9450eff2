"""What a network's weights expect of their input, and what changes images on the device."""

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from tljax.types.errors import InputError

UNKNOWN, PADDING = 'xxunk', 'xxpad'  # tokens of every vocabulary of text, as in fastai
FILLING = 'xxfake'  # fills fastai's vocabularies up to a multiple of 8


class Interpolation(enum.Enum):
    """Resampling filter, antialiased as in Pillow."""

    BILINEAR = 'bilinear'
    BICUBIC = 'bicubic'


def gray_range_problems(gray_range: Sequence[float]) -> list[str]:
    """The problems of a range of gray values, one message each."""
    if len(gray_range) == 2 and math.isfinite(sum(gray_range)) and gray_range[0] < gray_range[1]:
        return []
    return [f'gray_range is {gray_range}, wanted two finite numbers, the lower one first']


@runtime_checkable
class Views(Protocol):
    """Several views of each image in evaluation; their probabilities are averaged."""

    @property
    def count(self) -> int:
        """V, the number of views per image."""
        ...

    def __call__(self, canvases: jax.Array, size_px: int) -> jax.Array:
        """[B, H, W, C] to [B, V, size_px, size_px, C] with the same value range."""
        ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Preprocessing:
    """The preprocessing that a network's weights expect; it is stored with the weights.

    The short side is resized to `resize_px`, the central square of `size_px` is cut out, and
    channels (RGB, scaled to [0, 1]) become `(x - mean) / std`. `mean` and `std` have a value for
    each channel that the network reads; with one value, color images are converted to gray.

    Attributes:
        size_px: side of the image that the network reads.
        resize_px: the short side of an image before the square is cut out.
        interpolation: the filter of resizing.
        mean: of each channel, of values from 0 to 1.
        std: of each channel.
        scaled_decoding: whether large JPEGs are decoded at a smaller size: twice as fast, slightly
            inexact.
        gray_range: black and white of images with more than 8 bits; none if unknown.
    """

    size_px: int = 224
    resize_px: int = 256
    interpolation: Interpolation = Interpolation.BILINEAR
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scaled_decoding: bool = False
    gray_range: tuple[float, ...] | None = None
    inputs: ClassVar[str] = 'images'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        if self.size_px < 1:
            problems.append(f'size_px is {self.size_px}, wanted more than 0')
        elif self.size_px > self.resize_px:
            problems.append(
                f'size_px is {self.size_px}, wanted at most resize_px, {self.resize_px}'
            )
        if not self.mean:
            problems.append('mean is (), wanted a value for each channel')
        if len(self.std) != len(self.mean) or min(self.std, default=0) <= 0:
            problems.append(f'std is {self.std}, wanted {len(self.mean)} values more than 0')
        if self.gray_range is not None:
            problems += gray_range_problems(self.gray_range)
        return problems

    def row(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a row of a batch: an image [resize_px, resize_px, 3] uint8."""
        return jax.ShapeDtypeStruct((self.resize_px, self.resize_px, 3), jnp.uint8)

    def first_input(self, rows: int) -> jax.ShapeDtypeStruct:
        """The shape and dtype of the first stage's input: normalised images [B, H, W, C]."""
        shape = (rows, self.size_px, self.size_px, len(self.mean))
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def viewed(self, views: Views, rows: jax.Array) -> jax.Array:
        """The views [B, V, size_px, size_px, C] of the images of a batch."""
        return views(rows, self.size_px)


@dataclasses.dataclass(slots=True, kw_only=True)
class TextPreprocessing:
    """How a network's weights expect their text; it is stored with the weights.

    A text becomes tokens by the rules of `data.text_tokens`, and token i of `vocabulary` becomes
    the number i. Rows are padded at their end with the number of `PADDING`. Without a vocabulary
    it is built from the training split.

    Attributes:
        vocabulary: the token of each number; () if none is known yet.
        most_tokens: tokens in a row; of a longer text the beginning is read.
        backward: whether a network reads the tokens from the last to the first.
    """

    vocabulary: tuple[str, ...] = ()
    most_tokens: int = 512
    backward: bool = False
    inputs: ClassVar[str] = 'texts'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        if self.most_tokens < 1:
            problems.append(f'most_tokens is {self.most_tokens}, wanted more than 0')
        tokens = [one for one in self.vocabulary if one != FILLING]
        if len(set(tokens)) < len(tokens):
            problems.append('vocabulary has a token twice')
        lacking = [one for one in (UNKNOWN, PADDING) if one not in self.vocabulary]
        if self.vocabulary and lacking:
            problems.append(f'vocabulary lacks {" and ".join(lacking)}')
        return problems

    @property
    def padding(self) -> int:
        """The number of the padding token."""
        return self.vocabulary.index(PADDING)

    def row(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a row of a batch: numbers of tokens [most_tokens] int32."""
        return jax.ShapeDtypeStruct((self.most_tokens,), jnp.int32)

    def first_input(self, rows: int) -> jax.ShapeDtypeStruct:
        """The shape and dtype of the first stage's input: numbers of tokens [B, T]."""
        return jax.ShapeDtypeStruct((rows, self.most_tokens), jnp.int32)

    def viewed(self, views: Views, rows: jax.Array) -> jax.Array:
        """The rows [B, 1, T] themselves, because a text has one view."""
        return rows[:, None]


# What a network's weights expect of their input; both have the methods that training needs.
AnyPreprocessing = Preprocessing | TextPreprocessing


def images_of(preprocessing: AnyPreprocessing) -> Preprocessing:
    """The preprocessing of images, for what works with images only.

    Raises:
        InputError: it is that of a network that reads text.
    """
    if isinstance(preprocessing, Preprocessing):
        return preprocessing
    raise InputError('the network reads text, and this works with images only')


@runtime_checkable
class Augmentation(Protocol):
    """A random change of a batch, on the device.

    Pure: `(key, images, targets) -> (images, targets)`; `key` is one key per example, `images`
    [B, H, W, 3] float32 in [0, 255], `targets` [B, K] as for `Loss`. An augmentation that makes m
    views of each example returns [B m, ...], the views of an example adjacent. An
    `augment.Operation` changes each image independently and is composed with its neighbours.
    """

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]: ...
