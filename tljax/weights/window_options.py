"""The windows of a Swin Transformer V2, as options of its file state them.

Its parameters have no shape that depends on the windows.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from tljax.models.backbones import swin
from tljax.weights.options import OptionError, first

WINDOW = ('window_size', 'window_sizes')
PRETRAINED = ('pretrained_window_sizes', 'pretrained_window_size')
IMAGE = ('img_size', 'image_size', 'input_size')
# As in timm's `swinv2_base_window16_256` and `swinv2_base_window12to16_192to256`, the second
# pretrained with windows of 12 and 192 px.
NAMES = re.compile(r'swin.*window(\d+)(?:to(\d+))?_(\d+)(?:to(\d+))?')
# Images of the published networks by window.
SIZE_PX = {8: 256, 12: 192, 16: 256, 24: 384}


def apply(backbone: swin.Swin, options: Mapping[str, Any]) -> swin.Swin:
    """The backbone with the stated windows; no window is larger than the maps of its stage.

    Raises:
        OptionError: a stated value is not a number, or not one for each stage.
    """
    if backbone.version == 1:
        return backbone
    windows, pretrained = _named(options)
    size_px = _number(first(options, IMAGE)[1])
    if stated := first(options, WINDOW)[1]:
        windows = _of_each_stage(stated, size_px)
    if stated := first(options, PRETRAINED)[1]:
        pretrained = _of_each_stage(stated, None)
    return dataclasses.replace(
        backbone,
        windows=windows or backbone.windows,
        pretrained_windows=pretrained or backbone.pretrained_windows,
    )


def assumed(backbone: swin.Swin, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The note on windows that neither entries nor options state."""
    if backbone.version == 1 or _named(options)[0] or first(options, WINDOW)[1]:
        return ()
    return (f'assumed, as the weights do not say: windows {list(backbone.windows)}',)


def _named(options: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The windows and those of pretraining in the name of the architecture."""
    for value in options.values():
        if isinstance(value, str) and (name := NAMES.search(value)):
            before, after, before_px, after_px = (int(part or 0) for part in name.groups())
            windows = _of_each_stage(after or before, after_px or before_px)
            return windows, _of_each_stage(before, before_px) if after else None
    return None, None


def _of_each_stage(stated: Any, size_px: int | None) -> tuple[int, ...]:
    """One value for each stage; one for all is limited to the maps of images of `size_px`."""
    if not isinstance(stated, list | tuple):
        window = _number(stated)
        if window is None:
            raise OptionError(f'windows are stated as {stated!r}, wanted a number')
        grid = (size_px or SIZE_PX.get(window, 32 * window)) // swin.PATCH_PX
        return tuple(min(window, math.ceil(grid / 2**stage)) for stage in range(4))
    values = tuple(_number(value) for value in stated)
    if len(values) != 4 or None in values:
        raise OptionError(f'windows are stated as {stated!r}, wanted four numbers')
    return tuple(value or 0 for value in values)


def _number(value: Any) -> int | None:
    """A number, or the last of several; None for something else."""
    if isinstance(value, list | tuple) and value:
        value = value[-1]
    return value if isinstance(value, int) and not isinstance(value, bool) else None
