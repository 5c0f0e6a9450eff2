"""What is said beside weights of facts that no entry shows: heads, activation, epsilon.

A statement that the backbone has a field for wins over the family's default; one that it has
none for is refused.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tljax.types import InputError

# transformers' names of activations, timm's among them, by ours.
ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_python': 'gelu',
    'gelu_new': 'gelu_tanh',
    'gelu_tanh': 'gelu_tanh',
    'gelu_fast': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'quick_gelu': 'quick_gelu',
    'quickgelu': 'quick_gelu',
    'relu': 'relu',
}
FAMILY_ACTIVATION = {'ResNet': 'relu', 'ResNetSmall': 'relu', 'VGG': 'relu', 'ConvNeXt': 'gelu'}
# Networks of timm that differ from ours in layers without entries, or have other blocks.
NOT_IMPLEMENTED = re.compile(r'(se|sk|ecaresnet|ecares|cs)res|resnet(blur|aa|rs)|resnet\w*_gn')


class StatedError(InputError):
    """A statement beside weights that the implementation cannot follow."""


def apply(backbone: Any, config: Mapping[str, Any]) -> Any:
    """The backbone with what a configuration says of it.

    Args:
        backbone: as recognised from the entries.
        config: of a config.json of timm or transformers; empty where there is none.

    Raises:
        StatedError: the configuration states a network that the backbone has no field for, or
            another one than its entries show.
    """
    name, args = str(config.get('architecture') or ''), config.get('model_args') or {}
    if not isinstance(args, Mapping):
        args = {}
    if NOT_IMPLEMENTED.match(name):
        raise StatedError(f'architecture is stated as {name!r}, which is not implemented')
    facts = {**config, **args}
    backbone = _heads(backbone, facts)
    backbone = _activation(backbone, facts, name)
    epsilon = facts.get('layer_norm_eps')
    if epsilon is not None and hasattr(backbone, 'epsilon'):
        backbone = dataclasses.replace(backbone, epsilon=_number(epsilon, 'layer_norm_eps'))
    _check_sizes(backbone, facts)
    return backbone


def in_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What entries state of themselves: the heads are an axis of Google's attention kernels."""
    name = 'Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel'
    shape = getattr(entries.get(name), 'shape', ())
    return {'num_heads': int(shape[1])} if len(shape) == 3 else {}


def _heads(backbone: Any, facts: Mapping[str, Any]) -> Any:
    heads = facts.get('num_attention_heads', facts.get('num_heads'))
    if heads is None or not hasattr(backbone, 'head_width'):
        return backbone
    count = _number(heads, 'num_attention_heads')
    if count < 1 or backbone.width % count:
        raise StatedError(f'{heads} attention heads are stated; width is {backbone.width}')
    return dataclasses.replace(backbone, head_width=int(backbone.width // count))


def _activation(backbone: Any, facts: Mapping[str, Any], name: str) -> Any:
    stated = facts.get('hidden_act', facts.get('act_layer'))
    if stated is None:
        stated = 'quick_gelu' if 'quickgelu' in name else None
    if stated is None:
        return backbone
    found = ACTIVATIONS.get(str(stated).lower())
    if found and hasattr(backbone, 'activation'):
        return dataclasses.replace(backbone, activation=found)
    family = type(backbone).__name__
    if found is None or FAMILY_ACTIVATION.get(family) != found:
        raise StatedError(f'activation is stated as {stated!r}, which {family} does not implement')
    return backbone


def _check_sizes(backbone: Any, facts: Mapping[str, Any]) -> None:
    if not hasattr(backbone, 'head_width'):
        return
    for key, field in (
        ('hidden_size', 'width'),
        ('num_hidden_layers', 'depth'),
        ('patch_size', 'patch_px'),
    ):
        stated, own = facts.get(key), getattr(backbone, field)
        if isinstance(stated, int) and stated != own:
            raise StatedError(f'{key} is stated as {stated}, but the entries have {own}')


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise StatedError(f'{name} is stated as {value!r}, wanted a number above 0')
    return value


def assumed(backbone: Any, config: Mapping[str, Any]) -> tuple[str, ...]:
    """What no entry and no statement says of a ViT, and what was taken instead."""
    if not hasattr(backbone, 'head_width'):
        return ()
    facts = {**config, **(config.get('model_args') or {})}
    values = (
        (f'{backbone.width // backbone.head_width} attention heads',
         ('num_attention_heads', 'num_heads')),
        (f'activation {backbone.activation}', ('hidden_act', 'act_layer')),
        (f'epsilon {backbone.epsilon:g}', ('layer_norm_eps',)),
    )  # fmt: skip
    missing = [text for text, keys in values if not any(key in facts for key in keys)]
    return (f'assumed, as the weights do not say: {", ".join(missing)}',) if missing else ()
