"""Preprocessing as JSON, and for other channels, gray ranges and sizes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tljax.types import (
    InputError,
    Interpolation,
    Preprocessing,
    TextPreprocessing,
    gray_range_problems,
)


def to_fields(preprocessing: Preprocessing | TextPreprocessing) -> dict[str, Any]:
    """The fields in a form for JSON."""
    fields = dataclasses.asdict(preprocessing)
    if isinstance(preprocessing, TextPreprocessing):
        return fields
    return fields | {'interpolation': preprocessing.interpolation.value}


def from_fields(fields: Mapping[str, Any]) -> Preprocessing | TextPreprocessing:
    """The inverse of `to_fields`.

    Raises:
        ValueError: a value is of another type or out of range.
        AttributeError, KeyError, TypeError: fields are missing or unknown.
    """
    made = _text(fields) if 'vocabulary' in fields else _images(fields)
    if problems := made.problems():
        raise ValueError('; '.join(problems))
    return made


def _text(fields: Mapping[str, Any]) -> TextPreprocessing:
    values = dict(fields)
    values['vocabulary'] = tuple(map(str, values['vocabulary']))
    if type(values['most_tokens']) is not int or type(values['backward']) is not bool:
        raise TypeError('most_tokens or backward has another type, wanted a number and a bool')
    return TextPreprocessing(**values)


def _images(fields: Mapping[str, Any]) -> Preprocessing:
    values = dict(fields)
    values['interpolation'] = Interpolation(values['interpolation'])
    for name in ('mean', 'std'):
        values[name] = tuple(float(value) for value in values[name])
    if values.get('gray_range') is not None:
        values['gray_range'] = tuple(float(value) for value in values['gray_range'])
    for name in ('size_px', 'resize_px'):
        if not isinstance(values[name], int):
            raise TypeError(f'{name} is {values[name]!r}, wanted a whole number')
    return Preprocessing(**values)


def with_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """The same preprocessing for images with another number of channels.

    One channel gets the averages of mean and standard deviation; more channels repeat them in
    order, as `adapt` repeats the kernels that read them.
    """
    mean, std = preprocessing.mean, preprocessing.std
    if channels == len(mean):
        return preprocessing
    if channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    repeats = -(-channels // len(mean))
    return dataclasses.replace(
        preprocessing, mean=(mean * repeats)[:channels], std=(std * repeats)[:channels]
    )


def with_gray_range(preprocessing: Preprocessing, text: str) -> Preprocessing:
    """The same with `LOW,HIGH` as the black and white of images deeper than 8 bits.

    Raises:
        InputError: the text is not a range.
    """
    try:
        values = tuple(float(value) for value in text.split(','))
    except ValueError as error:
        raise InputError(f'gray_range is {text!r}, wanted LOW,HIGH') from error
    if problems := gray_range_problems(values):
        raise InputError(problems[0])
    return dataclasses.replace(preprocessing, gray_range=values)


def with_size(preprocessing: Preprocessing, size_px: int) -> Preprocessing:
    """The same for another size, with the same ratio of `size_px` to `resize_px`."""
    share = preprocessing.resize_px / preprocessing.size_px
    return dataclasses.replace(preprocessing, size_px=size_px, resize_px=round(size_px * share))
