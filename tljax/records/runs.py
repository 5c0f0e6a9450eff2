"""Reads the network and the records of a run from its folder."""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from tljax.config import config_json, json_form
from tljax.config.experiment import ConfigError, Experiment
from tljax.metrics.tasks import choice
from tljax.models import preprocessing, stages
from tljax.models.views import Centre
from tljax.records import checkpoint_reading
from tljax.types import (
    Adapter,
    Backbone,
    Head,
    InputError,
    Loss,
    Params,
    Preprocessing,
    Stats,
    Task,
    Views,
)

CONFIG_FILE = 'config.json'
CLASSES_FILE = 'classes.json'  # the files that define the user's own classes, with SHA-256
RESULT_FILE = 'result.json'
SPLITS_FILE = 'splits.json'
PASSED_OVER_FILE = 'passed_over.json'  # skipped images, which could not be read
NETWORK_FILE = 'network.json'  # preprocessing and the origin of the weights
CHECKPOINTS = 'checkpoints'


class RunError(InputError):
    """A folder holds no run, or a damaged one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run's network and its records.

    Attributes:
        backbone: the network's family.
        head: None for the usual head of the family, 'pretrained' for the head of the weights.
        cut_after: the last stage of the backbone that was kept; None for all.
        adapters: the adapters that were trained.
        config: the JSON form of the experiment. Its other classes are not looked up, because the
            user's own may be missing.
        step: the step of the network's checkpoint: the best, or else the latest.
        params: host arrays, in which adapters are merged.
        unmerged: host arrays as they were trained, with the parameters of adapters.
        stats: host arrays.
        preprocessing: the network's input.
        class_names: in the order of the logits.
        task: what the logits mean.
        weights: the record of the starting weights; None for random ones.
        result: the content of result.json; None before the run is finished.
        notes: a sentence on each file of the user's classes that has changed since.
    """

    backbone: Backbone
    head: Head | str | None
    cut_after: str | None
    adapters: tuple[Adapter, ...]
    config: dict[str, Any]
    step: int
    params: Params
    unmerged: Params
    stats: Stats
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    task: Task
    weights: dict[str, Any] | None
    result: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def read(workdir: pathlib.Path) -> Run:
    """Reads the run of a folder.

    Raises:
        InputError: there is no run, it has no checkpoint yet, or its files are damaged.
    """
    _check_files(workdir, CONFIG_FILE, NETWORK_FILE, SPLITS_FILE)
    fields = config_json.fields_of((workdir / CONFIG_FILE).read_text())
    adapters = config_json.field_from(fields, 'adapters')
    result = _read_json(workdir / RESULT_FILE)
    step, params, stats = checkpoint_reading.read_variables(
        workdir / CHECKPOINTS, result['step'] if result else None
    )
    network = _read_json(workdir / NETWORK_FILE)
    return Run(
        backbone=config_json.field_from(fields, 'backbone'),
        head=config_json.field_from(fields, 'head'),
        cut_after=config_json.field_from(fields, 'cut_after'),
        adapters=adapters,
        config=fields,
        step=step,
        params=jax.tree.map(np.asarray, stages.plain(adapters, params)),
        unmerged=params,
        stats=stats,
        preprocessing=preprocessing.from_fields(network['preprocessing']),
        class_names=tuple(_read_json(workdir / SPLITS_FILE)['class_names']),
        task=_task(network),
        weights=network['weights'],
        result=result,
        notes=_notes(workdir, fields),
    )


def _task(network: Mapping[str, Any]) -> Task:
    """The task in the content of network.json; older files state only whether labels are sets."""
    if 'task' not in network:
        return choice.recorded(multi_label=network.get('multi_label', False))
    try:
        return json_form.decode(network['task'])
    except TypeError as error:
        raise RunError(f'{NETWORK_FILE}: the task cannot be read: {error}') from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The settings with which a run evaluates its network.

    Attributes:
        loss: None if its class is unknown.
        batch_size: over all devices.
        test_views: views of a test image; the centre if their class is unknown.
        notes: a sentence on each unknown class.
        augmentations: those of training, in JSON form.
    """

    loss: Loss | None
    batch_size: int
    test_views: Views
    notes: tuple[str, ...]
    augmentations: Any


def evaluation_settings(workdir: pathlib.Path) -> tuple[EvaluationSettings, dict[str, Any]]:
    """Reads the evaluation settings of a run, and the content of its splits.json.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    _check_files(workdir, CONFIG_FILE, SPLITS_FILE)
    fields = config_json.fields_of((workdir / CONFIG_FILE).read_text())
    notes, values = [], {}
    for name, default in (('loss', None), ('test_views', Centre())):
        try:
            values[name] = config_json.field_from(fields, name)
        except ConfigError as error:
            values[name] = default
            notes.append(f"The run's own {name} cannot be used; the default replaces it: {error}")
    settings = EvaluationSettings(
        **values,
        batch_size=config_json.field_from(fields, 'batch_size'),
        notes=tuple(notes),
        augmentations=fields.get('augmentations', []),
    )
    return settings, _read_json(workdir / SPLITS_FILE)


def records(workdir: pathlib.Path) -> tuple[Experiment, dict[str, Any]]:
    """Reads the experiment of a run, and the content of its splits.json.

    splits.json has `class_names`, and for each split `ids` and `labels`.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    _check_files(workdir, CONFIG_FILE, SPLITS_FILE)
    experiment = config_json.from_json((workdir / CONFIG_FILE).read_text())
    return experiment, _read_json(workdir / SPLITS_FILE)


def changed_files(workdir: pathlib.Path, modules: Collection[str] | None = None) -> list[str]:
    """The files of the user's own classes that have changed since the run started.

    Args:
        workdir: the run's folder.
        modules: compares only the files of these modules; None for all that the run recorded.

    Raises:
        RunError: the record is damaged.
    """
    before = _read_json(workdir / CLASSES_FILE) or {}
    try:
        return [
            file['path']
            for module, file in before.items()
            if (modules is None or module in modules)
            and (json_form.module_file(module) or {}).get('sha256') != file['sha256']
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(f'{workdir / CLASSES_FILE} is damaged: {error!r}') from error


def _notes(workdir: pathlib.Path, fields: dict[str, Any]) -> tuple[str, ...]:
    """A sentence on each file of the network's classes that has changed."""
    parts = [fields.get(name) for name in ('backbone', 'head', 'adapters')]
    modules = json_form.foreign_modules(parts)
    return tuple(
        f'Warning: the run was trained with another version of {file}, which defines its network.'
        for file in changed_files(workdir, modules)
    )


def _check_files(workdir: pathlib.Path, *names: str) -> None:
    """Raises a `RunError` if a folder lacks one of the files."""
    for name in names:
        if not (workdir / name).is_file():
            raise RunError(f'{workdir} holds no run: there is no {name} in it')


def _read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file; None if it does not exist.

    Raises:
        RunError: it is not valid JSON.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error
