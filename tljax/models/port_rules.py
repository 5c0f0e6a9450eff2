"""Rules of tables that translate foreign state dicts.

A table is a sequence of rules, each from a foreign name to a path of tljax. Both sides can have
integer fields, `{stage}`, with an offset in the path if counting starts elsewhere:

    PortRule('layer{s}.{b}.conv{c}.weight', 'params/stage{s}/block{b+1}/conv{c}/kernel', CONV)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

Layout = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of memory layout and its inverse; values do not change.

    `says` is its text in printed tables.
    """

    to_ours: Layout
    to_foreign: Layout
    says: str = ''


SAME = Transform(lambda x: x, lambda x: x)
# torch convolutions are [out, in, h, w], ours [h, w, in, out].
CONV = Transform(
    lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1), 'OIHW to HWIO'
)
# torch linear layers are [out, in], ours [in, out].
LINEAR = Transform(lambda x: x.T, lambda x: x.T, 'transposed')


@functools.cache
def leading_axes(count: int) -> Transform:
    """An array that has `count` more leading axes of length 1 here."""
    return Transform(
        lambda x: x.reshape((1,) * count + x.shape),
        lambda x: x.reshape(x.shape[count:]),
        f'{count} leading axes',
    )


@functools.cache
def linear_after_flatten(channels: int, height: int, width: int) -> Transform:
    """A linear layer on a flattened map: torch flattens [C, H, W], we flatten [H, W, C]."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(x.shape[0], channels, height, width)
        return maps.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

    def to_foreign(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(height, width, channels, x.shape[1])
        return maps.transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return Transform(to_ours, to_foreign, 'flattened as HWC, transposed')


@functools.cache
def linear_as_conv(height: int, width: int) -> Transform:
    """A linear layer stored as a convolution [out, in, height, width] over a full map."""

    def to_foreign(x: np.ndarray) -> np.ndarray:
        return x.reshape(height, width, -1, x.shape[1]).transpose(3, 2, 0, 1)

    return Transform(
        lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]), to_foreign, 'OIHW to a matrix'
    )


@dataclasses.dataclass(frozen=True)
class PortRule:
    """One line of a table.

    Attributes:
        foreign: the name of an entry, or several names that are joined along their first axis.
        ours: the path it goes to; None drops an entry that has no counterpart.
        transform: the change of layout, after joining.
        shares: the relative lengths of several names' entries; () if all are equal.
        alias: whether this is an older name, which is read but not written.
        noted: for a dropped entry, whether a note names it.
        exported_with: for a dropped entry that files must have: it is exported together with this
            path, as the integer 0.
        exported_as: a function of the leaf at that path to the exported entry, instead of 0.
        copy_of: for a dropped entry that is a copy of another one: the other's foreign name. A file
            in which they differ is refused.
    """

    foreign: str | tuple[str, ...]
    ours: str | None
    transform: Transform = SAME
    alias: bool = False
    noted: bool = False
    exported_with: str | None = None
    exported_as: Layout | None = None
    shares: tuple[int, ...] = ()
    copy_of: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The foreign names, one or several."""
        return (self.foreign,) if isinstance(self.foreign, str) else self.foreign


def layer(foreign: str, ours: str, transform: Transform) -> tuple[PortRule, ...]:
    """The table of a convolution or linear layer with a bias; `transform` is for its kernel."""
    return (
        PortRule(f'{foreign}.weight', f'params/{ours}/kernel', transform),
        PortRule(f'{foreign}.bias', f'params/{ours}/bias'),
    )


def joined_layers(foreign: Sequence[str], ours: str) -> tuple[PortRule, ...]:
    """The table of linear layers with biases whose outputs are joined in one layer."""
    weights, biases = (tuple(f'{name}.{kind}' for name in foreign) for kind in ('weight', 'bias'))
    return (
        PortRule(weights, f'params/{ours}/kernel', LINEAR),
        PortRule(biases, f'params/{ours}/bias'),
    )


def layer_norm(foreign: str, ours: str) -> tuple[PortRule, ...]:
    """The table of one torch LayerNorm."""
    return (
        PortRule(f'{foreign}.weight', f'params/{ours}/scale'),
        PortRule(f'{foreign}.bias', f'params/{ours}/bias'),
    )


def batch_norm(foreign: str, ours: str) -> tuple[PortRule, ...]:
    """The table of one torch BatchNorm; its batch counter has no counterpart."""
    return (
        *layer_norm(foreign, ours),
        PortRule(f'{foreign}.running_mean', f'batch_stats/{ours}/mean'),
        PortRule(f'{foreign}.running_var', f'batch_stats/{ours}/var'),
        PortRule(f'{foreign}.num_batches_tracked', None, exported_with=f'batch_stats/{ours}/mean'),
    )


def head(foreign: str) -> tuple[PortRule, ...]:
    """The table of the last linear layer."""
    return layer(foreign, 'head/linear', LINEAR)


def aliases(rules: Sequence[PortRule]) -> tuple[PortRule, ...]:
    """The same rules for reading alone."""
    return tuple(dataclasses.replace(rule, alias=True) for rule in rules)


def left_out(*rules: PortRule) -> tuple[PortRule, ...]:
    """Rules that drop the entries of a part that only pretraining uses, with a note."""
    return tuple(dataclasses.replace(rule, ours=None, noted=True) for rule in rules)


def with_prefix(rules: Sequence[PortRule], prefix: str) -> tuple[PortRule, ...]:
    """The rules of a table whose names all begin with `prefix` in another library."""
    return tuple(
        dataclasses.replace(rule, foreign=tuple(prefix + name for name in rule.names))
        for rule in rules
    )


def without_prefix(rules: Sequence[PortRule], prefix: str) -> tuple[PortRule, ...]:
    """The rules of a table whose names begin with `prefix`, as aliases without it.

    A library's networks without a classifier omit the name of the module that holds them.
    """
    return tuple(
        dataclasses.replace(
            rule, foreign=tuple(n.removeprefix(prefix) for n in rule.names), alias=True
        )
        for rule in rules
        if all(name.startswith(prefix) for name in rule.names)
    )
