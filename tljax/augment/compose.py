"""Kinds of operations, and how a list of them is applied with a single resampling.

An operation changes one example. There are three kinds:

    Geometric    `matrix`: where to sample the image, a homography
    Aligned      geometric, and rows stay rows: a crop, a flip
    Bent         geometric, with any map: `bend`
    Photometric  `shade`: changes the values and no positions

`apply` groups consecutive operations. In a group all geometric maps are composed and the image is
sampled once; then the photometric operations run in their order. An operation can be of both kinds
(the policies are). Augmentations of a full batch separate groups.
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
    """A change of each image, independent of the others."""

    __slots__ = ()

    def draw(self, key: jax.Array) -> Draw:
        """The random values of one example, from its key: arrays, named by their units."""
        return {}

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """A text of the operation and its strength, from an example's `draw`."""
        name = type(self).__name__
        if [*drawn] == ['applied']:
            return name if drawn['applied'] else f'no {name}'
        texts = [f'{float(x):.2g} {unit.replace("_", " ")}' for unit, x in drawn.items() if x]
        return f'{name} {", ".join(texts)}' if texts else f'no {name}'

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`."""
        return _apply_group([(self, key)], images), targets


class Geometric(Operation):
    """An operation that moves pixels and keeps lines straight."""

    __slots__ = ()

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size of the changed image."""
        return height, width

    def shrink(self, height: int, width: int) -> float:
        """The largest factor by which an image of that size is reduced."""
        return 1.0

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """Where to sample an image of that size: [3, 3], see `matrices`."""
        raise NotImplementedError

    def bend(
        self, key: jax.Array, rows: jax.Array, columns: jax.Array, height: int, width: int
    ) -> tuple[jax.Array, jax.Array]:
        """Where to sample the image for the pixels (rows, columns) of the changed image."""
        return resample.project(self.matrix(key, height, width), rows, columns)


class Aligned(Geometric):
    """An operation that maps rows to rows and columns to columns.

    Its `matrix` is [[a, 0, b], [0, c, d], [0, 0, 1]]. If all geometric operations are aligned, the
    image is sampled along one axis after the other, which is faster.
    """

    __slots__ = ()


class Bent(Geometric):
    """An operation that moves pixels along curves; it has a `bend` and no `matrix`."""

    __slots__ = ()


class Photometric(Operation):
    """An operation that changes an image's values."""

    __slots__ = ()

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """One image [H, W, 3], changed, in [0, 255]."""
        raise NotImplementedError


def example_keys(key: jax.Array, step: jax.Array | int, ids: jax.Array) -> jax.Array:
    """The keys of examples [B] at a step, from the run's key, the step and the examples' ids.

    So an example's view does not depend on its place in the batch or on the number of devices.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, step), 1)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def apply(
    augmentations: Sequence[Augmentation],
    keys: jax.Array,
    images: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Applies augmentations, each with its own keys; a group of operations samples once.

    Args:
        augmentations: in their order.
        keys: [B] keys.
        images: [B, H, W, 3] in [0, 255].
        targets: [B, K] distributions.

    Returns:
        Images [B m, h, w, 3] float32 and targets [B m, K], with m views of each from `Copy`.
    """
    for group in _groups(augmentations):
        operations = [(x, operation_keys(keys, i)) for i, x in group if isinstance(x, Operation)]
        if operations:
            images = _apply_group(operations, images)
            continue
        ((index, augmentation),) = group
        rows, images = len(images), images.astype(jnp.float32)
        images, targets = augmentation(operation_keys(keys, index), images, targets)
        keys = view_keys(keys, len(images) // rows)
    return images.astype(jnp.float32), targets


def operation_keys(keys: jax.Array, index: int) -> jax.Array:
    """The keys [B] of the augmentation at `index` of the list."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, index)


def view_keys(keys: jax.Array, views: int) -> jax.Array:
    """Keys [B views] for the views of examples [B], the views of an example adjacent."""
    if views == 1:
        return keys
    numbers = jnp.arange(views)
    each = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, numbers)
    return each.reshape(-1)


def warp(operations: Sequence[tuple[Geometric, jax.Array]], images: jax.Array) -> jax.Array:
    """Applies all geometric operations with one map and one gather.

    Pixels that an intermediate operation would have cropped stay available; outside the original
    image its edge is repeated.

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
        changes = [operation for operation, _ in operations]
        steps = list(zip(changes, keys, sizes[:-1], strict=True))
        if aligned:
            return resample.separable(image, *_aligned_positions(steps, *sizes[-1]), levels)
        rows, columns = _positions(steps, *resample.grid(*sizes[-1]))
        return resample.bilinear(image, rows, columns, levels)

    return jax.vmap(read)([keys for _, keys in operations], images)


Step = tuple[Geometric, jax.Array, tuple[int, int]]  # the operation, its key, its input's size


def _aligned_positions(
    steps: Sequence[Step], height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """The rows [height] and columns [width] at which to sample one image; all are `Aligned`."""
    matrix = matrices.product(*(operation.matrix(key, *size) for operation, key, size in steps))
    rows, _ = resample.project(matrix, jnp.arange(height, dtype=jnp.float32), jnp.float32(0))
    _, columns = resample.project(matrix, jnp.float32(0), jnp.arange(width, dtype=jnp.float32))
    return rows, columns


def _positions(
    steps: Sequence[Step], rows: jax.Array, columns: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Where to sample one image, from the last operation to the first; matrices are multiplied."""
    matrix = None
    for operation, key, size in reversed(steps):
        if not isinstance(operation, Bent):
            step = operation.matrix(key, *size)
            matrix = step if matrix is None else matrices.product(step, matrix)
            continue
        if matrix is not None:
            rows, columns = resample.project(matrix, rows, columns)
        rows, columns = operation.bend(key, rows, columns, *size)
        matrix = None
    return (rows, columns) if matrix is None else resample.project(matrix, rows, columns)


def _apply_group(operations: Sequence[tuple[Operation, jax.Array]], images: jax.Array) -> jax.Array:
    """Applies operations with keys [B] to images [B, H, W, 3]: geometric, then photometric."""
    images = warp([(x, key) for x, key in operations if isinstance(x, Geometric)], images)
    images = images.astype(jnp.float32)
    shades = [(x, key) for x, key in operations if isinstance(x, Photometric)]

    def shade(keys: Sequence[jax.Array], image: jax.Array) -> jax.Array:
        for (operation, _), key in zip(shades, keys, strict=True):
            image = operation.shade(key, image)
        return image

    return jax.vmap(shade)([key for _, key in shades], images) if shades else images


def _groups(
    augmentations: Sequence[Augmentation],
) -> Iterator[list[tuple[int, Augmentation]]]:
    """Groups of consecutive operations, and every other augmentation alone, with their indices."""
    group: list[tuple[int, Augmentation]] = []
    for index, augmentation in enumerate(augmentations):
        both = group and isinstance(augmentation, Operation) and isinstance(group[-1][1], Operation)
        if group and not both:
            yield group
            group = []
        group.append((index, augmentation))
    if group:
        yield group
