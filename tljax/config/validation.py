"""Whether the fields of an experiment are valid: their types and their ranges."""

import dataclasses
import enum
import math
import types
import typing
from typing import Any

from tljax.config.experiment import PRETRAINED, ConfigError, Experiment
from tljax.types import gray_range_problems


def validate(experiment: Experiment) -> None:
    """Checks every field, before anything is compiled.

    Types are those of the annotations; the ranges of nested objects are what their own
    `problems()` says.

    Raises:
        ConfigError: with a line for each problem.
    """
    if not isinstance(experiment, Experiment):
        raise ConfigError(f'get_config() returned {experiment!r:.60}, wanted an Experiment')
    found = _type_problems('config', experiment) + _range_problems(experiment)
    found += _nested_problems('config', experiment)
    if found:
        raise ConfigError('\n'.join(found))


def _range_problems(e: Experiment) -> list[str]:
    found = []

    def positive(name: str) -> None:
        value = getattr(e, name)
        if isinstance(value, (int, float)) and not (value > 0 and math.isfinite(value)):
            found.append(f'config.{name} is {value}, wanted more than 0')

    for name in ('epochs', 'batch_size', 'clip_norm', 'per_class', 'evaluate_every_epochs'):
        positive(name)
    if _fits(e.gray_range, tuple[float, ...]):
        found.extend(f'config.{line}' for line in gray_range_problems(e.gray_range or ()))
    positive('checkpoint_every_steps')
    positive('accumulate')
    positive('log_every_steps')
    if isinstance(e.cache_gigabytes, (int, float)) and not 0 <= e.cache_gigabytes < math.inf:
        found.append(f'config.cache_gigabytes is {e.cache_gigabytes}, wanted 0 or more')
    if isinstance(e.validation_fraction, (int, float)) and not 0 <= e.validation_fraction < 1:
        found.append(f'config.validation_fraction is {e.validation_fraction}, wanted 0 <= x < 1')
    if isinstance(e.ema_decay, (int, float)) and not 0 <= e.ema_decay < 1:
        found.append(f'config.ema_decay is {e.ema_decay}, wanted 0 <= x < 1')
    whole = isinstance(e.accumulate, int) and isinstance(e.batch_size, int)
    if whole and e.accumulate > 0 and e.batch_size % e.accumulate:
        found.append(
            f'config.accumulate is {e.accumulate}, wanted a divisor of batch_size, {e.batch_size}'
        )
    # JAX's keys take 32 bits of a seed: a larger one would repeat a smaller one's values.
    for name, limit in (('seed', 2**32), ('data_threads', 1024)):
        value = getattr(e, name)
        if isinstance(value, int) and not 0 <= value < limit:
            found.append(f'config.{name} is {value}, wanted 0 <= x < {limit}')
    if _fits(e.evaluate, tuple[str, ...]) and set(e.evaluate) - {'val', 'test'}:
        found.append(f"config.evaluate is {e.evaluate}, wanted any of ('val', 'test')")
    if isinstance(e.head, str) and e.head != PRETRAINED:
        found.append(f'config.head is {e.head!r}, wanted {PRETRAINED!r}, None or an object')
    if e.head == PRETRAINED and e.cut_after is not None:
        found.append(f'config.head is {PRETRAINED!r}, wanted cut_after None with it')
    return found


def _nested_problems(path: str, value: Any) -> list[str]:
    """What the objects inside say of themselves, with their paths."""
    if isinstance(value, tuple):
        parts = [_nested_problems(f'{path}[{i}]', item) for i, item in enumerate(value)]
        return [line for part in parts for line in part]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    own = [] if _type_problems(path, value) else getattr(value, 'problems', list)()
    found = [f'{path}.{line}' for line in own]
    for field in dataclasses.fields(value):
        found += _nested_problems(f'{path}.{field.name}', getattr(value, field.name))
    return found


def _type_problems(path: str, value: Any) -> list[str]:
    """Fields of a dataclass, and of those inside it, whose value is not of the annotated type."""
    found = []
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if not _fits(inner, field.type):
            found.append(
                f'{path}.{field.name} is {inner!r:.80} ({type(inner).__name__}), '
                f'wanted {type_text(field.type)}'
            )
            continue
        inside = {f'{path}.{field.name}': inner}
        if isinstance(inner, tuple):
            inside = {f'{path}.{field.name}[{i}]': item for i, item in enumerate(inner)}
        for place, item in inside.items():
            if dataclasses.is_dataclass(item) and not isinstance(item, type):
                found += _type_problems(place, item)
    return found


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of an annotated type, as far as it can be told."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        inner = arguments[0] if arguments else Any
        return isinstance(value, tuple) and all(_fits(one, inner) for one in value)
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted is None or wanted is type(None):
        return value is None
    if isinstance(wanted, type):
        return isinstance(value, wanted) and not isinstance(value, type)
    return True


def type_text(wanted: Any) -> str:
    """A type as a user would write it."""
    if typing.get_origin(wanted) is not None:
        return str(wanted).replace('tljax.types.', '').replace('typing.', '')
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return f'one of {[member.value for member in wanted]}'
    return getattr(wanted, '__name__', str(wanted))
