"""`--config.FIELD=VALUE`: sets a field of an experiment, or of an object anywhere in it."""

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from tljax.commands import objects, value_types
from tljax.commands.command_line import Override, UsageError
from tljax.commands.value_text import fields_text

STEP = re.compile(r'\[(-?\d+)\]|\.?([A-Za-z_]\w*)')
# Names of fields in other libraries, and their names here.
SYNONYMS = {
    'lr': 'learning_rate',
    'base_lr': 'learning_rate',
    'learningrate': 'learning_rate',
    'wd': 'weight_decay',
    'decay': 'weight_decay',
    'l2': 'weight_decay',
    'bs': 'batch_size',
    'batch': 'batch_size',
    'batchsize': 'batch_size',
    'train_batch_size': 'batch_size',
    'model': 'backbone',
    'network': 'backbone',
    'net': 'backbone',
    'arch': 'backbone',
    'architecture': 'backbone',
    'dataset': 'data',
    'data_dir': 'data.path',
    'data_path': 'data.path',
    'dir': 'data.path',
    'root': 'data.path',
    'epoch': 'epochs',
    'num_epochs': 'epochs',
    'n_epochs': 'epochs',
    'max_epochs': 'epochs',
    'nb_epochs': 'epochs',
    'total_epochs': 'epochs',
    'train_epochs': 'epochs',
    'num_train_epochs': 'epochs',
    'source': 'samples',
    'optim': 'optimizer',
    'opt': 'optimizer',
    'solver': 'optimizer',
    'scheduler': 'schedule',
    'lr_scheduler': 'schedule',
    'lr_schedule': 'schedule',
    'criterion': 'loss',
    'loss_fn': 'loss',
    'transforms': 'augmentations',
    'augmentation': 'augmentations',
    'augment': 'augmentations',
    'workers': 'data_threads',
    'num_workers': 'data_threads',
    'threads': 'data_threads',
    'val_split': 'validation_fraction',
    'val_fraction': 'validation_fraction',
    'grad_clip': 'clip_norm',
    'gradient_clip': 'clip_norm',
    'max_grad_norm': 'clip_norm',
    'ema': 'ema_decay',
    'precision': 'compute_dtype',
    'dtype': 'compute_dtype',
    'grad_accum': 'accumulate',
    'gradient_accumulation_steps': 'accumulate',
    'random_seed': 'seed',
    'pretrained': 'backbone.weights',
    'checkpoint': 'backbone.weights',
    'freeze': 'strategy',
    'method': 'strategy',
    'shots': 'per_class',
}
Path = list[str | int]  # ['augmentations', 0, 'pad_px']


def apply(experiment: Any, overrides: Sequence[Override]) -> None:
    """Sets fields of an experiment, in order.

    Raises:
        UsageError: with a line for each field that cannot be set, and for each required field that
            has no value.
    """
    problems = []
    for override in overrides:
        try:
            _Change(experiment, override).apply()
        except UsageError as error:
            problems.append(str(error))
    problems += [
        f'--config.{path}=VALUE is missing: {cls.__name__} has {fields_text(cls)}'
        for path, cls in _unset_fields('', experiment)
    ]
    if problems:
        raise UsageError('\n'.join(problems))


def split(override: Override) -> Path:
    """Splits the path of a field: `augmentations[0].pad_px` has three steps.

    Raises:
        UsageError: it is no such path.
    """
    path, position = [], 0
    while position < len(override.field):
        step = STEP.match(override.field, position)
        if not step or (position > 0) != step[0].startswith(('.', '[')):
            path = []
            break
        path.append(int(step[1]) if step[1] else step[2])
        position = step.end()
    if not path:
        raise UsageError(f'{override.flag}: not a path of fields, such as optimizer.learning_rate')
    return path


