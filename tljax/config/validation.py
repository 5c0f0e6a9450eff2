"""Checks the types and ranges of the fields of an experiment."""

import dataclasses
import enum
import math
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from tljax.config.experiment import PRETRAINED, ConfigError, Experiment
from tljax.types import MeshShape, Sharding, gray_range_problems

POSITIVE = (
    'epochs',
    'batch_size',
    'clip_norm',
    'per_class',
    'evaluate_every_epochs',
    'checkpoint_every_steps',
    'accumulate',
    'log_every_steps',
)
# The values of a field are at least 0 and below its limit.
LIMITS = {
    'cache_gigabytes': math.inf,
    'validation_fraction': 1,
    'ema_decay': 1,
    'seed': 2**32,  # JAX's keys use 32 bits of a seed; a larger seed would repeat another one
    'data_seed': 2**32,
    'data_threads': 1024,
}


def validate(experiment: Experiment) -> None:
    """Checks every field, before anything is compiled.

    Types are checked against the annotations. Nested objects check their own ranges with
    `problems()`.

    Raises:
        ConfigError: with a line for each problem.
    """
    if not isinstance(experiment, Experiment):
        raise ConfigError(f'get_config() returned {experiment!r:.60}, wanted an Experiment')
    ranges = [f'config.{line}' for line in _range_problems(experiment)]
    if found := problems('config', experiment, ranges):
        raise ConfigError('\n'.join(found))


def problems(path: str, value: Any, own: Sequence[str] = ()) -> list[str]:
    """The problems of an object and of the objects in it.

    Args:
        path: names the object in messages.
        value: a dataclass.
        own: further problems of the object.
    """
    return [*_type_problems(path, value), *own, *_nested_problems(path, value)]


def _range_problems(experiment: Experiment) -> list[str]:
    """Problems of values of the right type; `_type_problems` reports the others."""
    problems = []
    for name in POSITIVE:
        value = getattr(experiment, name)
        if isinstance(value, int | float) and not 0 < value < math.inf:
            problems.append(f'{name} is {value}, wanted more than 0')
    for name, limit in LIMITS.items():
        value = getattr(experiment, name)
        if isinstance(value, int | float) and not 0 <= value < limit:
            wanted = '0 or more' if limit == math.inf else f'0 <= x < {limit}'
            problems.append(f'{name} is {value}, wanted {wanted}')
    if fits(experiment.gray_range, tuple[float, ...]):
        problems += gray_range_problems(experiment.gray_range or ())
    if fits(experiment.evaluate, tuple[str, ...]) and set(experiment.evaluate) - {'val', 'test'}:
        problems.append(f"evaluate is {experiment.evaluate}, wanted any of ('val', 'test')")
    problems += _accumulate_problems(experiment) + _mesh_problems(experiment)
    return problems + _head_problems(experiment)


def _accumulate_problems(experiment: Experiment) -> list[str]:
    parts, size = experiment.accumulate, experiment.batch_size
    if isinstance(parts, int) and isinstance(size, int) and parts > 0 and size % parts:
        return [f'accumulate is {parts}, wanted a divisor of batch_size, {size}']
    return []


def _mesh_problems(experiment: Experiment) -> list[str]:
    sharding, mesh = experiment.sharding, experiment.mesh
    if sharding is not Sharding.REPLICATED or not isinstance(mesh, MeshShape):
        return []
    if mesh.model in (None, 1):
        return []
    return [f'mesh.model is {mesh.model!r}, wanted sharding fsdp with it, or 1']


def _head_problems(experiment: Experiment) -> list[str]:
    head = experiment.head
    if isinstance(head, str) and head != PRETRAINED:
        return [f'head is {head!r}, wanted {PRETRAINED!r}, None or an object']
    if head == PRETRAINED and experiment.cut_after is not None:
        return [f'head is {PRETRAINED!r}, wanted cut_after None with it']
    return []


def _nested_problems(path: str, value: Any) -> list[str]:
    """The problems that the objects in a value report, with their paths."""
    if isinstance(value, tuple):
        parts = [_nested_problems(f'{path}[{i}]', item) for i, item in enumerate(value)]
        return [line for part in parts for line in part]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    reported = [] if _type_problems(path, value) else getattr(value, 'problems', list)()
    problems = [f'{path}.{line}' for line in reported]
    for field in dataclasses.fields(value):
        problems += _nested_problems(f'{path}.{field.name}', getattr(value, field.name))
    return problems


def _type_problems(path: str, value: Any) -> list[str]:
    """The fields of an object, and of objects in it, whose values do not have the right type."""
    problems = []
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if not fits(inner, field.type):
            problems.append(
                f'{path}.{field.name} is {inner!r:.80} ({type(inner).__name__}), '
                f'wanted {type_text(field.type)}'
            )
            continue
        inside = {f'{path}.{field.name}': inner}
        if isinstance(inner, tuple):
            inside = {f'{path}.{field.name}[{i}]': item for i, item in enumerate(inner)}
        for place, item in inside.items():
            if dataclasses.is_dataclass(item) and not isinstance(item, type):
                problems += _type_problems(place, item)
    return problems


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value has an annotated type. Every value has an annotation that is not known."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is tuple:
        inner = arguments[0] if arguments else Any
        return isinstance(value, tuple) and all(fits(one, inner) for one in value)
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
    """A type as text, for messages."""
    if typing.get_origin(wanted) is not None:
        return re.sub(r'\b(tljax\.types\.\w+|typing)\.', '', str(wanted))
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return f'one of {[member.value for member in wanted]}'
    return getattr(wanted, '__name__', str(wanted))
