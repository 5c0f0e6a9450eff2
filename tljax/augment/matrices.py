"""Sampling positions as homographies [3, 3] of (row, column, 1), in pixels.

Each maps a pixel of the changed image to its position in the image before. The identity, flips and
right angles have whole entries (halves if the centre lies between pixels), so they are exact in
float32.
"""

import jax
import jax.numpy as jnp

Scalar = jax.Array | float


def product(*matrices: jax.Array) -> jax.Array:
    """The composition of changes in their order; the last matrix is applied first to positions."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = jnp.matmul(result, matrix, precision='highest')
    return result


def make(rows: list[list[Scalar]]) -> jax.Array:
    """[3, 3] float32 from two rows or three."""
    rows = rows if len(rows) == 3 else [*rows, [0.0, 0.0, 1.0]]
    return jnp.stack([jnp.stack([jnp.asarray(x, jnp.float32) for x in row]) for row in rows])


def around_centre(matrix: jax.Array, height: int, width: int) -> jax.Array:
    """The matrix for positions relative to the first pixel, from one relative to the centre."""
    row, column = (height - 1) / 2, (width - 1) / 2
    return product(translation(row, column), matrix, translation(-row, -column))


def translation(rows: Scalar, columns: Scalar) -> jax.Array:
    """Samples that many pixels further down and right."""
    return make([[1.0, 0.0, rows], [0.0, 1.0, columns]])


def scaling(rows: Scalar, columns: Scalar) -> jax.Array:
    """Samples that many times further from the first pixel."""
    return make([[rows, 0.0, 0.0], [0.0, columns, 0.0]])


def flip(horizontal: Scalar, vertical: Scalar, height: int, width: int) -> jax.Array:
    """Mirrors along each axis that is 1, and not along those that are 0."""
    return make(
        [
            [1 - 2 * vertical, 0.0, vertical * (height - 1)],
            [0.0, 1 - 2 * horizontal, horizontal * (width - 1)],
        ]
    )


def rotation(degrees: Scalar) -> jax.Array:
    """Rotates the image counterclockwise around the first pixel; right angles are exact.

    The angle is split into quarter turns and a rest of at most 45 degrees, because the cosine of
    π / 2 in float32 is not 0.
    """
    quarters = jnp.round(jnp.asarray(degrees, jnp.float32) / 90)
    rest = jnp.deg2rad(degrees - 90 * quarters)
    cos, sin = jnp.cos(rest), jnp.sin(rest)
    turn = jnp.mod(quarters, 4).astype(jnp.int32)
    cos, sin = jnp.stack([cos, -sin, -cos, sin])[turn], jnp.stack([sin, cos, -sin, -cos])[turn]
    return make([[cos, sin, 0.0], [-sin, cos, 0.0]])


def shearing(horizontal: Scalar, vertical: Scalar) -> jax.Array:
    """Samples that many pixels further right per row, and further down per column."""
    return make([[1.0, vertical, 0.0], [horizontal, 1.0, 0.0]])


def quadrilateral(offsets: jax.Array, height: int, width: int) -> jax.Array:
    """Samples the image's corners at offsets, and the pixels between in perspective.

    Args:
        offsets: [4, 2], the (row, column) offset of each corner as a share of the sides:
            top left, bottom left, bottom right, top right.
        height: of the image.
        width: of the image.

    Source: Heckbert 1989, "Fundamentals of texture mapping and image warping", section 2.2.3.
    """
    square = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    (p0, p1, p2, p3) = square + offsets
    (dy1, dx1), (dy2, dx2), (sy, sx) = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    area = dy1 * dx2 - dy2 * dx1
    down, right = (sy * dx2 - dy2 * sx) / area, (dy1 * sx - sy * dx1) / area
    (a, d), (b, e) = p1 - p0 + down * p1, p3 - p0 + right * p3
    # In pixels: entry (i, j) of the unit square's map times side i over side j; exact for i = j.
    height_px, width_px = max(height - 1, 1), max(width - 1, 1)
    return make(
        [
            [a, b * (height_px / width_px), p0[0] * height_px],
            [d * (width_px / height_px), e, p0[1] * width_px],
            [down / height_px, right / width_px, 1.0],
        ]
    )
