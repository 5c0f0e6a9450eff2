"""The attention heads, activation and epsilon of a network, as options of its file state them.

Entries do not show these. A stated value replaces the family's default if the backbone has a field
for it; otherwise it must equal the value that the backbone computes with.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tljax.models import transformer
from tljax.models.backbones import resnet, swin
from tljax.models.mbconv_network import MBConvNetwork
from tljax.models.tokens import TokenPooling
from tljax.weights import mbconv_options, window_options
from tljax.weights.options import OptionError, first

# Names of activations in transformers and timm, and tljax's name.
ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_python': 'gelu',
    'gelu_erf': 'gelu',
    'gelu_new': 'gelu_tanh',
    'gelu_tanh': 'gelu_tanh',
    'gelutanh': 'gelu_tanh',
    'gelu_fast': 'gelu_tanh',
    'gelu_approximate': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'quick_gelu': 'quick_gelu',
    'quickgelu': 'quick_gelu',
    'relu': 'relu',
    'relu6': 'relu6',
    'silu': 'silu',
    'swish': 'silu',
    'hard_swish': 'hard_swish',
    'hardswish': 'hard_swish',
    'hswish': 'hard_swish',
}
FAMILY_ACTIVATION = {
    'ResNet': 'relu',
    'ResNetSmall': 'relu',
    'VGG': 'relu',
    'RegNet': 'relu',
    'BiT': 'relu',
    'ConvNeXt': 'gelu',
    'Swin': 'gelu',
    'EfficientNetLite': 'relu6',
    'EfficientNet': 'silu',
    'EfficientNetV2': 'silu',
    'MobileNetV2': 'relu6',
    'MobileNetV3': 'hard_swish',
}
# Networks of timm with other blocks, or with layers that have no entries and tljax lacks.
NOT_IMPLEMENTED = re.compile(
    r'(se|sk|ecaresnet|ecares|cs)res|resnet(blur|aa|rs)|resnet\w*_gn|.*(blurpool|antialias)'
)
NAMES = ('architecture', 'arch', 'model_name', 'model', 'model_type', 'backbone', 'encoder')
HEADS = ('num_attention_heads', 'num_heads', 'n_heads', 'nheads', 'n_head', 'heads')
ACTIVATION = ('hidden_act', 'act_layer', 'activation', 'act', 'activation_function', 'act_fn')
OUTPUT_ACTIVATIONS = ('softmax', 'sigmoid', 'linear', 'identity', 'none', '')  # of the head
LAYER_NORM = ('layer_norm_eps', 'norm_eps', 'layer_norm_epsilon', 'layernorm_eps', 'ln_eps')
BATCH_NORM = ('bn_eps', 'batch_norm_eps', 'norm_eps', 'bn_epsilon')
BATCH_NORM_EPSILON = 1e-5  # of every BatchNorm in tljax
# Options of layers without entries that no backbone of tljax has: any true value is an error.
REFUSED = (
    'aa_layer', 'antialias', 'antialiased', 'anti_aliased', 'anti_alias', 'blur', 'blur_pool',
    'blurpool', 'use_blurpool', 'downsample_in_bottleneck', 'downsample_in_first_stage',
    'replace_stem_pool', 'avg_down',
)  # fmt: skip
TRANSFORMER_SIZES = {
    'width': ('hidden_size', 'embed_dim', 'hidden_dim'),
    'depth': ('num_hidden_layers', 'depth', 'num_layers', 'n_layers'),
    'patch_px': ('patch_size',),
}
SIZES: dict[str, dict[str, tuple[str, ...]]] = {
    'ViT': TRANSFORMER_SIZES,
    'DINOv2': TRANSFORMER_SIZES,
    'DINOv3': TRANSFORMER_SIZES,
    'CLIP': TRANSFORMER_SIZES,
    'SigLIP': TRANSFORMER_SIZES,
    'ConvNeXt': {'depths': ('depths', 'layers'), 'widths': ('hidden_sizes', 'dims', 'widths')},
    'Swin': {'depths': ('depths',), 'heads': ('num_heads',), 'width': ('embed_dim',)},
    'ResNet': {
        'blocks': ('depths', 'layers', 'stage_blocks'),
        'features': ('hidden_sizes',),
        'depth': ('depth', 'resnet_depth'),
        'groups': ('groups', 'cardinality'),
        'width_per_group': ('base_width', 'width_per_group'),
    },
}


def apply(backbone: Any, options: Mapping[str, Any], naming: str = '') -> Any:
    """The backbone with the stated values.

    Args:
        backbone: as recognised from the entries.
        options: see `options`; fields of a config.json of timm or transformers are included.
        naming: the library whose names the entries have.

    Raises:
        OptionError: the backbone has no field for a stated value, or the entries contradict it.
    """
    names = _names(options)
    for name in names:
        if NOT_IMPLEMENTED.match(name.lower()):
            raise OptionError(f'architecture is stated as {name!r}, which is not implemented')
        _check_depth(backbone, name)
    _check_refused(backbone, options)
    backbone = _heads(backbone, options)
    backbone = _pooling(backbone, options.get('global_pool'))
    backbone = _activation(backbone, options, ' '.join(names))
    if isinstance(backbone, MBConvNetwork):
        return mbconv_options.apply(backbone, options, names, naming)
    backbone = _epsilon(backbone, options, naming)
    if isinstance(backbone, swin.Swin):
        backbone = window_options.apply(backbone, options)
    _check_sizes(backbone, options)
    return backbone


def check(backbone: Any, options: Mapping[str, Any], naming: str = '') -> None:
    """Compares the user's backbone with the stated values.

    Raises:
        OptionError: a field has another stated value, or `apply` raises it. Epsilons are not
            compared: the libraries' defaults differ and agree to 1e-5 in the outputs. Nor is the
            pooling of tokens, which is the user's choice.
    """
    stated = apply(backbone, options, naming)
    other = [
        f'{f.name}={getattr(stated, f.name)!r} (not {getattr(backbone, f.name)!r})'
        for f in dataclasses.fields(backbone)
        if 'epsilon' not in f.name
        and f.name != 'pooling'
        and getattr(stated, f.name) != getattr(backbone, f.name)
    ]
    if other:
        raise OptionError(
            f'the weights are stated to be of {type(backbone).__name__} with {", ".join(other)}'
        )


def _check_refused(backbone: Any, options: Mapping[str, Any]) -> None:
    for key in REFUSED:
        value = options.get(key)
        if value and str(value).lower() not in ('false', 'none', 'no', '0'):
            raise OptionError(f'{key} is stated as {value!r}, which is not implemented')
    stride = options.get('output_stride')
    if isinstance(stride, int) and stride != 32 and not hasattr(backbone, 'head_width'):
        raise OptionError(f'output_stride is stated as {stride}, which is not implemented')


def _check_depth(backbone: Any, name: str) -> None:
    """Names such as `resnet18` and `vgg16_bn` contain the depth."""
    match = re.match(r'(?:wide_)?(resnet|resnext|vgg)-?(\d+)', name.lower())
    family = {'VGG': 'vgg', 'ResNet': 'res', 'ResNetSmall': 'res'}.get(type(backbone).__name__)
    if match is None or family is None:
        return
    if not match[1].startswith(family) or int(match[2]) != backbone.depth:
        raise OptionError(
            f'architecture is stated as {name!r}, but the entries are those of '
            f'{type(backbone).__name__} {backbone.depth}'
        )


def _heads(backbone: Any, options: Mapping[str, Any]) -> Any:
    key, heads = first(options, HEADS)
    if heads is None or not hasattr(backbone, 'head_width'):
        return backbone
    count = _number(heads, key)
    if count < 1 or backbone.width % count:
        raise OptionError(f'{heads} attention heads are stated; width is {backbone.width}')
    return dataclasses.replace(backbone, head_width=int(backbone.width // count))


def _pooling(backbone: Any, stated: Any) -> Any:
    """What the head of a transformer reads, in the words of timm; True is MAE's for the mean."""
    stated = {True: 'avg', False: ''}.get(stated, stated) if isinstance(stated, bool) else stated
    pooling = {'avg': TokenPooling.MEAN, 'token': TokenPooling.TOKEN}.get(stated)
    if not hasattr(backbone, 'head_width') or stated in (None, ''):
        return backbone
    if isinstance(getattr(backbone, 'pooling', None), TokenPooling) and pooling is not None:
        return dataclasses.replace(backbone, pooling=pooling)
    # SigLIP pools by attention, or without it reads the mean.
    own = {None: 'token', True: 'map', False: 'avg'}[getattr(backbone, 'attention_pool', None)]
    if stated != own:
        family = type(backbone).__name__
        raise OptionError(f'global_pool is stated as {stated!r}, which {family} does not implement')
    return backbone


