"""What operations are made of, and how a list of them becomes one reading of the image.

An operation says what it does to one example; the three kinds say how:

    Geometric    `matrix`: where the changed image is read, a homography
    Aligned      likewise, and rows stay rows: a crop, a flip
    Bent         `bend`: likewise, any map
    Photometric  `shade`: other values at the same places

`apply` takes the longest stretches of operations from a list. Of a stretch, whatever the order, the
places are composed into one map and read at once, and then the values are changed, in
their order. An operation may be of two kinds (the policies are). Augmentations of the whole batch
stand between stretches.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import matrices, resample
from tljax.types import Augmentation

Draw = dict[str, jax.Array]


def whether(key: jax.Array, probability: float) -> Draw:
    """1 with that probability, else 0."""
    return {'applied': jax.random.bernoulli(key, float(probability)).astype(jnp.float32)}


class Operation:
    """A change of each image for itself."""

    __slots__ = ()

    def draw(self, key: jax.Array) -> Draw:
        """What is random about it, under one example's key: arrays, named by their units."""
        return {}

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """The operation and its strength in words, from what `draw` gave for an example."""
        name = type(self).__name__
        if [*drawn] == ['applied']:
            return name if drawn['applied'] else f'no {name}'
        words = [f'{float(x):.2g} {unit.replace("_", " ")}' for unit, x in drawn.items() if x]
        return f'{name} {", ".join(words)}' if words else f'no {name}'

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`."""
        return _stretch([(self, key)], images), targets


class Geometric(Operation):
    """An operation that moves an image's pixels along straight lines."""

    __slots__ = ()

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the changed image."""
        return height, width

    def shrink(self, height: int, width: int) -> float:
        """How many times smaller an image of that size may become, at most."""
        return 1.0

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """Where one image of that size is read: [3, 3], see `matrices`."""
        raise NotImplementedError

    def bend(
        self, key: jax.Array, rows: jax.Array, columns: jax.Array, height: int, width: int
    ) -> tuple[jax.Array, jax.Array]:
        """The same for a `Bent`."""
        return resample.project(self.matrix(key, height, width), rows, columns)


class Aligned(Geometric):
    """An operation that takes rows to rows and columns to columns.

    Its `matrix` is [[a, 0, b], [0, c, d], [0, 0, 1]]. An image that only such operations move is
    read one axis after the other, which is faster.
    """

    __slots__ = ()


class Bent(Geometric):
    """An operation that moves an image's pixels along curves; it has a `bend` and no `matrix`."""

    __slots__ = ()


class Photometric(Operation):
    """An operation that changes an image's values."""

    __slots__ = ()

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """One image [H, W, 3], changed, within [0, 255]."""
        raise NotImplementedError


def example_keys(key: jax.Array, step: jax.Array | int, ids: jax.Array) -> jax.Array:
    """The keys of examples [B] at a step, from nothing but the run's key, the step and their ids.

    An example's view is thus the same wherever in the batch it stands, on however many devices.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, step), 1)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def apply(
    augmentations: Sequence[Augmentation],
    keys: jax.Array,
    images: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Applies augmentations, each with keys of its own, with one gather for a stretch of them.

    Args:
        augmentations: what to apply.
        keys: [B] keys.
        images: [B, H, W, 3] in [0, 255].
        targets: [B, K] distributions.

    Returns:
        Images [B m, h, w, 3] float32 and targets [B m, K], where `Copy` made m views of each.
    """
    for stretch in _stretches(augmentations):
        own = [(one, own_keys(keys, i)) for i, one in stretch if isinstance(one, Operation)]
        if own:
            images = _stretch(own, images)
            continue
        ((index, one),) = stretch
        rows, images = len(images), images.astype(jnp.float32)
        images, targets = one(own_keys(keys, index), images, targets)
        keys = view_keys(keys, len(images) // rows)
    return images.astype(jnp.float32), targets


def own_keys(keys: jax.Array, index: int) -> jax.Array:
    """The keys [B] of the augmentation at an index of the list."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, index)


def view_keys(keys: jax.Array, views: int) -> jax.Array:
    """Keys [B] for views of the examples [B views], those of one example side by side."""
    if views == 1:
        return keys
    numbers = jnp.arange(views)
    each = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, numbers)
    return each.reshape(-1)


def warp(operations: Sequence[tuple[Geometric, jax.Array]], images: jax.Array) -> jax.Array:
    """Moves pixels by all operations at once: one map, one gather.

    What comes into view is the image where there is some, whatever an operation in between would
    have cut off, and its edge where there is none.

    Args:
        operations: with their keys [B], in their order.
        images: [B, H, W, 3] float32.
    """
    if not operations:
        return images
    sizes, shrink = [(images.shape[1], images.shape[2])], 1.0
    for operation, _ in operations:
        shrink *= operation.shrink(*sizes[-1])
        sizes.append(operation.size(*sizes[-1]))
    levels = resample.levels_for(shrink, *sizes[0])
    aligned = all(isinstance(operation, Aligned) for operation, _ in operations)

    def read(keys: Sequence[jax.Array], image: jax.Array) -> jax.Array:
        changes = [one for one, _ in operations]
        steps = list(zip(changes, keys, sizes[:-1], strict=True))
        if aligned:
            return resample.separable(image, *_lines(steps, *sizes[-1]), levels)
        rows, columns = _places(steps, *resample.grid(*sizes[-1]))
        return resample.bilinear(image, rows, columns, levels)

    return jax.vmap(read)([keys for _, keys in operations], images)


Step = tuple[Geometric, jax.Array, tuple[int, int]]  # with its key and the size it changes


def _lines(steps: Sequence[Step], height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The rows [height] and the columns [width] where one image is read, all steps `Aligned`."""
    matrix = matrices.product(*(operation.matrix(key, *size) for operation, key, size in steps))
    rows, _ = resample.project(matrix, jnp.arange(height, dtype=jnp.float32), jnp.float32(0))
    _, columns = resample.project(matrix, jnp.float32(0), jnp.arange(width, dtype=jnp.float32))
    return rows, columns


def _places(
    steps: Sequence[Step], rows: jax.Array, columns: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Where one image is read, from the last operation to the first; matrices are multiplied."""
    matrix = None
    for operation, key, size in reversed(steps):
        if not isinstance(operation, Bent):
            own = operation.matrix(key, *size)
            matrix = own if matrix is None else matrices.product(own, matrix)
            continue
        if matrix is not None:
            rows, columns = resample.project(matrix, rows, columns)
        rows, columns = operation.bend(key, rows, columns, *size)
        matrix = None
    return (rows, columns) if matrix is None else resample.project(matrix, rows, columns)


def _stretch(operations: Sequence[tuple[Operation, jax.Array]], images: jax.Array) -> jax.Array:
    """Operations with their keys [B] on images [B, H, W, 3]: first the places, then the values."""
    images = warp([(one, key) for one, key in operations if isinstance(one, Geometric)], images)
    images = images.astype(jnp.float32)
    shades = [(one, key) for one, key in operations if isinstance(one, Photometric)]

    def shade(keys: Sequence[jax.Array], image: jax.Array) -> jax.Array:
        for (one, _), key in zip(shades, keys, strict=True):
            image = one.shade(key, image)
        return image

    return jax.vmap(shade)([key for _, key in shades], images) if shades else images


def _stretches(
    augmentations: Sequence[Augmentation],
) -> Iterator[list[tuple[int, Augmentation]]]:
    """Runs of operations, and alone whatever else there is, with their indices."""
    run: list[tuple[int, Augmentation]] = []
    for index, one in enumerate(augmentations):
        if run and not (isinstance(one, Operation) and isinstance(run[-1][1], Operation)):
            yield run
            run = []
        run.append((index, one))
    if run:
        yield run
