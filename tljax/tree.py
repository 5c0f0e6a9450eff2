"""Trees of parameters: paths of leaves, patterns, partial trees, and a report of differences.

A path is the `/`-joined keys of a leaf: `stage3/block2/conv1/kernel`.
"""

import difflib
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

Tree = dict[str, Any]


def flatten(tree: Tree) -> dict[str, Any]:
    """`{path: leaf}` of a nested dict, in its order."""
    return flax.traverse_util.flatten_dict(tree, sep='/')


def unflatten(leaves: Mapping[str, Any]) -> Tree:
    """The nested dict of `{path: leaf}`."""
    return flax.traverse_util.unflatten_dict(dict(leaves), sep='/')


def map_paths(function: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """Replaces every leaf by `function(path, leaf)`."""
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path or one of its parents, segment by segment.

    Args:
        pattern: segments; `*` and `?` are wildcards within a segment, `**` is any number of
            segments.
        path: the path of a leaf.
    """
    return _matches(pattern.split('/'), path.split('/'))


def _matches(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return True  # the pattern matched a parent of the path
    if pattern[0] == '**':
        return any(_matches(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return (
        bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(pattern[1:], path[1:])
    )


def select(tree: Tree, keep: Tree) -> Tree:
    """`tree` with None where `keep` [same structure, bool] is False."""
    return jax.tree.map(lambda kept, leaf: leaf if kept else None, keep, tree)


def fill(tree: Tree, others: Tree) -> Tree:
    """`tree` with its Nones filled from `others` [same structure]."""
    return jax.tree.map(
        lambda leaf, other: other if leaf is None else leaf,
        tree,
        others,
        is_leaf=lambda leaf: leaf is None,
    )


def count(tree: Any) -> int:
    """The number of values in all leaves."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))


def size_bytes(tree: Any) -> int:
    """The size of all leaves in bytes; they can be abstract."""
    return sum(
        int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree)
    )


def difference(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """The differences of actual from expected leaves, a line each; empty if there are none.

    Args:
        actual: `{path: leaf}`; leaves are arrays or have a shape.
        expected: likewise.

    Returns:
        `- path shape` for a missing leaf (with the most similar extra path), `+ path shape` for an
        extra leaf, and both for a wrong shape.
    """
    lines = []
    extra = [path for path in actual if path not in expected]
    for path, leaf in expected.items():
        if path not in actual:
            near = difflib.get_close_matches(path, extra, n=1, cutoff=0.8)
            hint = f'   (found {near[0]})' if near else ''
            lines.append(f'- {path} {shape_text(leaf)}{hint}')
        elif np.shape(actual[path]) != np.shape(leaf):
            lines.append(f'- {path} {shape_text(leaf)}')
            lines.append(f'+ {path} {shape_text(actual[path])}')
    lines += [f'+ {path} {shape_text(actual[path])}' for path in extra]
    return lines


def shape_text(leaf: Any) -> str:
    """`[3, 3, 64, 64]`."""
    return str(list(np.shape(leaf)))
