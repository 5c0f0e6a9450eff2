"""The images that a network reads, as options of its file state them: range, mean and deviation."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.types import Preprocessing
from tljax.weights.options import OptionError, first

MEANS = ('mean', 'image_mean', 'img_mean', 'pixel_mean', 'norm_mean', 'rgb_mean')
DEVIATIONS = ('std', 'image_std', 'img_std', 'pixel_std', 'norm_std', 'rgb_std')
ORDER = ('input_space', 'channel_order', 'color_format', 'color_order', 'color_space', 'channels')
BGR = ('bgr', 'to_bgr', 'do_flip_channel_order')
RANGE = ('input_range', 'pixel_range', 'value_range', 'image_range')


def apply(usual: Preprocessing, options: Mapping[str, Any]) -> Preprocessing | None:
    """The preprocessing with the stated range, mean and deviation; None if none is stated.

    Args:
        usual: the family's preprocessing, whose size and interpolation stay.
        options: see `options`. Mean and deviation above 2 belong to values in [0, 255].

    Raises:
        OptionError: the network reads BGR images, or a stated range or mean is impossible.
    """
    _check_order(options)
    mean, std = (_channels(options, keys) for keys in (MEANS, DEVIATIONS))
    key, ends = first(options, RANGE)
    if ends is None and (mean is None or std is None):
        return None
    low, high = (0.0, 1.0) if ends is None else _ends(ends, key)
    if ends is None and mean and std and max(*mean, *std) > 2:
        high = 255.0
    mean, std = mean or (0.0,) * 3, std or (1.0,) * 3
    # tljax normalises x in [0, 1]; the file's mean and std apply to low + (high - low) x.
    spread = high - low
    result = dataclasses.replace(
        usual,
        mean=tuple((value - low) / spread for value in mean),
        std=tuple(value / spread for value in std),
    )
    if problems := result.problems():
        raise OptionError(f'the stated images are odd: {"; ".join(problems)}')
    return result


def _check_order(options: Mapping[str, Any]) -> None:
    wrong = [key for key in ORDER if str(options.get(key, '')).lower().startswith('bgr')]
    wrong += [key for key in BGR if options.get(key) not in (None, False)]
    if options.get('to_rgb', options.get('bgr_to_rgb')) is False:
        wrong.append('to_rgb' if 'to_rgb' in options else 'bgr_to_rgb')
    if wrong:
        stated = f'{wrong[0]} is stated as {options[wrong[0]]!r}'
        raise OptionError(f'{stated}: the network reads BGR images; tljax reads RGB')


def _channels(options: Mapping[str, Any], keys: Sequence[str]) -> tuple[float, ...] | None:
    """Three numbers, or one repeated; None if the option is of another type."""
    _, value = first(options, keys)
    values = value if isinstance(value, list | tuple) else ()
    if len(values) not in (1, 3) or not all(isinstance(v, int | float) for v in values):
        return None
    return tuple(map(float, values)) * (3 // len(values))


def _ends(value: Any, key: str) -> tuple[float, float]:
    numbers = re.findall(r'-?\d+(?:\.\d+)?', str(value).replace('..', ' '))
    ends = [float(number) for number in numbers]
    ends = [0.0, *ends] if len(ends) == 1 else ends
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise OptionError(f'{key} is stated as {value!r}, wanted two numbers, low and high')
    return ends[0], ends[1]


def assumed(images: Preprocessing) -> str:
    """The note for weights that do not state their images."""
    mean, std = (' '.join(f'{v:.4g}' for v in values) for values in (images.mean, images.std))
    return f'assumed, as the weights do not say: RGB images, mean {mean}, standard deviation {std}'
