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
    return {
        name: np.zeros((), np.int64)
        if name.endswith('num_batches_tracked')
        else golden_small.tensor(name, tuple(shape))
        for name, shape in manifest.items()
    }


def weights_of_loss(shape: tuple[int, ...]) -> np.ndarray:
    """[B, F]: the loss is the sum of the outputs times these."""
    return golden_small.tensor('weights of the loss', shape) / math.prod(shape)


def keeps(call: int) -> np.ndarray:
    """[B] bool: the examples that keep their branch in the `call`-th use of stochastic depth."""
    return (3 * call + 5 * np.arange(BATCH)) % 4 != 0
