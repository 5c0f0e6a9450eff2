"""The safetensors files that tljax writes: leaves under its paths, and metadata on the network."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from tljax import tree, version
from tljax.config import json_form, validation
from tljax.metrics.tasks import choice
from tljax.metrics.tasks.classes import Classes
from tljax.models import preprocessing
from tljax.types import Params, Stats, Task
from tljax.weights.pretrained import Architecture, Pretrained

DEEPEST = 1000  # blocks of a network in a file


def architecture_from(fields: Mapping[str, Any]) -> Architecture | None:
    """The network that a file states; None if it names a class outside tljax.

    Files may come from anybody, so no other module is imported for them.
    """
    if json_form.foreign_modules(fields):
        return None
    decoded = {name: json_form.decode(value, ours_only=True) for name, value in fields.items()}
    return Architecture(**decoded)


def check(architecture: Architecture, entries: Mapping[str, np.ndarray]) -> None:
    """Checks the network that a file states, before anything is built for it.

    Raises:
        ValueError: a field has another type, or is out of range or too large for the file.
    """
    values = sum(array.size for array in entries.values())
    problems = validation.problems('architecture', architecture)
    for name, number in _whole_numbers('architecture', architecture):
        most = min(values, DEEPEST if name.rpartition('.')[2].startswith('depth') else values)
        if number > most:
            problems.append(f'{name} is {number}, wanted at most {most} for a file of this size')
    if problems:
        raise ValueError('; '.join(problems))


def _whole_numbers(path: str, value: Any) -> Iterator[tuple[str, int]]:
    """The whole numbers of an object, and of the objects in it."""
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, tuple):
        for item in value:
            yield from _whole_numbers(path, item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _whole_numbers(f'{path}.{field.name}', getattr(value, field.name))


def task_of(texts: Mapping[str, str]) -> Task:
    """The task that the metadata of a file state; older files state only whether labels are sets.

    Raises:
        TypeError: the task is a class outside tljax.
        ValueError: a field has another type, or is out of range.
    """
    if 'tljax' in texts and 'task' in texts:
        task = json_form.decode(json.loads(texts['task']), ours_only=True)
        if problems := validation.problems('task', task):
            raise ValueError('; '.join(problems))
        return task
    return choice.recorded(multi_label=texts.get('multi_label') == 'true')


def metadata(pretrained: Pretrained) -> dict[str, str]:
    """The metadata of a safetensors file, which `loading.load` reads back."""
    texts = {
        'format': 'pt',  # required by the readers of timm and transformers
        'preprocessing': json.dumps(preprocessing.to_fields(pretrained.preprocessing)),
        'source': pretrained.origin.source,
        'tljax': version.__version__,
    }
    if pretrained.origin.class_names:
        texts['class_names'] = json.dumps(pretrained.origin.class_names)
    if pretrained.origin.task != Classes():
        texts['task'] = json.dumps(json_form.encode(pretrained.origin.task))
    if pretrained.origin.temperature is not None:
        texts['temperature'] = repr(pretrained.origin.temperature)
    if pretrained.origin.licence:
        texts['licence'] = pretrained.origin.licence
    return texts


def architecture_text(architecture: Architecture) -> str:
    """The metadata entry `architecture`, for files under tljax's paths."""
    fields = dataclasses.asdict(architecture) | {
        name: json_form.encode(getattr(architecture, name)) for name in ('backbone', 'head')
    }
    return json.dumps(fields)


def save(path: pathlib.Path, params: Params, stats: Stats, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file under tljax's paths, with metadata."""
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    safetensors.numpy.save_file(arrays, path, metadata=dict(metadata))
