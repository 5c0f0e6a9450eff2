"""What is said of entries that no network here fits."""

import jax
import numpy as np
import pytest

from tljax import tree
from tljax.models import port, stages
from tljax.models.backbones.vit import ViT
from tljax.weights.recognise import UnknownNetworkError, recognise


def entries(width=64, positions=5):
    """A state dict under the names of timm, of zeros."""
    vit = ViT(width=width, depth=1, size_px=32, head_width=width)
    params, _ = stages.shapes(stages.build(vit, 3))
    leaves = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), {'params': params})
    found = port.to_foreign(tree.flatten(leaves), vit.port_tables()['timm'])
    return {**found, 'pos_embed': np.zeros((1, positions, width), np.float32)}


def error(found):
    with pytest.raises(UnknownNetworkError) as caught:
        recognise(found)
    return str(caught.value)


def test_a_whole_network_is_recognised():
    assert recognise(entries()).backbone.size_px == 32


@pytest.mark.parametrize('positions', [7, 12])
def test_positions_that_are_no_square_are_named(positions):
    said = error(entries(positions=positions))
    assert f'it has {positions - 1} patch positions, wanted a square number' in said


def test_a_width_of_unknown_heads_is_named():
    said = error(entries(width=96))
    assert 'The nearest is ViT with the names of timm' in said
    assert 'its width 96 is not a multiple of 64' in said


def test_entries_without_a_place_are_named_and_counted():
    odd = {f'odd_token{i}': np.zeros((1, 1, 64), np.float32) for i in range(8)}
    said = error({**entries(positions=6), **odd})
    assert 'it has no place for odd_token0 [1, 1, 64], ' in said
    assert 'and 2 more' in said


def test_nothing_is_near_to_entries_of_another_kind():
    assert 'The nearest' not in error({'a.b': np.zeros(3, np.float32)})
