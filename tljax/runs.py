"""What a run leaves in its folder, and how it is read back."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from tljax import checkpoint, config, preprocessing
from tljax import model as models
from tljax.config import Experiment
from tljax.types import InputError, Params, Preprocessing, Stats

CONFIG_FILE = 'config.json'
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
        experiment: what was run.
        step: of the checkpoint that the network is from: the best, or the latest.
        params: host arrays, those of adapters merged.
        unmerged: the same as they were trained, with what adapters added.
        stats: host arrays.
        preprocessing: what the network expects of an image.
        class_names: in the order of the head.
        multi_label: whether an image has a set of them.
        weights: what was recorded of the weights it started from; None for random ones.
        result: the content of result.json; None while it is not finished.
    """

    experiment: Experiment
    step: int
    params: Params
    unmerged: Params
    stats: Stats
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    multi_label: bool
    weights: dict[str, Any] | None
    result: dict[str, Any] | None


def read(workdir: pathlib.Path) -> Run:
    """The run of a folder.

    Raises:
        InputError: there is none, it saved no checkpoint yet, or that is damaged.
    """
    for name in (CONFIG_FILE, NETWORK_FILE, SPLITS_FILE):
        if not (workdir / name).is_file():
            raise RunError(f'{workdir} holds no run: there is no {name} in it')
    experiment = config.from_json((workdir / CONFIG_FILE).read_text())
    result = _read_json(workdir / RESULT_FILE)
    step, params, stats = checkpoint.read_variables(
        workdir / CHECKPOINTS, result['step'] if result else None
    )
    network = _read_json(workdir / NETWORK_FILE)
    return Run(
        experiment=experiment,
        step=step,
        params=jax.tree.map(np.asarray, models.plain(experiment.adapters, params)),
        unmerged=params,
        stats=stats,
        preprocessing=preprocessing.from_fields(network['preprocessing']),
        class_names=tuple(_read_json(workdir / SPLITS_FILE)['class_names']),
        multi_label=network.get('multi_label', False),
        weights=network['weights'],
        result=result,
    )


def records(workdir: pathlib.Path) -> tuple[Experiment, dict[str, Any]]:
    """What was run, and the content of splits.json: `class_names`, and per split `ids`, `labels`.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    for name in (CONFIG_FILE, SPLITS_FILE):
        if not (workdir / name).is_file():
            raise RunError(f'{workdir} holds no run: there is no {name} in it')
    experiment = config.from_json((workdir / CONFIG_FILE).read_text())
    return experiment, _read_json(workdir / SPLITS_FILE)


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
