"""`config.json`: writes an experiment as JSON, reads it, and compares two of them."""

import dataclasses
import json
from typing import Any

from tljax.config import json_form
from tljax.config.experiment import ABSENT, HARMLESS, ConfigError, Experiment
from tljax.config.json_form import current, decode, encode


def to_json(experiment: Experiment) -> str:
    """Writes an experiment as JSON. `from_json` reads it as an equal experiment."""
    return json.dumps(encode(experiment), indent=2)


def from_json(text: str) -> Experiment:
    """Reads an experiment from JSON.

    Raises:
        ConfigError: a class that it names is unknown or has other fields.
    """
    experiment = _decoded(fields_of(text))
    if not isinstance(experiment, Experiment):
        raise ConfigError(f'this config.json has {experiment!r:.60}, wanted an Experiment')
    return experiment


def fields_of(text: str) -> dict[str, Any]:
    """Reads the JSON form of an experiment without looking up its classes.

    Raises:
        ConfigError: the text is damaged.
    """
    fields = _parse(text, 'this config.json')
    if not isinstance(fields, dict):
        raise ConfigError(f'this config.json has {fields!r:.60}, wanted an Experiment')
    return fields


def _parse(text: str, name: str) -> Any:
    try:
        return current(json.loads(text))
    except ValueError as error:
        raise ConfigError(f'{name} is damaged: {error}') from error


def field_from(fields: dict[str, Any], name: str) -> Any:
    """One field of an experiment's JSON form; its default if the form lacks it.

    Raises:
        ConfigError: a class that it names is unknown or has other fields.
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
        raise ConfigError(f'this config.json does not fit this version: {error}') from error


def difference(ours: str, theirs: str) -> list[str]:
    """Lists the fields that differ between two JSON forms and can change a result.

    Args:
        ours: of the experiment.
        theirs: of the record of a run.

    Raises:
        ConfigError: the record is damaged.
    """
    record = _parse(theirs, 'the config.json of that run')
    if not isinstance(record, dict):
        raise ConfigError(f'the config.json of that run is damaged: it has {record!r:.60}')
    record = json_form.completed(record, Experiment)  # an older record lacks newer fields
    return [
        f'config.{path}: {present} was {former}'
        for path, present, former in _differences('', current(json.loads(ours)), record)
        if path.split('.')[0].split('[')[0] not in HARMLESS
    ]


def _differences(path: str, present: Any, former: Any) -> list[tuple[str, Any, Any]]:
    """The path and both values of each difference, as deep inside as both have the same class."""
    both = (present, former)
    if all(isinstance(one, dict) for one in both) and _class(present) == _class(former):
        prefix = f'{path}.' if path else ''
        keys = [*present, *(key for key in former if key not in present)]
        parts = [
            _differences(f'{prefix}{key}', present.get(key, ABSENT), former.get(key, ABSENT))
            for key in keys
        ]
    elif all(isinstance(one, list) for one in both) and len(present) == len(former):
        pairs = zip(present, former, strict=True)
        parts = [_differences(f'{path}[{i}]', *pair) for i, pair in enumerate(pairs)]
    else:
        return [] if present == former else [(path, present, former)]
    return [line for part in parts for line in part]


def _class(encoded: dict[str, Any]) -> Any:
    return encoded.get('class', encoded.get('enum'))
