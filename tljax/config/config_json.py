"""`config.json`: an experiment as JSON, read back, and compared with another one."""

import dataclasses
import json
from typing import Any

from tljax.config.experiment import ABSENT, HARMLESS, ConfigError, Experiment
from tljax.config.json_form import current, decode, encode


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
    return current(found)


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
    one = current(json.loads(ours))
    try:
        two = current(json.loads(theirs))
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