def _activation(backbone: Any, options: Mapping[str, Any], names: str) -> Any:
    key, stated = first(options, ACTIVATION)
    if stated is None or (
        key in ('activation', 'act') and str(stated).lower() in OUTPUT_ACTIVATIONS
    ):
        stated = 'quick_gelu' if re.search('quick_?gelu', names.lower()) else None
    if stated is None and options.get('quick_gelu') is True:
        stated = 'quick_gelu'
    if stated is None:
        return backbone
    name = ACTIVATIONS.get(re.sub(r'.*\.', '', str(stated).lower()).removesuffix('()'))
    if name in transformer.ACTIVATIONS and hasattr(backbone, 'activation'):
        return dataclasses.replace(backbone, activation=name)
    family = type(backbone).__name__
    if name is None or FAMILY_ACTIVATION.get(family) != name:
        raise OptionError(f'activation is stated as {stated!r}, which {family} does not implement')
    return backbone


def _epsilon(backbone: Any, options: Mapping[str, Any], naming: str) -> Any:
    """In transformers' ConvNeXt the option sets the last norm's epsilon; the others have 1e-6.

    Source: transformers, models/convnext/modeling_convnext.py, ConvNextLayer and ConvNextModel.
    """
    family = type(backbone).__name__
    if family in ('ResNet', 'ResNetSmall', 'VGG', 'RegNet'):
        _check_epsilon(options, BATCH_NORM, BATCH_NORM_EPSILON, family)
        return backbone
    key, stated = first(options, LAYER_NORM)
    if stated is None:
        return backbone
    value = _number(stated, key)
    if hasattr(backbone, 'epsilon'):
        return dataclasses.replace(backbone, epsilon=value)
    if family == 'ConvNeXt' and (naming.startswith('transformers') or key == 'layer_norm_eps'):
        return dataclasses.replace(backbone, pool_epsilon=value)
    if family == 'Swin':
        _check_epsilon(options, LAYER_NORM, swin.EPSILON, family)
    if family == 'ConvNeXt':
        _check_epsilon(options, LAYER_NORM, 1e-6, family)
        return dataclasses.replace(backbone, pool_epsilon=value)
    return backbone


