"""State dicts of small networks under the names of other libraries."""

import numpy as np

from tests import golden_small
from tljax import tree
from tljax.models import port, stages
from tljax.types import Backbone


def foreign(backbone: Backbone, naming: str, classes: int = 7) -> dict[str, np.ndarray]:
    """A state dict as another library would save it, with stand-in values."""
    params, stats = stages.shapes(stages.build(backbone, classes))
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    zeros = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in leaves.items()}
    names = port.to_foreign(zeros, backbone.port_tables()[naming])
    return {
        name: array
        if name.endswith('num_batches_tracked')
        else golden_small.tensor(name, array.shape)
        for name, array in names.items()
    }
