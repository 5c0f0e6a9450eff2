"""What is said beside weights of facts that no entry shows: heads, activation, epsilon, images.

A statement that the backbone has a field for wins over the family's default; one that it has
none for is refused.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tljax.models.backbones import resnet
from tljax.types import Preprocessing
from tljax.weights.statements import StatedError

# transformers' names of activations, timm's among them, by ours.
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
}
FAMILY_ACTIVATION = {'ResNet': 'relu', 'ResNetSmall': 'relu', 'VGG': 'relu', 'ConvNeXt': 'gelu'}
# Networks of timm that differ from ours in layers without entries, or have other blocks.
NOT_IMPLEMENTED = re.compile(
    r'(se|sk|ecaresnet|ecares|cs)res|resnet(blur|aa|rs)|resnet\w*_gn|.*(blurpool|antialias)'
)
NAMES = ('architecture', 'arch', 'model_name', 'model', 'model_type', 'backbone', 'encoder')
HEADS = ('num_attention_heads', 'num_heads', 'n_heads', 'nheads', 'n_head', 'heads')
ACTIVATION = ('hidden_act', 'act_layer', 'activation', 'act', 'activation_function', 'act_fn')
OF_OUTPUT = ('softmax', 'sigmoid', 'linear', 'identity', 'none', '')  # no activation inside
LAYER_NORM = ('layer_norm_eps', 'norm_eps', 'layer_norm_epsilon', 'layernorm_eps', 'ln_eps')
BATCH_NORM = ('bn_eps', 'batch_norm_eps', 'norm_eps', 'bn_epsilon')
BATCH_NORM_EPSILON = 1e-5  # of every BatchNorm here
# Layers and wirings without entries, which no backbone here has: they are refused where set.
REFUSED = (
    'aa_layer', 'antialias', 'antialiased', 'anti_aliased', 'anti_alias', 'blur', 'blur_pool',
    'blurpool', 'use_blurpool', 'downsample_in_bottleneck', 'downsample_in_first_stage',
    'replace_stem_pool', 'avg_down',
)  # fmt: skip
SIZES: dict[str, dict[str, tuple[str, ...]]] = {
    'ViT': {
        'width': ('hidden_size', 'embed_dim', 'hidden_dim'),
        'depth': ('num_hidden_layers', 'depth', 'num_layers', 'n_layers'),
        'patch_px': ('patch_size',),
    },
    'ConvNeXt': {'depths': ('depths', 'layers'), 'widths': ('hidden_sizes', 'dims', 'widths')},
    'ResNet': {
        'blocks': ('depths', 'layers', 'stage_blocks'),
        'features': ('hidden_sizes',),
        'depth': ('depth', 'resnet_depth'),
        'groups': ('groups', 'cardinality'),
        'width_per_group': ('base_width', 'width_per_group'),
    },
}


def apply(backbone: Any, facts: Mapping[str, Any], naming: str = '') -> Any:
    """The backbone with what is stated of it.

    Args:
        backbone: as recognised from the entries.
        facts: see `statements`; the fields of a config.json of timm or transformers among them.
        naming: who named the entries.

    Raises:
        StatedError: a network is stated that the backbone has no field for, or another one than
            its entries show.
    """
    names = [str(facts[key]) for key in NAMES if key in facts]
    for name in names:
        if NOT_IMPLEMENTED.match(name.lower()):
            raise StatedError(f'architecture is stated as {name!r}, which is not implemented')
        _check_depth(backbone, name)
    _check_refused(backbone, facts)
    backbone = _heads(backbone, facts)
    backbone = _activation(backbone, facts, ' '.join(names))
    backbone = _epsilon(backbone, facts, naming)
    _check_sizes(backbone, facts)
    return backbone


def check(backbone: Any, facts: Mapping[str, Any], naming: str = '') -> None:
    """Holds a backbone that the user gave against what is stated.

    Raises:
        StatedError: another value of a field is stated, or what `apply` refuses. An epsilon is not
            compared: the libraries' defaults differ and give the same numbers to 1e-5.
    """
    stated = apply(backbone, facts, naming)
    other = [
        f'{f.name}={getattr(stated, f.name)!r} (not {getattr(backbone, f.name)!r})'
        for f in dataclasses.fields(backbone)
        if 'epsilon' not in f.name and getattr(stated, f.name) != getattr(backbone, f.name)
    ]
    if other:
        raise StatedError(
            f'the weights are stated to be of {type(backbone).__name__} with {", ".join(other)}'
        )


def _first(facts: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, Any]:
    """The first key that states something, and its value; ('', None) where none does."""
    return next(((key, facts[key]) for key in keys if facts.get(key) is not None), ('', None))


def _check_refused(backbone: Any, facts: Mapping[str, Any]) -> None:
    for key in REFUSED:
        value = facts.get(key)
        if value and str(value).lower() not in ('false', 'none', 'no', '0'):
            raise StatedError(f'{key} is stated as {value!r}, which is not implemented')
    stride = facts.get('output_stride')
    if isinstance(stride, int) and stride != 32 and not hasattr(backbone, 'head_width'):
        raise StatedError(f'output_stride is stated as {stride}, which is not implemented')
    pooling = facts.get('global_pool')
    if hasattr(backbone, 'head_width') and (pooling is True or pooling in ('avg', 'max', 'avgmax')):
        raise StatedError(f'global_pool is stated as {pooling!r}; ViT reads the class token')


def _check_depth(backbone: Any, name: str) -> None:
    """`resnet18`, `vgg16_bn` and the like say the depth."""
    found = re.match(r'(?:wide_)?(resnet|resnext|vgg)-?(\d+)', name.lower())
    family = {'VGG': 'vgg', 'ResNet': 'res', 'ResNetSmall': 'res'}.get(type(backbone).__name__)
    if found is None or family is None:
        return
    if not found[1].startswith(family) or int(found[2]) != backbone.depth:
        raise StatedError(
            f'architecture is stated as {name!r}, but the entries are those of '
            f'{type(backbone).__name__} {backbone.depth}'
        )


def _heads(backbone: Any, facts: Mapping[str, Any]) -> Any:
    key, heads = _first(facts, HEADS)
    if heads is None or not hasattr(backbone, 'head_width'):
        return backbone
    count = _number(heads, key)
    if count < 1 or backbone.width % count:
        raise StatedError(f'{heads} attention heads are stated; width is {backbone.width}')
    return dataclasses.replace(backbone, head_width=int(backbone.width // count))


def _activation(backbone: Any, facts: Mapping[str, Any], names: str) -> Any:
    key, stated = _first(facts, ACTIVATION)
    if stated is None or (key in ('activation', 'act') and str(stated).lower() in OF_OUTPUT):
        stated = 'quick_gelu' if re.search('quick_?gelu', names.lower()) else None
    if stated is None and facts.get('quick_gelu') is True:
        stated = 'quick_gelu'
    if stated is None:
        return backbone
    found = ACTIVATIONS.get(re.sub(r'.*\.', '', str(stated).lower()).removesuffix('()'))
    if found and hasattr(backbone, 'activation'):
        return dataclasses.replace(backbone, activation=found)
    family = type(backbone).__name__
    if found is None or FAMILY_ACTIVATION.get(family) != found:
        raise StatedError(f'activation is stated as {stated!r}, which {family} does not implement')
    return backbone


def _epsilon(backbone: Any, facts: Mapping[str, Any], naming: str) -> Any:
    """In transformers' ConvNeXt the stated epsilon is that of the last norm, the others' is 1e-6.

    Source: transformers, models/convnext/modeling_convnext.py, ConvNextLayer and ConvNextModel.
    """
    family = type(backbone).__name__
    if family in ('ResNet', 'ResNetSmall', 'VGG'):
        _check_epsilon(facts, BATCH_NORM, BATCH_NORM_EPSILON, family)
        return backbone
    key, stated = _first(facts, LAYER_NORM)
    if stated is None:
        return backbone
    value = _number(stated, key)
    if hasattr(backbone, 'epsilon'):
        return dataclasses.replace(backbone, epsilon=value)
    if family == 'ConvNeXt' and (naming == 'transformers' or key == 'layer_norm_eps'):
        return dataclasses.replace(backbone, pool_epsilon=value)
    if family == 'ConvNeXt':
        _check_epsilon(facts, LAYER_NORM, 1e-6, family)
        return dataclasses.replace(backbone, pool_epsilon=value)
    return backbone


def _check_epsilon(facts: Mapping[str, Any], keys: Sequence[str], own: float, family: str) -> None:
    key, stated = _first(facts, keys)
    if stated is not None and _number(stated, key) != own:
        raise StatedError(f'{key} is stated as {stated}, but {family} computes with {own:g}')


def _check_sizes(backbone: Any, facts: Mapping[str, Any]) -> None:
    """Holds the stated sizes against those that the entries show."""
    family = type(backbone).__name__
    for field, keys in SIZES.get(family, {}).items():
        key, stated = _first(facts, keys)
        own = DERIVED.get((family, field), lambda b, f=field: getattr(b, f))(backbone)
        if isinstance(stated, list | tuple):
            stated, own = tuple(stated), own if isinstance(own, tuple) else (own,) * len(stated)
        elif isinstance(own, tuple):
            continue
        if stated is not None and not isinstance(stated, str | bool) and stated != own:
            raise StatedError(f'{key} is stated as {stated}, but the entries have {own}')


def _features(backbone: Any) -> tuple[int, ...]:
    return tuple(64 * 2**i * (4 if backbone.bottleneck else 1) for i in range(4))


DERIVED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ('ResNet', 'blocks'): lambda backbone: resnet.BLOCKS[backbone.depth],
    ('ResNet', 'features'): _features,
    ('ConvNeXt', 'depths'): lambda backbone: tuple(backbone.depths),
    ('ConvNeXt', 'widths'): lambda backbone: tuple(backbone.widths),
}


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise StatedError(f'{name} is stated as {value!r}, wanted a number above 0')
    return value


MEANS = ('mean', 'image_mean', 'img_mean', 'pixel_mean', 'norm_mean', 'rgb_mean')
DEVIATIONS = ('std', 'image_std', 'img_std', 'pixel_std', 'norm_std', 'rgb_std')
ORDER = ('input_space', 'channel_order', 'color_format', 'color_order', 'color_space', 'channels')
RANGE = ('input_range', 'pixel_range', 'value_range', 'image_range')


def images(shown: Preprocessing, facts: Mapping[str, Any]) -> Preprocessing | None:
    """The preprocessing with the range, mean and deviation that are stated; None where none is.

    Args:
        shown: the family's, whose size and interpolation stay.
        facts: see `apply`. Mean and deviation of values over 1 are those of 8 bits.

    Raises:
        StatedError: BGR images are stated, or a range or mean that is none.
    """
    _check_order(facts)
    mean, std = (_channels(facts, keys) for keys in (MEANS, DEVIATIONS))
    key, ends = _first(facts, RANGE)
    if ends is None and (mean is None or std is None):
        return None
    low, high = (0.0, 1.0) if ends is None else _ends(ends, key)
    if ends is None and mean and std and max(*mean, *std) > 2:
        high = 255.0
    mean, std = mean or (0.0,) * 3, std or (1.0,) * 3
    # Here an image is x in [0, 1]; there it is low + (high - low) x, less the mean, by the std.
    spread = high - low
    found = dataclasses.replace(
        shown,
        mean=tuple((value - low) / spread for value in mean),
        std=tuple(value / spread for value in std),
    )
    if problems := found.problems():
        raise StatedError(f'the stated images are odd: {"; ".join(problems)}')
    return found


def _check_order(facts: Mapping[str, Any]) -> None:
    for key in ORDER:
        if str(facts.get(key, '')).lower().startswith('bgr'):
            raise StatedError(f'{key} is stated as {facts[key]!r}; images are RGB here')
    for key, wanted in (('bgr', False), ('to_bgr', False), ('do_flip_channel_order', False)):
        if facts.get(key) not in (None, wanted):
            raise StatedError(f'{key} is stated as {facts[key]!r}; images are RGB here')
    if facts.get('to_rgb', facts.get('bgr_to_rgb')) is False:
        raise StatedError('to_rgb is stated as False: the network reads BGR; images are RGB here')


def _channels(facts: Mapping[str, Any], keys: Sequence[str]) -> tuple[float, ...] | None:
    """Three numbers, of one repeated; None where something else bears the name."""
    _, value = _first(facts, keys)
    values = value if isinstance(value, list | tuple) else ()
    if len(values) not in (1, 3) or not all(isinstance(v, int | float) for v in values):
        return None
    return tuple(map(float, values)) * (3 // len(values))


def _ends(value: Any, key: str) -> tuple[float, float]:
    numbers = re.findall(r'-?\d+(?:\.\d+)?', str(value).replace('..', ' '))
    ends = [float(number) for number in numbers]
    ends = [0.0, *ends] if len(ends) == 1 else ends
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise StatedError(f'{key} is stated as {value!r}, wanted two numbers, low and high')
    return ends[0], ends[1]


def assumed_images(shown: Preprocessing) -> str:
    """What is said where no statement says what images the network wants."""
    mean, std = (' '.join(f'{v:.4g}' for v in values) for values in (shown.mean, shown.std))
    return f'assumed, as the weights do not say: RGB images, mean {mean}, standard deviation {std}'


def assumed(backbone: Any, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What no entry and no statement says of a ViT, and what was taken instead."""
    if not hasattr(backbone, 'head_width'):
        return ()
    values = (
        (f'{backbone.width // backbone.head_width} attention heads', HEADS),
        (f'activation {backbone.activation}', ACTIVATION),
        (f'epsilon {backbone.epsilon:g}', LAYER_NORM),
    )
    missing = [text for text, keys in values if _first(facts, keys)[1] is None]
    return (f'assumed, as the weights do not say: {", ".join(missing)}',) if missing else ()
