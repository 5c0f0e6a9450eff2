"""The experiment: what a config file returns, what makes one valid, and its JSON form."""

import dataclasses
import enum
import json
import math
import types
import typing
from typing import Any

from tljax.data.subsets import Subset
from tljax.json_form import decode as decode
from tljax.json_form import encode as encode
from tljax.losses import CrossEntropy
from tljax.sample_transfer import LabelledSource, UnlabelledPool, WithoutSource
from tljax.schedule import Constant
from tljax.stochastic_norm import StochNorm
from tljax.types import (
    Adapter,
    Augmentation,
    Backbone,
    Balance,
    CachePrefix,
    Dtype,
    Head,
    InputError,
    Loss,
    Norm,
    Optimizer,
    Penalty,
    Preprocessing,
    Schedule,
    Source,
    Strategy,
    Views,
    gray_range_problems,
)
from tljax.views import Centre


class ConfigError(InputError):
    """A field of an experiment that cannot be used; a line for each."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Experiment:
    """One run, and what it is compared with.

    Everything that changes a result is here. Epochs are passes over the training split, after
    `per_class` and the validation split have been taken.
    """

    backbone: Backbone
    data: Source
    strategy: Strategy
    optimizer: Optimizer
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    loss: Loss = dataclasses.field(default_factory=CrossEntropy)
    augmentations: tuple[Augmentation, ...] = ()
    penalties: tuple[Penalty, ...] = ()  # added to the loss, in training alone
    source: LabelledSource | UnlabelledPool | None = (
        None  # samples that are trained beside the data
    )
    epochs: float = 10.0
    batch_size: int = 32  # over all devices
    clip_norm: float | None = None  # of the trained leaves' gradient; None for no clipping
    norm: Norm = Norm.AUTO  # what becomes of normalisation layers
    stochastic_norm: StochNorm | None = None  # where BatchNorm's statistics follow the batch
    adapters: tuple[Adapter, ...] = ()  # leaves beside the weights'; merged in this order
    ema_decay: float | None = None  # running means of the parameters are evaluated and kept
    compute_dtype: Dtype = Dtype.FLOAT32  # of training; parameters and statistics stay float32
    prefix_dtype: Dtype | None = None  # of the frozen stages below the trained; None: the same
    fold_prefix: bool = False  # computes them with BatchNorm folded into the layers before it
    cache_prefix: CachePrefix = CachePrefix.AUTO  # runs them once for all epochs
    remat: tuple[str, ...] = ()  # stages (patterns) whose activations are computed twice, not kept
    accumulate: int = 1  # parts in which a batch is worked on; BatchNorm sees each part alone
    cut_after: str | None = None  # the backbone's last stage to keep; None keeps all
    head: Head | str | None = None  # None: the family's own, new; 'pretrained': the weights' own
    preprocessing: Preprocessing | None = None  # None: what the weights want
    gray_range: tuple[float, ...] | None = None  # black and white of images deeper than 8 bits
    per_class: int | None = None  # labelled training images per class; None for all
    subset: Subset = dataclasses.field(default_factory=Subset)  # of it, for ablations
    balance: Balance = Balance.NONE  # of the classes in training
    validation_fraction: float = 0.1  # of each class, where the data has no split of its own
    evaluate: tuple[str, ...] = ('val',)  # splits to evaluate during training
    test_views: Views = dataclasses.field(default_factory=Centre)  # of the final test images
    evaluate_every_epochs: float = 1.0  # and at the end; saves a checkpoint each time
    checkpoint_every_steps: int | None = None  # between those, for long epochs
    log_every_steps: int = 50
    data_threads: int = 4
    cache_gigabytes: float = 20.0  # of disk for images decoded, as for features; 0 keeps neither
    seed: int = 0
    baselines: tuple[Strategy | WithoutSource, ...] = ()  # run after it; they have no adapters


# A run may be resumed with other values of these: they change no result.
HARMLESS = ('data_threads', 'cache_gigabytes', 'baselines')
PRETRAINED = 'pretrained'  # the head that came with the weights
ABSENT = 'absent'  # what a field is in the record of code that did not have it


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


def to_json(experiment: Experiment) -> str:
    """An experiment as JSON that `from_json` turns back into an equal one."""
    return json.dumps(encode(experiment), indent=2)


def from_json(text: str) -> Experiment:
    """The inverse of `to_json`.

    Raises:
        ConfigError: a class it names can no longer be imported or has other fields.
    """
    experiment = _decoded(fields_of(text))
    if not isinstance(experiment, Experiment):
        raise ConfigError(f'this config.json holds {experiment!r:.60}, no Experiment')
    return experiment


def fields_of(text: str) -> dict[str, Any]:
    """The JSON form of an experiment, with no class looked up.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f'this config.json is damaged: {error}') from error
    if not isinstance(found, dict):
        raise ConfigError(f'this config.json holds {found!r:.60}, no Experiment')
    return found


def field_from(fields: dict[str, Any], name: str) -> Any:
    """One field of an experiment's JSON form; its default where it is not there.

    Raises:
        ConfigError: a class it names may not be used, or has other fields.
    """
    if name in fields:
        return _decoded(fields[name])
    field = {f.name: f for f in dataclasses.fields(Experiment)}[name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise ConfigError(f'this config.json has no {name}')
    return field.default


def _decoded(value: Any) -> Any:
    try:
        return decode(value)
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'this config.json was written by other code: {error}') from error


def difference(ours: str, theirs: str) -> list[str]:
    """The fields in which two JSON forms differ and that could change a result.

    Raises:
        ConfigError: `theirs`, from a file, is not whole.
    """
    one = json.loads(ours)
    try:
        two = json.loads(theirs)
    except ValueError as error:
        raise ConfigError(f'the config.json of that run is damaged: {error}') from error
    return [
        f'config.{path}: {first} was {second}'
        for path, first, second in _differences('', one, two)
        if path.split('.')[0].split('[')[0] not in HARMLESS
    ]


def _differences(path: str, one: Any, two: Any) -> list[tuple[str, Any, Any]]:
    same_class = isinstance(one, dict) and isinstance(two, dict) and _kind(one) == _kind(two)
    if same_class:
        prefix = f'{path}.' if path else ''
        keys = [*one, *(key for key in two if key not in one)]
        parts = [
            _differences(f'{prefix}{key}', one.get(key, ABSENT), two.get(key, ABSENT))
            for key in keys
        ]
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = zip(one, two, strict=True)
        parts = [_differences(f'{path}[{i}]', a, b) for i, (a, b) in enumerate(pairs)]
    else:
        return [] if one == two else [(path, one, two)]
    return [line for part in parts for line in part]


def _kind(encoded: dict[str, Any]) -> Any:
    return encoded.get('class', encoded.get('enum'))
