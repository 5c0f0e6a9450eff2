"""Begins the folder of a run, or checks that it belongs to the same run; `runs` reads it."""

import json
import pathlib
from typing import Any

from tljax.config import config_json, json_form
from tljax.config.experiment import ConfigError, Experiment
from tljax.models import preprocessing
from tljax.records import console, runs, writers
from tljax.records.runs import (
    CLASSES_FILE,
    CONFIG_FILE,
    NETWORK_FILE,
    PASSED_OVER_FILE,
    RESULT_FILE,
    SPLITS_FILE,
)
from tljax.training.jobs import Job


def claim(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any] | None:
    """Compares the experiment with the folder's config; returns the result of a finished run.

    Raises:
        ConfigError: the folder is that of another experiment.
    """
    path = workdir / CONFIG_FILE
    text = config_json.to_json(experiment)
    if not path.exists():
        return None
    changed = config_json.difference(text, path.read_text())
    if changed:
        raise ConfigError(
            f'{workdir} holds a run of another experiment; name another --workdir:\n  '
            + '\n  '.join(changed)
        )
    for file in runs.changed_files(workdir):
        line = (
            f'Warning: {file} defines classes of this run and has changed since the run began; '
            'the remaining steps may differ from those before.'
        )
        console.console.print(line, soft_wrap=True, markup=False)
    result = workdir / RESULT_FILE
    return json.loads(result.read_text()) if result.exists() else None


def begin(job: Job, workdir: pathlib.Path) -> None:
    """Writes the config, the examples of each split, and the preprocessing of the network.

    Raises:
        ConfigError: the run began with other data, or one of its classes is defined in no file.
    """
    if not (workdir / CONFIG_FILE).exists():
        _write_files_of_classes(job.experiment, workdir)
        writers.write_json(workdir / CONFIG_FILE, json.loads(config_json.to_json(job.experiment)))
    _write_splits(job, workdir)
    network = {
        'preprocessing': preprocessing.to_fields(job.model.preprocessing),
        'multi_label': job.splits['train'].multi_label,
        'weights': job.weights,
    }
    writers.write_json(workdir / NETWORK_FILE, network)
    write_findings(job, workdir)


def _write_files_of_classes(experiment: Experiment, workdir: pathlib.Path) -> None:
    """Records path and SHA-256 of the files that define the user's own classes.

    Raises:
        ConfigError: a class is defined in no file, so the run could not be read again.
    """
    modules = json_form.foreign_modules(json_form.encode(experiment))
    files = {module: json_form.module_file(module) for module in modules}
    if missing := [module for module, file in files.items() if file is None]:
        raise ConfigError(
            f'this experiment has classes of {", ".join(missing)}, which is not a file: the run '
            'could not be read again; define them in a file and import it'
        )
    if files:
        writers.write_json(workdir / CLASSES_FILE, files)


def _write_splits(job: Job, workdir: pathlib.Path) -> None:
    """Writes the classes and the ids and labels of each split, or compares them with the file.

    Raises:
        ConfigError: the run began with other data.
    """
    content: dict[str, Any] = {'class_names': list(job.splits['train'].class_names)}
    gray_range = job.model.preprocessing.gray_range
    if gray_range is not None:
        content['gray_range'] = list(gray_range)
    for name, split in job.splits.items():
        content[name] = {'ids': split.ids.tolist(), 'labels': split.label_lists()}
        if split.encoded is not None:
            content[name]['files'] = [str(image) for image in split.encoded]
    path = workdir / SPLITS_FILE
    if not path.exists():
        writers.write_json(path, content)
        return
    before = json.loads(path.read_text())
    changed = [name for name in content if before.get(name) != content[name]]
    if changed:
        raise ConfigError(
            f'{workdir}: the data is not what this run began with (changed: {", ".join(changed)}); '
            'name another --workdir'
        )


def write_findings(job: Job, workdir: pathlib.Path) -> None:
    """Writes the notes of the data source and its bad files, with the reasons."""
    findings = job.splits['train'].findings
    if findings is not None:
        content = {'notes': findings.notes, 'bad_files': dict(findings.bad)}
        writers.write_json(workdir / PASSED_OVER_FILE, content)
