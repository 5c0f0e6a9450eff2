"""What a run leaves in its folder, and how it is read back."""

import dataclasses
import json
import pathlib
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from tljax.config import config_json, json_form
from tljax.config.experiment import ConfigError, Experiment
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
    Views,
)

CONFIG_FILE = 'config.json'
CLASSES_FILE = 'classes.json'  # files that define the user's own classes, with their SHA-256
RESULT_FILE = 'result.json'
SPLITS_FILE = 'splits.json'
PASSED_OVER_FILE = 'passed_over.json'  # images that could not be read, where they are skipped
NETWORK_FILE = 'network.json'  # preprocessing, and where the weights came from
CHECKPOINTS = 'checkpoints'


class RunError(InputError):
    """A folder that holds no run that can be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run's network and its records.

    Attributes:
        backbone: the network's family.
        head: what was put on it; None for the family's own, 'pretrained' for the weights' own.
        cut_after: the last stage of the backbone that was kept; None for all.
        adapters: what training put beside its leaves.
        config: the JSON form of the experiment. Its other classes may be the user's own, so they
            are not looked up.
        step: of the checkpoint that the network is from: the best, or the latest.
        params: host arrays, those of adapters merged.
        unmerged: the same as they were trained, with what adapters added.
        stats: host arrays.
        preprocessing: what the network expects of an image.
        class_names: in the order of the head.
        multi_label: whether an image has a set of them.
        weights: what was recorded of the weights it started from; None for random ones.
        result: the content of result.json; None while it is not finished.
        notes: the user's own files that have changed since, a sentence each.
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
    multi_label: bool
    weights: dict[str, Any] | None
    result: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def read(workdir: pathlib.Path) -> Run:
    """The run of a folder.

    Raises:
        InputError: there is none, it saved no checkpoint yet, or that is damaged.
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
        multi_label=network.get('multi_label', False),
        weights=network['weights'],
        result=result,
        notes=_notes(workdir, fields),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a run evaluates, as far as its config.json can be used.

    Attributes:
        loss: None where it is a class that is not known here.
        batch_size: over all devices.
        test_views: of a test image; the centre where they are of a class that is not known here.
        notes: what is not known, a sentence each.
        augmentations: of training, their JSON form.
    """

    loss: Loss | None
    batch_size: int
    test_views: Views
    notes: tuple[str, ...]
    augmentations: Any


def evaluation_settings(workdir: pathlib.Path) -> tuple[EvaluationSettings, dict[str, Any]]:
    """How a run evaluates, and the content of its splits.json.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    _check_files(workdir, CONFIG_FILE, SPLITS_FILE)
    fields = config_json.fields_of((workdir / CONFIG_FILE).read_text())
    notes, found = [], {}
    for name, usual in (('loss', None), ('test_views', Centre())):
        try:
            found[name] = config_json.field_from(fields, name)
        except ConfigError as error:
            found[name] = usual
            notes.append(f"The run's own {name} cannot be used, so the usual one is: {error}")
    settings = EvaluationSettings(
        **found,
        batch_size=config_json.field_from(fields, 'batch_size'),
        notes=tuple(notes),
        augmentations=fields.get('augmentations', []),
    )
    return settings, _read_json(workdir / SPLITS_FILE)


def records(workdir: pathlib.Path) -> tuple[Experiment, dict[str, Any]]:
    """What was run, and the content of splits.json: `class_names`, and per split `ids`, `labels`.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    _check_files(workdir, CONFIG_FILE, SPLITS_FILE)
    experiment = config_json.from_json((workdir / CONFIG_FILE).read_text())
    return experiment, _read_json(workdir / SPLITS_FILE)


def changed_files(workdir: pathlib.Path, modules: Collection[str] | None = None) -> list[str]:
    """The files of the user's own classes that are not what they were when the run began.

    Args:
        workdir: the run's folder.
        modules: those whose files are compared; None for all that the run recorded.

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
    """A sentence on each file whose classes make the network and that has changed."""
    own = json_form.foreign_modules([fields.get(name) for name in ('backbone', 'head', 'adapters')])
    return tuple(
        f'Warning: the run was trained with another version of {file}, which defines its network.'
        for file in changed_files(workdir, own)
    )


def _check_files(workdir: pathlib.Path, *names: str) -> None:
    """Raises a `RunError` where a folder lacks one of the files of a run."""
    for name in names:
        if not (workdir / name).is_file():
            raise RunError(f'{workdir} holds no run: there is no {name} in it')


def _read_json(path: pathlib.Path) -> Any:
    """A record; None where there is none.

    Raises:
        RunError: it is no JSON.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error
