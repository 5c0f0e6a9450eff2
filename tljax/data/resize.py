"""Pillow's resizing, compiled: the same integer operations in the same order, so the same pixels.

It needs numba (the extra `fast`). Without numba `decode.resize_square` calls Pillow, which takes
five times as long. Pixels outside the central square are not computed.

Source of the arithmetic: Pillow, `src/libImaging/Resample.c`, for 8 bits a channel.
"""

import math

import numba
import numpy as np

LANES = 64  # rows per block of `_across`: with 16 it takes 1.4 times as long, with 8 twice
BITS = 22  # fractional bits of a weight
HALF = 1 << (BITS - 1)
i4, i8, u1, f8, b1 = numba.int32, numba.int64, numba.uint8, numba.float64, numba.boolean
TAPS = numba.types.Tuple((i8[::1], i8[::1], i4[:, ::1]))
IMAGE, LINES = (numba.types.Array(u1, n, 'C', readonly=True) for n in (3, 2))
at = np.uintp  # unsigned indices: a check for negative ones would prevent SIMD loops


def central_square(
    image: np.ndarray, size: tuple[int, int], side: int, cubic: bool = False
) -> np.ndarray:
    """The central square of a resized image, as from `PIL.Image.resize` and a crop.

    The pixels are bit-identical for images up to twice as high as wide. Pillow resizes taller
    images along columns first.

    Args:
        image: [h, w, 3] uint8.
        size: width and height of the full resized image, at least `side`.
        side: side of the square.
        cubic: bicubic interpolation instead of bilinear.

    Returns:
        [side, side, 3] uint8.
    """
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    left, top = (round((n - side) / 2) for n in size)
    columns = _taps(width, size[0], left, side, cubic)
    rows = _taps(height, size[1], top, side, cubic)
    start, stop = rows[0][0], (rows[0] + rows[1]).max()
    narrow = np.empty((stop - start, side, 3), np.uint8)
    _across(image[start:stop], narrow, columns)
    square = np.empty((side, side, 3), np.uint8)
    _down(narrow.reshape(len(narrow), -1), square.reshape(side, -1), (rows[0] - start, *rows[1:]))
    return square


def compiled(signature):
    """Compiles a function when the module is imported, and caches the result on disk."""
    return numba.njit(signature, nogil=True, cache=True)


@compiled(f8(f8))
def _bicubic(x):
    """Keys 1981, "Cubic convolution interpolation", with a = -1 / 2."""
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


@compiled(TAPS(i8, i8, i8, i8, b1))
def _taps(size, new_size, start, many, cubic):
    """For `many` new pixels from `start`: the first old pixel, their number, and their weights."""
    scale = size / new_size
    stretch = max(scale, 1.0)
    reach = (2.0 if cubic else 1.0) * stretch
    first, count = np.empty(many, np.int64), np.empty(many, np.int64)
    shares = np.empty(math.ceil(reach) * 2 + 1)
    weights = np.zeros((many, len(shares)), np.int32)
    for i in range(many):
        centre = (start + i + 0.5) * scale
        first[i] = max(int(centre - reach + 0.5), 0)
        count[i] = min(int(centre + reach + 0.5), size) - first[i]
        total = 0.0
        for k in range(count[i]):
            x = abs((k + first[i] - centre + 0.5) * (1.0 / stretch))
            shares[k] = _bicubic(x) if cubic else max(1.0 - x, 0.0)
            total += shares[k]
        for k in range(count[i]):
            exact = shares[k] / total * (1 << BITS)
            weights[i, k] = int(exact - 0.5 if exact < 0 else exact + 0.5)
    return first, count, weights


@compiled(numba.void(LINES, u1[::1], i4[::1], i8, i8, i4[::1]))
def _weigh(lines, out, sums, first, count, weights):
    """The weighted sum of `count` of the lines [N, L], rounded to gray levels."""
    for i in range(len(out)):
        sums[at(i)] = HALF
    for k in range(count):
        line, weight = lines[at(first + k)], weights[at(k)]
        for i in range(len(out)):
            sums[at(i)] += np.int32(line[at(i)]) * weight
    for i in range(len(out)):
        out[at(i)] = min(max(sums[at(i)] >> BITS, 0), 255)


@compiled(numba.void(IMAGE, u1[:, :, ::1], TAPS))
def _across(image, out, taps):
    """Resizes along rows: [h, w, 3] to [h, new w, 3].

    A block is transposed, so that the innermost loops run over adjacent memory.
    """
    first, count, weights = taps
    left, right = first[0], (first + count).max()
    block = np.empty((right - left, 3 * LANES), np.uint8)
    sums, line = np.empty(3 * LANES, np.int32), np.empty(3 * LANES, np.uint8)
    for start in range(0, len(out), LANES):
        lanes = min(LANES, len(out) - start)
        for lane in range(lanes):
            row = image[at(start + lane)]
            for x in range(left, right):
                for c in range(3):
                    block[at(x - left), at(3 * lane + c)] = row[at(x), at(c)]
        for x in range(out.shape[1]):
            _weigh(block, line, sums, first[at(x)] - left, count[at(x)], weights[at(x)])
            for lane in range(lanes):
                for c in range(3):
                    out[at(start + lane), at(x), at(c)] = line[at(3 * lane + c)]


@compiled(numba.void(LINES, u1[:, ::1], TAPS))
def _down(image, out, taps):
    """Resizes along columns: [h, w] to [new h, w]."""
    first, count, weights = taps
    sums = np.empty(out.shape[1], np.int32)
    for y in range(len(out)):
        _weigh(image, out[at(y)], sums, first[at(y)], count[at(y)], weights[at(y)])
