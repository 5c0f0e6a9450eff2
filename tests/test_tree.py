"""Paths, patterns and comparisons of trees."""

import numpy as np
import pytest

from tljax import tree


@pytest.mark.parametrize(
    ('pattern', 'path', 'expected'),
    [
        ('stage1', 'stage1/block1/conv1/kernel', True),
        ('stage1', 'stage10/block1/conv1/kernel', False),
        ('stage*', 'stage10/block1/conv1/kernel', True),
        ('**/bias', 'head/linear/bias', True),
        ('**/bias', 'head/linear/debias', False),
        ('**/bn?/scale', 'stage1/block1/bn2/scale', True),
        ('block1', 'stage1/block1/conv1/kernel', False),
        ('**', 'anything/at/all', True),
        ('stage1/*/conv1', 'stage1/block2/conv1/kernel', True),
        ('stage1/*/conv1', 'stage1/conv1/kernel', False),
    ],
)
def test_patterns_match_whole_segments(pattern, path, expected):
    assert tree.matches(pattern, path) is expected


def test_selecting_and_filling_gives_the_tree_back():
    whole = {'a': {'x': 1, 'y': 2}, 'b': {'z': 3}}
    keep = {'a': {'x': True, 'y': False}, 'b': {'z': False}}
    selected = tree.select(whole, keep)
    assert selected == {'a': {'x': 1, 'y': None}, 'b': {'z': None}}
    assert tree.fill(selected, whole) == whole


def test_difference_names_missing_extra_and_misshapen_leaves_at_once():
    wanted = {'a/kernel': np.zeros((2, 3)), 'b': np.zeros(1), 'c': np.zeros(4)}
    found = {'a/kernl': np.zeros((2, 3)), 'b': np.zeros(2), 'c': np.zeros(4)}
    assert tree.difference(found, wanted) == [
        '- a/kernel [2, 3]   (found a/kernl)',
        '- b [1]',
        '+ b [2]',
        '+ a/kernl [2, 3]',
    ]


def test_equal_trees_do_not_differ():
    leaves = {'a': np.zeros((2, 3))}
    assert tree.difference(leaves, leaves) == []
