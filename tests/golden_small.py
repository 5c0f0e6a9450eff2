"""Stand-in weights, images and labels by formula, behind the figures in golden_small.json.

`make_golden_small.py` computed the figures with torch in float64; the tests compare ours.
"""

import json
import math
import pathlib
import zlib
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.json')
NUM_CLASSES = 8
SIZE_PX = {'resnet18': 50, 'resnet_small20': 25, 'vgg11': 50, 'vgg11_bn': 50}
_DRAWN = 65537  # so many values are drawn, and repeated: VGG's fc6 has a hundred million


def figures() -> dict[str, Any]:
    """`{network: {'eval_logits', 'loss', 'gradient_norms', 'running_norms'}}`."""
    return json.loads(FILE.read_text())


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 entry `name` of a torch state dict."""
    middle, reach = _range(name, shape)
    values = middle + reach * _uniform(name, min(math.prod(shape), _DRAWN))
    return np.resize(values.astype(np.float32), shape)


def _range(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Middle and reach of an entry's values; kernels get the variance of He et al. 2015."""
    if name.endswith('running_var'):
        return 1.0, 0.4
    if name.endswith(('running_mean', 'bias')):
        return 0.0, 0.2
    if len(shape) == 1:
        return 0.7, 0.3
    return 0.0, math.sqrt(6 / math.prod(shape[1:]))


def _uniform(name: str, size: int) -> np.ndarray:
    """[size] float64 in [-1, 1), the same bits on every machine."""
    raw = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(size)
    return np.ldexp((raw >> np.uint64(12)).astype(np.float64), -51) - 1.0


def images(batch: int, size: int) -> np.ndarray:
    """Normalised images [B, H, W, 3] float32."""
    shape = (batch, size, size, 3)
    return (1.5 * _uniform(f'{batch} images', math.prod(shape))).astype(np.float32).reshape(shape)


def labels(batch: int) -> np.ndarray:
    """Labels [B] int64."""
    return np.arange(batch) * 3 % NUM_CLASSES
