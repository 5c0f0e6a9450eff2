"""Windows of maps, and the positions of tokens in a window, for attention in windows."""

import jax
import jax.numpy as jnp
import numpy as np

MASKED = -100.0  # added to logits, as in the published networks
LARGEST_COORDINATE = 8  # of a continuous position bias


def padded(x: jax.Array, multiple: int) -> jax.Array:
    """[B, H, W, C] with zeros below and on the right, to multiples of `multiple`."""
    bottom, right = (-side % multiple for side in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))


def split(x: jax.Array, window: int) -> jax.Array:
    """[B, H, W, C], H and W multiples of `window`, to tokens [B, windows, window^2, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, window * window, channels)


def joined(tokens: jax.Array, window: int, height: int, width: int) -> jax.Array:
    """The inverse of `split`: maps [B, height, width, C]."""
    batch, channels = tokens.shape[0], tokens.shape[-1]
    x = tokens.reshape(batch, height // window, width // window, window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)


def shifts(height: int, width: int, window: int) -> tuple[int, int]:
    """By how much maps are rolled: half a window, but 0 where one window covers the side."""
    rows, columns = (window // 2 if side > window else 0 for side in (height, width))
    return rows, columns


def mask(height: int, width: int, window: int, shift: tuple[int, int]) -> np.ndarray:
    """What is added to the logits of rolled maps: pairs that were no neighbours get `MASKED`.

    Returns:
        [windows, window^2, window^2] float32.
    """
    rows, columns = (
        _regions(side, window, by) for side, by in zip((height, width), shift, strict=True)
    )
    regions = (3 * rows[:, None] + columns).reshape(
        height // window, window, width // window, window
    )
    regions = regions.transpose(0, 2, 1, 3).reshape(-1, window * window)
    return np.where(regions[:, :, None] == regions[:, None], 0, MASKED).astype(np.float32)


def _regions(side: int, window: int, shift: int) -> np.ndarray:
    """[side]: rows of one number are neighbours in the maps before they were rolled."""
    position = np.arange(side)
    if not shift:
        return np.zeros_like(position)
    return (position >= side - window).astype(int) + (position >= side - shift)


def relative_index(window: int) -> np.ndarray:
    """[window^2, window^2] int64: the row of a bias table for each pair of tokens of a window.

    The table has a row for each of the (2 window - 1)^2 differences of positions.
    """
    rows, columns = np.divmod(np.arange(window * window), window)
    down, right = (x[:, None] - x + window - 1 for x in (rows, columns))
    return (2 * window - 1) * down + right


def relative_coordinates(window: int, pretrained_window: int = 0) -> np.ndarray:
    """[2 window - 1, 2 window - 1, 2] float32: the logarithmic coordinates of each difference.

    The largest is the same for every size of the window in which the network was pretrained, 0 for
    this one.

    Source: Liu et al. 2022, "Swin Transformer V2", section 3.3; the scale is its code's.
    """
    steps = np.arange(1 - window, window, dtype=np.float32)
    steps /= max((pretrained_window or window) - 1, 1)
    steps *= LARGEST_COORDINATE
    steps = np.sign(steps) * np.log2(np.abs(steps) + 1) / np.float32(3)
    return np.stack(np.meshgrid(steps, steps, indexing='ij'), -1)


def pretrained_window(coordinates: np.ndarray) -> int:
    """The inverse of `relative_coordinates` [2 window - 1, 2 window - 1, 2]: 0 for its own size."""
    window = (len(coordinates) + 1) // 2
    largest = float(np.exp2(3 * np.max(coordinates))) - 1
    result = round(LARGEST_COORDINATE * (window - 1) / largest) + 1 if largest > 0 else window
    return 0 if result == window else result
