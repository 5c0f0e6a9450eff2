"""Networks of other libraries with weights by formula, whose figures are in the JSON files here.

`make.py` writes the files; `tests/models/test_golden_networks.py` compares ours with them. A file
has the cases of one family:

    {case: {'naming', 'backbone': {'class': 'tljax:…', fields}, 'manifest': {name: shape},
            'options', 'prefix', 'outputs': {size: [B, F]}, 'size', 'loss', 'gradient_norms',
            'running_norms'}}

`naming` and `backbone` are what `tljax.load` has to recognise. `outputs` are logits, or the pooled
features of a network without a classifier, of two images of each size. The others are of a pass in
training mode over four images of `size`: `loss(outputs)`, the norm of its gradient by the entry,
and the norm of each running statistic afterwards.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np

from tests import golden_small

FOLDER = pathlib.Path(__file__).parent
BATCH = 4
CLASSES = 8
DIGITS = 9  # of every figure


def families() -> list[str]:
    """The names of the files."""
    return sorted(path.stem for path in FOLDER.glob('*.json'))


def cases(family: str) -> dict[str, Any]:
    """The cases of a family."""
    return json.loads((FOLDER / f'{family}.json').read_text())


def entries(manifest: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The state dict of a case, float32; counters of batches are 0."""
    return {name: _entry(name, tuple(shape)) for name, shape in manifest.items()}


def _entry(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith('num_batches_tracked'):
        return np.zeros((), np.int64)
    if name.endswith('relative_position_index'):  # of Swin, of the pairs in a window
        window = math.isqrt(math.isqrt(math.prod(shape)))
        y, x = np.indices((window, window)).reshape(2, -1)
        down, right = y[:, None] - y + window - 1, x[:, None] - x + window - 1
        return (down * (2 * window - 1) + right).reshape(shape)
    if name.endswith('relative_coords_table'):  # of Swin V2
        reach = shape[1] // 2
        steps = 8 * np.arange(-reach, reach + 1, dtype=np.float32) / np.float32(max(reach, 1))
        steps = np.sign(steps) * np.log2(np.abs(steps) + 1) / np.float32(3)
        return np.stack(np.meshgrid(steps, steps, indexing='ij'), -1).reshape(shape)
    return golden_small.tensor(name, shape)


def weights_of_loss(shape: tuple[int, ...]) -> np.ndarray:
    """[B, F]: the loss is the sum of the outputs times these."""
    return golden_small.tensor('weights of the loss', shape) / math.prod(shape)


def keeps(call: int) -> np.ndarray:
    """[B] bool: the examples that keep their branch in the `call`-th use of stochastic depth."""
    return (3 * call + 5 * np.arange(BATCH)) % 4 != 0
