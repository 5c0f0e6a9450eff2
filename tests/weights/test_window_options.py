"""The windows of a Swin Transformer V2 are read from names, options and coordinates."""

import dataclasses

import numpy as np
import pytest

from tljax.models import windows
from tljax.models.backbones.swin import Swin
from tljax.weights import network_options, options
from tljax.weights.options import OptionError

V2 = Swin(version=2, windows=(8, 8, 8, 8))


@pytest.mark.parametrize(
    ('stated', 'sides', 'pretrained'),
    [
        ({'architecture': 'swinv2_tiny_window8_256'}, (8, 8, 8, 8), (0, 0, 0, 0)),
        ({'architecture': 'swinv2_small_window16_256'}, (16, 16, 16, 8), (0, 0, 0, 0)),
        (
            {'architecture': 'swinv2_base_window12to16_192to256'},
            (16, 16, 16, 8),
            (12, 12, 12, 6),
        ),
        (
            {'window_size': 24, 'image_size': 384, 'pretrained_window_sizes': [12, 12, 12, 6]},
            (24, 24, 24, 12),
            (12, 12, 12, 6),
        ),
        ({'window_size': 12}, (12, 12, 12, 6), (0, 0, 0, 0)),
        ({'window_size': [4, 4, 4, 2]}, (4, 4, 4, 2), (0, 0, 0, 0)),
    ],
)
def test_the_windows_of_v2_are_those_that_a_file_states(stated, sides, pretrained):
    result = network_options.apply(V2, stated)
    assert result == dataclasses.replace(V2, windows=sides, pretrained_windows=pretrained)
    assert network_options.assumed(V2, stated) == ()


def test_windows_that_nothing_states_are_noted():
    (note,) = network_options.assumed(V2, {})
    assert '[8, 8, 8, 8]' in note
    assert network_options.assumed(Swin(), {}) == ()


@pytest.mark.parametrize('stated', ['large', [8, 8], 2.5, True])
def test_windows_that_are_no_numbers_are_refused(stated):
    with pytest.raises(OptionError, match='windows are stated as'):
        network_options.apply(V2, {'window_size': stated})


def test_entries_with_coordinates_show_the_windows():
    sides = zip((16, 16, 16, 8), (12, 12, 12, 6), strict=True)
    steps = [windows.relative_coordinates(*pair)[None] for pair in sides]
    wanted = {'window_size': [16, 16, 16, 8], 'pretrained_window_sizes': [12, 12, 12, 6]}
    for place in (
        'layers.{}.blocks.0.attn.relative_coords_table',
        'swinv2.encoder.layers.{}.blocks.0.attention.self.relative_coords_table',
    ):
        entries = {place.format(index): one for index, one in enumerate(steps)}
        entries['norm.weight'] = np.ones(4, np.float32)
        assert options.from_entries(entries) == wanted


@pytest.mark.parametrize(
    ('stated', 'reason'),
    [
        ({'hidden_act': 'relu'}, 'Swin does not implement'),
        ({'layer_norm_eps': 1e-6}, 'Swin computes with 1e-05'),
        ({'num_heads': [4, 8, 16, 32]}, r'the entries have \(3, 6, 12, 24\)'),
        ({'embed_dim': 128}, 'the entries have 96'),
    ],
)
def test_a_statement_that_contradicts_a_swin_is_refused(stated, reason):
    fits = {'hidden_act': 'gelu', 'layer_norm_eps': 1e-5, 'depths': [2, 2, 6, 2], 'embed_dim': 96}
    assert network_options.apply(Swin(), fits) == Swin()
    with pytest.raises(OptionError, match=reason):
        network_options.apply(Swin(), stated)
