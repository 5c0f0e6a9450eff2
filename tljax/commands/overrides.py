"""`--config.FIELD=VALUE`: sets a field of an experiment, or of an object anywhere in it."""

from collections.abc import Sequence
from typing import Any

from tljax.commands import objects
from tljax.commands.command_line import Override, UsageError
from tljax.config import field_paths, value_types
from tljax.config.field_paths import FieldError
from tljax.config.value_text import fields_text


def apply(experiment: Any, overrides: Sequence[Override]) -> None:
    """Sets fields of an experiment, in order.

    Raises:
        UsageError: with a line for each field that cannot be set, and for each required field that
            has no value.
    """
    problems = []
    for override in overrides:
        try:
            change(override).apply(experiment)
        except (UsageError, FieldError) as error:
            problems.append(str(error))
    problems += [
        f'--config.{path}=VALUE is missing: {cls.__name__} has {fields_text(cls)}'
        for path, cls in field_paths.unset_fields('', experiment)
    ]
    if problems:
        raise UsageError('\n'.join(problems))


def change(override: Override) -> field_paths.Change:
    """The change that an override describes."""

    def read(kind: Any) -> Any:
        if override.text is not None:
            return objects.read(override.text, kind, override.flag)
        if bool in value_types.alternatives(kind):
            return True
        raise UsageError(
            f'{override.flag}: its value is missing; wanted {value_types.type_text(kind)}'
        )

    return field_paths.Change(path=override.field, read=read, label=override.flag)
