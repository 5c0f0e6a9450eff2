"""Begins the folder of a run, or checks that it belongs to the same run; `runs` reads it."""

import dataclasses
import difflib
import json
import pathlib
import time
from collections.abc import Collection
from typing import Any

import jax

from tljax.config import config_json, json_form
from tljax.config.experiment import ConfigError, Experiment
from tljax.data import fingerprint
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

FINGERPRINT = 'sample_sha256'  # of each split in splits.json
CHANGES_FILE = 'changes.jsonl'  # what was changed with --allow_change, and when


def claim(
    experiment: Experiment, workdir: pathlib.Path, allow_change: Collection[str] = ()
) -> dict[str, Any] | None:
    """Compares the experiment with the folder's config; returns the result of a finished run.

    A finished run whose experiment has changed goes on.

    Args:
        experiment: the experiment.
        workdir: the folder of the run.
        allow_change: the fields that may have changed since the run began.

    Raises:
        ConfigError: the folder is that of another experiment, or there is no such field.
    """
    _check_names(allow_change)
    path = workdir / CONFIG_FILE
    text = config_json.to_json(experiment)
    if not path.exists():
        return None
    changed = config_json.difference(text, path.read_text(errors='replace'))
    refused = [line for line in changed if not _is_allowed(line, allow_change)]
    if refused:
        raise ConfigError(
            f'{workdir} holds a run of another experiment; name another --workdir, or allow the '
            'changes with --allow_change=FIELD,...:\n  ' + '\n  '.join(refused)
        )
    for file in runs.changed_files(workdir):
        line = (
            f'Warning: {file} defines classes of this run and has changed since the run began; '
            'the remaining steps may differ from those before.'
        )
        console.console.print(line, soft_wrap=True, markup=False)
    return None if changed else _finished(workdir / RESULT_FILE)


def _finished(path: pathlib.Path) -> dict[str, Any] | None:
    """The content of result.json; None if there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text())
    except ValueError:
        result = None
    if isinstance(result, dict) and 'step' in result:
        return result
    console.console.print(f'{path} is damaged; the run is evaluated again.', soft_wrap=True)
    return None


def _check_names(allow_change: Collection[str]) -> None:
    known = [field.name for field in dataclasses.fields(Experiment)]
    for name in allow_change:
        if name.split('.')[0] not in known:
            near = difflib.get_close_matches(name, known)
            hint = f'did you mean {" or ".join(near)}?' if near else 'wanted fields of the config'
            raise ConfigError(f'--allow_change={name}: there is no such field; {hint}')


def _is_allowed(difference: str, allow_change: Collection[str]) -> bool:
    """Whether a line of `config_json.difference` is about an allowed field, or a part of it."""
    path = difference.removeprefix('config.').partition(':')[0]
    return any(path == name or path.startswith((f'{name}.', f'{name}[')) for name in allow_change)


def begin(job: Job, workdir: pathlib.Path, allow_change: Collection[str] = ()) -> None:
    """Writes the config, the examples of each split, and the preprocessing of the network.

    Args:
        job: the experiment.
        workdir: the folder of the run.
        allow_change: the fields that may have changed; with `data`, the images may have, too.

    Raises:
        ConfigError: the run began with other data, or one of its classes is defined in no file.
    """
    path, text = workdir / CONFIG_FILE, config_json.to_json(job.experiment)
    changed = config_json.difference(text, path.read_text()) if path.exists() else []
    if changed:
        _record_changes(workdir, changed)
    if changed or not path.exists():
        _write_files_of_classes(job.experiment, workdir)
        writers.write_json(path, json.loads(text))
    if 'data' in allow_change:
        (workdir / SPLITS_FILE).unlink(missing_ok=True)
    write_splits(job, workdir)
    network = {
        'preprocessing': preprocessing.to_fields(job.model.preprocessing),
        'task': json_form.encode(job.model.task),
        'weights': job.weights,
    }
    writers.write_json(workdir / NETWORK_FILE, network)
    write_findings(job, workdir)


def _record_changes(workdir: pathlib.Path, changed: list[str]) -> None:
    """Prints and records the changes of an experiment, and sets an earlier result aside."""
    console.console.print(
        'Changed since the run began:\n  ' + '\n  '.join(changed), markup=False, soft_wrap=True
    )
    if jax.process_index():
        return
    with (workdir / CHANGES_FILE).open('a') as file:
        file.write(json.dumps({'time': time.time(), 'changes': changed}) + '\n')
    if (workdir / RESULT_FILE).exists():
        (workdir / RESULT_FILE).replace(workdir / f'former_{RESULT_FILE}')


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


def write_splits(job: Job, workdir: pathlib.Path) -> None:
    """Writes the classes and the ids and labels of each split, or compares them with the file.

    Raises:
        ConfigError: the run began with other data.
    """
    content: dict[str, Any] = {'class_names': list(job.splits['train'].class_names)}
    gray_range = job.model.preprocessing.gray_range
    if gray_range is not None:
        content['gray_range'] = list(gray_range)
    for name, split in job.splits.items():
        content[name] = {'ids': split.ids.tolist(), 'labels': job.model.task.listed(split.labels)}
        if split.encoded is not None:
            content[name]['files'] = [str(image) for image in split.encoded]
        content[name][FINGERPRINT] = fingerprint.of(split)
    path = workdir / SPLITS_FILE
    if not path.exists():
        writers.write_json(path, content)
        return
    try:
        before = json.loads(path.read_text())
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise ConfigError(
            f'{path} is damaged. It names the images of the run; delete it if they are the same'
        )
    changed = [name for name in content if _differs(before.get(name), content[name])]
    if changed:
        raise ConfigError(
            f'{workdir}: the data is not what this run began with (changed: {", ".join(changed)}); '
            'name another --workdir'
        )


def _differs(before: Any, now: Any) -> bool:
    """Whether a split differs from what the run began with; older runs have no fingerprint."""
    if isinstance(before, dict) and isinstance(now, dict) and FINGERPRINT not in before:
        now = {name: value for name, value in now.items() if name != FINGERPRINT}
    return before != now


def write_findings(job: Job, workdir: pathlib.Path) -> None:
    """Writes the notes of the data source and its bad files, with the reasons."""
    findings = job.splits['train'].findings
    if findings is not None:
        content = {'notes': findings.notes, 'bad_files': dict(findings.bad)}
        writers.write_json(workdir / PASSED_OVER_FILE, content)
