"""`--config.FIELD=VALUE`: fields of an experiment that a command line sets, however deep."""

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from tljax.commands import objects
from tljax.commands.command_line import Override, UsageError

STEP = re.compile(r'\[(-?\d+)\]|\.?([A-Za-z_]\w*)')
# What other libraries call a field, and what it is called here.
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
Parts = list[str | int]


def apply(experiment: Any, overrides: Sequence[Override]) -> None:
    """Sets fields of an experiment, in order.

    Raises:
        UsageError: with a line for each that cannot be set, or that is still needed.
    """
    problems = []
    for one in overrides:
        try:
            _set(experiment, one)
        except UsageError as error:
            problems.append(str(error))
    problems += [
        f'--config.{path}=VALUE is missing: {kind.__name__} has {objects.fields_text(kind)}'
        for path, kind in _unset('', experiment)
    ]
    if problems:
        raise UsageError('\n'.join(problems))


def _set(experiment: Any, one: Override) -> None:
    parts = split(one)
    _changed(experiment, type(experiment), parts, 'config', one, experiment)


def split(one: Override) -> Parts:
    """The steps of a path of fields: `augmentations[0].pad_px` in three.

    Raises:
        UsageError: it is no such path.
    """
    parts, at = [], 0
    while at < len(one.field):
        step = STEP.match(one.field, at)
        if not step or (at > 0) != step[0].startswith(('.', '[')):
            parts = []
            break
        parts.append(int(step[1]) if step[1] else step[2])
        at = step.end()
    if not parts:
        raise UsageError(f'{one.flag}: not a path of fields, such as optimizer.learning_rate')
    return parts


def _changed(value: Any, kind: Any, parts: Parts, done: str, one: Override, root: Any) -> Any:
    """A value with a part of it set; `done` is the path so far."""
    if not parts:
        return _read(one, kind)
    part, rest = parts[0], parts[1:]
    if isinstance(part, int) and isinstance(value, tuple):
        if not -len(value) <= part < len(value):
            raise UsageError(f'{one.flag}: {done} has {len(value)} entries')
        items = list(value)
        inner = next((k for k in objects.members(kind) if typing.get_args(k)), tuple[Any, ...])
        element = objects.element_kind(typing.get_args(inner), part)
        items[part] = _changed(value[part], element, rest, f'{done}[{part}]', one, root)
        return tuple(items)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise UsageError(
            f'{one.flag}: {done} is {value!r:.60} and has no fields{_choice(done, kind)}'
        )
    hints = objects.field_types(type(value))
    if not isinstance(part, str) or part not in hints:
        raise UsageError(_unknown(value, str(part), done, one, root))
    new = _changed(getattr(value, part), hints[part], rest, f'{done}.{part}', one, root)
    try:
        setattr(value, part, new)
    except dataclasses.FrozenInstanceError:
        return dataclasses.replace(value, **{part: new})
    return value


def _read(one: Override, kind: Any) -> Any:
    if one.text is not None:
        return objects.read(one.text, kind, one.flag)
    if bool in objects.members(kind):
        return True
    raise UsageError(f'{one.flag}: its value is missing; wanted {objects.wanted(kind)}')


def _choice(done: str, kind: Any) -> str:
    """How an object is put where there is none."""
    names = [
        name
        for name, found in objects.public_classes().items()
        if objects.fits(found, [k for k in objects.members(kind) if k is not Any])
    ]
    return f'; --{done}={sorted(names)[0]} sets one first' if names else ''


def _unknown(value: Any, part: str, done: str, one: Override, root: Any) -> str:
    """What is wrong with the name of a field, and which was meant."""
    own = [field.name for field in dataclasses.fields(value)]
    prefix = done.removeprefix('config').removeprefix('.')
    meant = _meant(part, own, prefix, dict(fields('', root)))
    hint = f'did you mean {" or ".join(f"--config.{path}" for path in meant)}? ' if meant else ''
    return (
        f'{one.flag}: {type(value).__name__} has no field {part!r}; {hint}It has {", ".join(own)}'
    )


def _meant(part: str, own: list[str], prefix: str, everything: dict[str, Any]) -> list[str]:
    """The paths of the fields that a name may stand for, the likeliest first."""
    name = SYNONYMS.get(part.lower().replace('-', '_'), part)
    inside = [path for path in everything if path.startswith(f'{prefix}.' if prefix else '')]
    exact = [path for path in inside if path == name or path.endswith(f'.{name}')]
    if exact:
        return sorted(exact, key=lambda path: path.count('.'))[:3]
    near = difflib.get_close_matches(part, own, n=3)
    if near:
        return [f'{prefix}.{one}' if prefix else one for one in near]
    last = {path.rpartition('.')[2]: path for path in reversed(inside)}
    near = difflib.get_close_matches(part, list(last), n=2, cutoff=0.8)
    return [last[one] for one in near] or [
        path for path in everything if path == name or path.endswith(f'.{name}')
    ][:3]


def fields(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The paths of all fields of an object and of those inside it, but for tuples."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        own = f'{path}.{field.name}' if path else field.name
        yield own, inner
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            yield from fields(own, inner)


def _unset(path: str, value: Any) -> Iterator[tuple[str, type]]:
    """The fields that an object on the command line left without a value, and whose they are."""
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from _unset(f'{path}[{place}]', item)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name, None)
        own = f'{path}.{field.name}' if path else field.name
        if inner is objects.UNSET:
            yield own, type(value)
        else:
            yield from _unset(own, inner)
