"""Width, height and brightness of images, for slices."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from tljax.data import files
from tljax.types import Examples

THUMB_PX = 64  # to which JPEGs are decoded smaller; the mean brightness hardly changes


class ImageProperties(NamedTuple):
    """Values [N] of each image; NaN for one that cannot be read.

    Attributes:
        width: in pixels, as stored.
        height: likewise.
        brightness: the mean gray value, 0 to 1.
    """

    width: np.ndarray
    height: np.ndarray
    brightness: np.ndarray

    @property
    def aspect_ratio(self) -> np.ndarray:
        """Width divided by height."""
        return self.width / self.height


def measure(examples: Examples) -> ImageProperties:
    """The properties of all images; files are read as they are stored, without any cache."""
    with ThreadPoolExecutor(files.THREADS) as threads:
        rows = list(threads.map(lambda i: _measure(examples, i), range(len(examples))))
    return ImageProperties(*np.array(rows, np.float64).reshape(-1, 3).T)


def _measure(examples: Examples, index: int) -> tuple[float, float, float]:
    try:
        if examples.encoded is None:
            image = Image.fromarray(np.asarray(examples.load(index)))
        else:
            image = Image.open(io.BytesIO(examples.encoded[index].read()))
        width, height = image.size
        image.draft('L', (THUMB_PX, THUMB_PX))
        gray = image.convert('RGB').convert('L')
        return width, height, float(np.asarray(gray).mean()) / 255
    except Exception:  # readers of damaged files raise nearly anything
        return math.nan, math.nan, math.nan