@dataclasses.dataclass(frozen=True)
class _Change:
    """One override of an experiment."""

    experiment: Any
    override: Override

    def apply(self) -> None:
        """Sets the field."""
        self._changed(self.experiment, type(self.experiment), split(self.override), 'config')

    def _changed(self, value: Any, kind: Any, path: Path, place: str) -> Any:
        """Returns a value of a type with the field at a path in it set.

        Objects are changed in place. Tuples, and objects of frozen classes, are made anew.

        Args:
            value: an object or a tuple; with an empty path, the value that is replaced.
            kind: the type of the field that holds it.
            path: the steps from it to the field.
            place: the steps from the experiment to it, for messages.
        """
        if not path:
            return self._read(kind)
        step, rest = path[0], path[1:]
        if isinstance(step, int) and isinstance(value, tuple):
            return self._changed_tuple(value, kind, step, rest, place)
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            raise UsageError(
                f'{self.override.flag}: {place} is {value!r:.60} and has no fields'
                f'{_object_hint(place, kind)}'
            )
        types = value_types.field_types(type(value))
        if not isinstance(step, str) or step not in types:
            raise UsageError(self._unknown_field(value, str(step), place))
        new = self._changed(getattr(value, step), types[step], rest, f'{place}.{step}')
        try:
            setattr(value, step, new)
        except dataclasses.FrozenInstanceError:
            return dataclasses.replace(value, **{step: new})
        return value

    def _changed_tuple(
        self, value: tuple[Any, ...], kind: Any, index: int, rest: Path, place: str
    ) -> tuple[Any, ...]:
        if not -len(value) <= index < len(value):
            raise UsageError(f'{self.override.flag}: {place} has {len(value)} entries')
        kinds = value_types.alternatives(kind)
        tuple_type = next((one for one in kinds if typing.get_args(one)), tuple[Any, ...])
        element = value_types.element_type(tuple_type, index)
        items = list(value)
        items[index] = self._changed(value[index], element, rest, f'{place}[{index}]')
        return tuple(items)

    def _read(self, kind: Any) -> Any:
        """The value that the override's text stands for."""
        if self.override.text is not None:
            return objects.read(self.override.text, kind, self.override.flag)
        if bool in value_types.alternatives(kind):
            return True
        raise UsageError(
            f'{self.override.flag}: its value is missing; wanted {value_types.type_text(kind)}'
        )

    def _unknown_field(self, value: Any, name: str, place: str) -> str:
        """Says that an object has no field of a name, and suggests the intended one."""
        own = [field.name for field in dataclasses.fields(value)]
        prefix = place.removeprefix('config').removeprefix('.')
        paths = _similar_paths(name, own, prefix, dict(fields('', self.experiment)))
        flags = ' or '.join(f'--config.{path}' for path in paths)
        hint = f'did you mean {flags}? ' if paths else ''
        return (
            f'{self.override.flag}: {type(value).__name__} has no field {name!r}; '
            f'{hint}It has {", ".join(own)}'
        )


def _object_hint(place: str, kind: Any) -> str:
    """Says how to set an object whose field can then be set; empty if no class fits."""
    kinds = [one for one in value_types.alternatives(kind) if one is not Any]
    names = value_types.fitting_classes(kinds)
    return f'; set an object first: --{place}={names[0]}' if names else ''


def _similar_paths(name: str, own: list[str], prefix: str, all_fields: dict[str, Any]) -> list[str]:
    """The paths of the fields that a wrong name may stand for, the likeliest first.

    Args:
        name: the wrong name.
        own: the fields of the object at `prefix`.
        prefix: the path of that object; empty for the experiment.
        all_fields: every field of the experiment, by its path.
    """
    meant = SYNONYMS.get(name.lower().replace('-', '_'), name)
    inside = [path for path in all_fields if path.startswith(f'{prefix}.' if prefix else '')]
    exact = [path for path in inside if _ends_with(path, meant)]
    if exact:
        return sorted(exact, key=lambda path: path.count('.'))[:3]
    near = difflib.get_close_matches(name, own, n=3)
    if near:
        return [f'{prefix}.{one}' if prefix else one for one in near]
    by_last_step = {path.rpartition('.')[2]: path for path in reversed(inside)}
    near = difflib.get_close_matches(name, list(by_last_step), n=2, cutoff=0.8)
    elsewhere = [path for path in all_fields if _ends_with(path, meant)]
    return [by_last_step[one] for one in near] or elsewhere[:3]


def _ends_with(path: str, name: str) -> bool:
    return path == name or path.endswith(f'.{name}')


def fields(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The paths and values of all fields of an object and of the objects in it, without tuples."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        inner_path = f'{path}.{field.name}' if path else field.name
        yield inner_path, inner
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            yield from fields(inner_path, inner)


def _unset_fields(path: str, value: Any) -> Iterator[tuple[str, type]]:
    """The paths of the required fields without a value, and the classes that have them."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _unset_fields(f'{path}[{index}]', item)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name, None)
        inner_path = f'{path}.{field.name}' if path else field.name
        if inner is objects.UNSET:
            yield inner_path, type(value)
        else:
            yield from _unset_fields(inner_path, inner)
