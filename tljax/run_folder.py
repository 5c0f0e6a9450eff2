"""The folder of a run, as it is claimed and begun; `runs` reads it back."""

import json
import pathlib
from typing import Any

from tljax import config, preprocessing, report
from tljax.config import ConfigError, Experiment
from tljax.job import Job
from tljax.runs import CONFIG_FILE, NETWORK_FILE, PASSED_OVER_FILE, RESULT_FILE, SPLITS_FILE


def claim(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any] | None:
    """Holds the config against the one that is there, if any; the result, if finished.

    Raises:
        ConfigError: the folder holds a run of another experiment.
    """
    path = workdir / CONFIG_FILE
    text = config.to_json(experiment)
    if not path.exists():
        return None
    changed = config.difference(text, path.read_text())
    if changed:
        raise ConfigError(
            f'{workdir} holds a run of another experiment; name another --workdir:\n  '
            + '\n  '.join(changed)
        )
    result = workdir / RESULT_FILE
    return json.loads(result.read_text()) if result.exists() else None


def begin(job: Job, workdir: pathlib.Path) -> None:
    """Writes what was run, on which examples, and what its network expects.

    Raises:
        ConfigError: the run began on other data.
    """
    if not (workdir / CONFIG_FILE).exists():
        report.write_json(workdir / CONFIG_FILE, json.loads(config.to_json(job.experiment)))
    _write_splits(job, workdir)
    network = {
        'preprocessing': preprocessing.to_fields(job.model.preprocessing),
        'multi_label': job.splits['train'].multi_label,
        'weights': job.weights,
    }
    report.write_json(workdir / NETWORK_FILE, network)
    write_findings(job, workdir)


def _write_splits(job: Job, workdir: pathlib.Path) -> None:
    """Which examples are in which split, by their ids, and the classes in order.

    Raises:
        ConfigError: the run began on other data.
    """
    content: dict[str, Any] = {'class_names': list(job.splits['train'].class_names)}
    ends = job.model.preprocessing.gray_range
    if ends is not None:
        content['gray_range'] = list(ends)
    for name, split in job.splits.items():
        content[name] = {'ids': split.ids.tolist(), 'labels': split.label_lists()}
        if split.encoded is not None:
            content[name]['files'] = [str(image) for image in split.encoded]
    path = workdir / SPLITS_FILE
    if not path.exists():
        report.write_json(path, content)
        return
    before = json.loads(path.read_text())
    changed = [name for name in content if before.get(name) != content[name]]
    if changed:
        raise ConfigError(
            f'{workdir}: the data is not what this run began with (changed: {", ".join(changed)}); '
            'name another --workdir'
        )


def write_findings(job: Job, workdir: pathlib.Path) -> None:
    """What the source passed over, and the bad files that were left out, with the reasons."""
    findings = job.splits['train'].findings
    if findings is not None:
        content = {'notes': findings.notes, 'bad_files': dict(findings.bad)}
        report.write_json(workdir / PASSED_OVER_FILE, content)
