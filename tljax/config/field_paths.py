"""Paths of fields: sets a field of an experiment, or of an object anywhere in it.

It does not import JAX, because command lines are read with it.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

from tljax.config import value_types

STEP = re.compile(r'\[(-?\d{1,9})\]|\.?([A-Za-z_]\w*)')
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


class FieldError(Exception):
    """A field cannot be set."""


class _Unset:
    """Stands for the value of a required field until another flag sets it."""

    def __repr__(self) -> str:
        return 'unset'


UNSET = _Unset()


def split(path: str, label: str) -> Path:
    """Splits the path of a field: `augmentations[0].pad_px` has three steps.

    Args:
        path: the text.
        label: starts the message of an error.

    Raises:
        FieldError: it is no such path.
    """
    steps: Path = []
    position = 0
    while position < len(path):
        step = STEP.match(path, position)
        if not step or (position > 0) != step[0].startswith(('.', '[')):
            steps = []
            break
        steps.append(int(step[1]) if step[1] else step[2])
        position = step.end()
    if not steps:
        raise FieldError(f'{label}: not a path of fields, such as optimizer.learning_rate')
    return steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """Sets one field of an experiment.

    Attributes:
        path: of the field, e.g. `optimizer.learning_rate`, `augmentations[0].pad_px`.
        read: makes the new value; its argument is the type of the field.
        label: starts the messages of errors.
    """

    path: str
    read: Callable[[Any], Any]
    label: str

    def apply(self, experiment: Any) -> Any:
        """Sets the field; objects are changed in place, those of frozen classes are made anew.

        Raises:
            FieldError: there is no such field.
        """
        steps = split(self.path, self.label)
        return self._changed(experiment, experiment, type(experiment), steps, 'config')

    def _changed(self, experiment: Any, value: Any, kind: Any, path: Path, place: str) -> Any:
        """Returns a value of a type with the field at a path in it set.

        Args:
            experiment: for suggestions.
            value: an object or a tuple; with an empty path, the value that is replaced.
            kind: the type of the field that holds it.
            path: the steps from it to the field.
            place: the steps from the experiment to it, for messages.
        """
        if not path:
            return self.read(kind)
        step, rest = path[0], path[1:]
        if isinstance(step, int) and isinstance(value, tuple):
            return self._changed_tuple(experiment, value, kind, path, place)
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            raise FieldError(
                f'{self.label}: {place} is {value!r:.60} and has no fields'
                f'{_object_hint(place, kind)}'
            )
        types = value_types.field_types(type(value))
        if not isinstance(step, str) or step not in types:
            raise FieldError(self._unknown_field(experiment, value, str(step), place))
        inner, inner_place = getattr(value, step), f'{place}.{step}'
        new = self._changed(experiment, inner, types[step], rest, inner_place)
        try:
            setattr(value, step, new)
        except dataclasses.FrozenInstanceError:
            return dataclasses.replace(value, **{step: new})
        return value

    def _changed_tuple(
        self, experiment: Any, value: tuple[Any, ...], kind: Any, path: Path, place: str
    ) -> tuple[Any, ...]:
        index, rest = path[0], path[1:]
        assert isinstance(index, int)
        if not -len(value) <= index < len(value):
            raise FieldError(f'{self.label}: {place} has {len(value)} entries')
        kinds = value_types.alternatives(kind)
        tuple_type = next((one for one in kinds if typing.get_args(one)), tuple[Any, ...])
        element = value_types.element_type(tuple_type, index)
        items = list(value)
        items[index] = self._changed(experiment, value[index], element, rest, f'{place}[{index}]')
        return tuple(items)

    def _unknown_field(self, experiment: Any, value: Any, name: str, place: str) -> str:
        """Says that an object has no field of a name, and suggests the intended one."""
        own = [field.name for field in dataclasses.fields(value)]
        prefix = place.removeprefix('config').removeprefix('.')
        paths = _similar_paths(name, own, prefix, dict(fields('', experiment)))
        flags = ' or '.join(f'--config.{path}' for path in paths)
        hint = f'did you mean {flags}? ' if paths else ''
        return (
            f'{self.label}: {type(value).__name__} has no field {name!r:.200}; '
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
    if meant in own:
        return [f'{prefix}.{meant}' if prefix else meant]
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


def unset_fields(path: str, value: Any) -> Iterator[tuple[str, type]]:
    """The paths of the required fields without a value, and the classes that have them."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from unset_fields(f'{path}[{index}]', item)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name, None)
        inner_path = f'{path}.{field.name}' if path else field.name
        if inner is UNSET:
            yield inner_path, type(value)
        else:
            yield from unset_fields(inner_path, inner)
