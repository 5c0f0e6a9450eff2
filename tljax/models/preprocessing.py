"""What becomes of a network's preprocessing: its form in records, and other channels."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tljax.types import InputError, Interpolation, Preprocessing, gray_range_problems


def to_fields(preprocessing: Preprocessing) -> dict[str, Any]:
    """A form for JSON."""
    fields = dataclasses.asdict(preprocessing)
    return fields | {'interpolation': preprocessing.interpolation.value}


def from_fields(fields: Mapping[str, Any]) -> Preprocessing:
    """The inverse of `to_fields`.

    Raises:
        ValueError: a value is of another kind or out of range.
        AttributeError, KeyError, TypeError: the fields are others.
    """
    values = dict(fields)
    values['interpolation'] = Interpolation(values['interpolation'])
    for name in ('mean', 'std'):
        values[name] = tuple(float(value) for value in values[name])
    if values.get('gray_range') is not None:
        values['gray_range'] = tuple(float(value) for value in values['gray_range'])
    for name in ('size_px', 'resize_px'):
        if not isinstance(values[name], int):
            raise TypeError(f'{name} is {values[name]!r}, wanted a whole number')
    preprocessing = Preprocessing(**values)
    if problems := preprocessing.problems():
        raise ValueError('; '.join(problems))
    return preprocessing


def with_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """The same for images of another number of channels.

    One channel gets the average of mean and standard deviation; more repeat them in order, as
    `adapt` repeats the kernels that read them.
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
    """The same for images deeper than 8 bits, of which LOW,HIGH become black and white.

    Raises:
        InputError: the text is no range.
    """
    try:
        values = tuple(float(value) for value in text.split(','))
    except ValueError as error:
        raise InputError(f'gray_range is {text!r}, wanted LOW,HIGH') from error
    if problems := gray_range_problems(values):
        raise InputError(problems[0])
    return dataclasses.replace(preprocessing, gray_range=values)


def with_size(preprocessing: Preprocessing, size_px: int) -> Preprocessing:
    """The same for images of another size, cut out of the same share of the resized one."""
    share = preprocessing.resize_px / preprocessing.size_px
    return dataclasses.replace(preprocessing, size_px=size_px, resize_px=round(size_px * share))
