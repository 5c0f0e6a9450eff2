"""A network as a table of its stages, for a notebook."""

from typing import Any

import jax
import numpy as np

from tljax.data import inputs
from tljax.records.figures.axes import share_text
from tljax.records.pages import page
from tljax.records.pages.blocks import Facts, Row, Table


def html(network: Any) -> str:
    """The origin, the input and the classes of a `Network`, and a row for each stage."""
    model = network.model
    licence = network.origin.licence or 'not stated'
    facts = [
        ('network', type(network.backbone).__name__),
        ('weights', network.origin.source),
        ('licence', licence),
        ('input', inputs.described(network.preprocessing)),
        ('output', network.task.counted(model.num_classes)),
    ]
    sizes = {name: _size(network.params[name]) for name in model.names}
    total = sum(sizes.values())
    rows = [
        Row(cells=[name, f'{size:,}', share_text(size / total)]) for name, size in sizes.items()
    ]
    rows.append(Row(cells=['all', f'{total:,}', ''], style='chosen'))
    table = Table(name='Stages', columns=['stage', 'parameters', 'share'], rows=rows)
    return page.fragment([Facts(facts), table])


def _size(params: Any) -> int:
    """The number of parameters of a stage."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
