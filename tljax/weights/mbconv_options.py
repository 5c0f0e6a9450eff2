"""Padding and BatchNorm of networks of MBConv blocks, as options of a file state them.

timm's networks whose names begin with `tf_` pad as TensorFlow does and have its epsilon; the names
of their entries are those of the other networks.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.models.mbconv_network import TENSORFLOW, Convention, MBConvNetwork
from tljax.weights.options import OptionError, first

EPSILON = ('bn_eps', 'batch_norm_eps', 'norm_eps', 'bn_epsilon')
PADDINGS = {'same': True, '': False}
MOMENTUM = ('bn_momentum', 'batch_norm_momentum')
PUBLISHED = re.compile('(tf_)?(efficientnet|mobilenet)')  # timm's names of networks
SILENT = 'timm'  # the library whose entries show neither


def apply(
    backbone: MBConvNetwork, options: Mapping[str, Any], names: Sequence[str], naming: str
) -> Any:
    """The backbone with the stated padding and BatchNorm.

    Args:
        backbone: as recognised from the entries.
        options: see `options`.
        names: the stated names of the network.
        naming: the library whose names the entries have.

    Raises:
        OptionError: a statement is impossible.
    """
    changes: dict[str, Any] = {}
    if naming == SILENT and any(PUBLISHED.match(name) for name in names):
        usual = Convention()
        if any(name.startswith('tf_') for name in names):
            usual = Convention(same_padding=True, epsilon=TENSORFLOW.epsilon)
        changes = usual._asdict()
    padding = options.get('pad_type')
    if padding is not None:
        if padding not in PADDINGS:
            raise OptionError(f"pad_type is stated as {padding!r}, wanted 'same' or ''")
        changes['same_padding'] = PADDINGS[padding]
    key, epsilon = first(options, EPSILON)
    if epsilon is not None:
        changes['epsilon'] = _number(epsilon, key)
    key, momentum = first(options, MOMENTUM)
    if momentum is not None:
        changes['stats_decay'] = 1 - _number(momentum, key)
    result = dataclasses.replace(backbone, **changes)
    if problems := result.field_problems():
        raise OptionError(f'the stated layers are impossible: {"; ".join(problems)}')
    return result


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f'{name} is stated as {value!r}, wanted a number')
    return value


def assumed(
    backbone: MBConvNetwork, options: Mapping[str, Any], names: Sequence[str], naming: str
) -> tuple[str, ...]:
    """The note on values that neither entries nor options state."""
    if naming != SILENT or names:
        return ()
    values = []
    if 'pad_type' not in options:
        values.append(f'same_padding={backbone.same_padding}')
    if first(options, EPSILON)[1] is None:
        values.append(f"BatchNorm's epsilon {backbone.epsilon:g}")
    if not values:
        return ()
    return (
        f'assumed, as the weights do not say: {", ".join(values)}; '
        "timm's `tf_` networks have same_padding=True and 0.001",
    )
