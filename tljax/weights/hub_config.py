"""Reads preprocessing, classes and licence from the configurations of timm and transformers."""

import re
from collections.abc import Mapping
from typing import Any

from tljax.types import InputError, Interpolation, Preprocessing
from tljax.weights import tower_config

TIMM_CROP_SHARE = 0.875  # timm's default
# ConvNeXt's processor in transformers crops below this size and squashes from this size on.
SQUASHED_FROM_PX = 384
# By timm's name and by Pillow's number. Bicubic replaces Lanczos, its nearest relative. timm's
# `random` chooses between bilinear and bicubic in training.
RESAMPLING = {
    'bilinear': Interpolation.BILINEAR,
    2: Interpolation.BILINEAR,
    'bicubic': Interpolation.BICUBIC,
    3: Interpolation.BICUBIC,
    'lanczos': Interpolation.BICUBIC,
    1: Interpolation.BICUBIC,
    'random': Interpolation.BICUBIC,
}


class HubError(InputError):
    """A repository or file that is missing or cannot be read."""


def licence_of(config: Mapping[str, Any], card: Mapping[str, str]) -> str | None:
    """The licence that a repository states in its card or in timm's configuration."""
    name = card.get('license')
    if name == 'other':
        name = card.get('license_name', name)
    return name or (config.get('pretrained_cfg') or {}).get('license') or config.get('license')


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes in the order of the logits; None if they have only numbers."""
    if names := config.get('label_names'):
        return tuple(map(str, names))
    labels = {str(index): str(name) for index, name in (config.get('id2label') or {}).items()}
    if not labels or labels.keys() != {str(index) for index in range(len(labels))}:
        return None
    names = tuple(labels[str(index)] for index in range(len(labels)))
    return None if all(re.fullmatch(r'LABEL_\d+', name) for name in names) else names


def preprocessing_of(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> Preprocessing | None:
    """The preprocessing of timm's or transformers' configuration; None if both are incomplete.

    Networks that squash images to a square get images here that are resized by the short side and
    cropped.

    Args:
        config: the fields of config.json, where timm's are in `pretrained_cfg`, or those of
            open_clip_config.json.
        preprocessor: the fields of transformers' preprocessor_config.json.

    Raises:
        HubError: a value is invalid or not supported by `Preprocessing`.
    """
    try:
        fields = tower_config.preprocessing(config) or config.get('pretrained_cfg')
        result = _timm(fields) or _transformers(preprocessor)
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise HubError(f'the preprocessing of the repository is invalid: {error!r}') from error
    if result and (problems := result.problems()):
        raise HubError(f'the preprocessing of the repository is invalid: {"; ".join(problems)}')
    return result


def _timm(fields: Mapping[str, Any] | None) -> Preprocessing | None:
    """Source: timm, data/config.py and data/transforms_factory.py."""
    if not fields:
        return None
    height, width = fields.get('input_size', (3, 224, 224))[1:]
    size_px = _square(height, width)
    share = float(fields.get('crop_pct') or TIMM_CROP_SHARE)
    squashed = fields.get('crop_mode') in ('squash', 'border')
    values: dict[str, Any] = {
        name: tuple(map(float, fields[name])) for name in ('mean', 'std') if name in fields
    }
    return Preprocessing(
        size_px=size_px,
        resize_px=size_px if squashed else int(size_px / share),
        interpolation=_interpolation(fields.get('interpolation', 'bicubic')),
        **values,
    )


def _transformers(fields: Mapping[str, Any]) -> Preprocessing | None:
    """Source: transformers, the `*ImageProcessor` classes."""
    normalises = fields.get('do_normalize', True)
    if 'size' not in fields or not fields.get('do_resize', True):
        return None
    if normalises and not ('image_mean' in fields and 'image_std' in fields):
        return None
    size_px = resize_px = _side(fields['size'])
    if share := fields.get('crop_pct'):
        resize_px = int(size_px / float(share)) if size_px < SQUASHED_FROM_PX else size_px
    elif fields.get('do_center_crop') and 'crop_size' in fields:
        size_px = _side(fields['crop_size'])
        resize_px = max(resize_px, size_px)
    mean, std = (fields['image_mean'], fields['image_std']) if normalises else (0.0, 1.0)
    return Preprocessing(
        size_px=size_px,
        resize_px=resize_px,
        interpolation=_interpolation(fields.get('resample', 2)),
        mean=_of_unit_range(mean, fields, bool(fields.get('rescale_offset'))),
        std=_of_unit_range(std, fields),
    )


def _of_unit_range(
    value: Any, fields: Mapping[str, Any], offset: bool = False
) -> tuple[float, ...]:
    """A mean or standard deviation for images in [0, 1].

    The configuration's value is for 8-bit values times `rescale_factor`. With `rescale_offset`
    (EfficientNet's processor), 1 is subtracted after the scaling.
    """
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    factor = fields.get('rescale_factor', 1 / 255) if fields.get('do_rescale', True) else 1.0
    # 255 * (1 / 255) is exactly 1, so values with the default factor do not change.
    return tuple((float(v) + offset) / (255 * factor) for v in values)


def _interpolation(name: str | int) -> Interpolation:
    if name not in RESAMPLING:
        raise ValueError(f'interpolation is {name!r}, wanted one of {list(RESAMPLING)}')
    return RESAMPLING[name]


def _side(size: Any) -> int:
    """The side length, from a number or from a dictionary with the short side or both sides."""
    if isinstance(size, Mapping):
        return int(size.get('shortest_edge') or _square(size['height'], size['width']))
    return int(size)


def _square(height: int, width: int) -> int:
    if height != width:
        raise ValueError(f'images are {height} by {width}, wanted square ones')
    return int(height)