def _check_epsilon(
    options: Mapping[str, Any], keys: Sequence[str], own: float, family: str
) -> None:
    key, stated = first(options, keys)
    if stated is not None and _number(stated, key) != own:
        raise OptionError(f'{key} is stated as {stated}, but {family} computes with {own:g}')


def _check_sizes(backbone: Any, options: Mapping[str, Any]) -> None:
    """Compares the stated sizes with those of the entries."""
    family = type(backbone).__name__
    for field, keys in SIZES.get(family, {}).items():
        key, stated = first(options, keys)
        own = DERIVED.get((family, field), lambda b, f=field: getattr(b, f))(backbone)
        if isinstance(stated, list | tuple):
            stated, own = tuple(stated), own if isinstance(own, tuple) else (own,) * len(stated)
        elif isinstance(own, tuple):
            continue
        if stated is not None and not isinstance(stated, str | bool) and stated != own:
            raise OptionError(f'{key} is stated as {stated}, but the entries have {own}')


def _features(backbone: Any) -> tuple[int, ...]:
    return tuple(64 * 2**i * (4 if backbone.bottleneck else 1) for i in range(4))


DERIVED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ('ResNet', 'blocks'): lambda backbone: resnet.BLOCKS[backbone.depth],
    ('ResNet', 'features'): _features,
    ('ConvNeXt', 'depths'): lambda backbone: tuple(backbone.depths),
    ('ConvNeXt', 'widths'): lambda backbone: tuple(backbone.widths),
    ('Swin', 'depths'): lambda backbone: tuple(backbone.depths),
    ('Swin', 'heads'): lambda backbone: tuple(backbone.heads),
}


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise OptionError(f'{name} is stated as {value!r}, wanted a number above 0')
    return value


def _names(options: Mapping[str, Any]) -> list[str]:
    return [str(options[key]) for key in NAMES if key in options]


def assumed(backbone: Any, options: Mapping[str, Any], naming: str = '') -> tuple[str, ...]:
    """The note on values that neither entries nor options state."""
    if isinstance(backbone, MBConvNetwork):
        return mbconv_options.assumed(backbone, options, _names(options), naming)
    if isinstance(backbone, swin.Swin):
        return window_options.assumed(backbone, options)
    if not hasattr(backbone, 'head_width'):
        return ()
    unsure = (
        " (OpenAI's; most of open_clip's networks have gelu)"
        if backbone.activation == 'quick_gelu'
        else ''
    )
    values = (
        (f'{backbone.width // backbone.head_width} attention heads', HEADS),
        (f'activation {backbone.activation}{unsure}', ACTIVATION),
        (f'epsilon {backbone.epsilon:g}', LAYER_NORM),
    )
    missing = [text for text, keys in values if first(options, keys)[1] is None]
    return (f'assumed, as the weights do not say: {", ".join(missing)}',) if missing else ()
