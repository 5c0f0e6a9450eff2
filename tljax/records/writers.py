"""Writes metrics.jsonl, TensorBoard events and JSON files of a run, and lists its environment."""

import contextlib
import functools
import json
import pathlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

from tljax.records.output import Events

PACKAGES = ('tljax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


class Records:
    """Writes the metrics of a run to metrics.jsonl, as TensorBoard events, and to trackers."""

    def __init__(self, workdir: pathlib.Path, resumed_at: int, phase: int, trackings: Any = None):
        """Opens the files and deletes records of an earlier attempt after the resumed position.

        Of several processes the first writes.

        Args:
            workdir: the run's folder.
            resumed_at: the step at which the run is resumed.
            phase: the index of the phase that is resumed. A later phase without steps may have
                written records at the same step.
            trackings: the `Trackings` of the run, if it has any.
        """
        self._writes, self._trackings = jax.process_index() == 0, trackings
        if not self._writes:
            return
        path = workdir / 'metrics.jsonl'
        records = read_metrics(path)
        kept = [r for r in records if r['step'] <= resumed_at and r.get('phase', 0) <= phase]
        part = path.with_suffix('.part')
        part.write_text(''.join(json.dumps(record) + '\n' for record in kept))
        part.replace(path)
        self._file = path.open('a')
        self._events = Events(workdir, purge_step=resumed_at + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes a record: `step`, `epoch`, `phase`, `split`, and the metrics by name."""
        if not self._writes:
            return
        self._file.write(json.dumps(record) + '\n')
        self._file.flush()
        for name, value in record.items():
            if isinstance(value, float) and name != 'epoch':
                self._events.add(f'{record["split"]}/{name}', value, record['step'])
        if self._trackings is not None:
            self._trackings.write(record)

    def close(self) -> None:
        """Closes the files."""
        if not self._writes:
            return
        self._file.close()
        self._events.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the records of a metrics.jsonl, without damaged lines, such as one cut by a kill."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(errors='replace').splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            if isinstance(record, dict) and {'step', 'split'} <= record.keys():
                records.append(record)
    return records


def environment() -> dict[str, Any]:
    """Versions of packages, devices and the git revision, for result.json."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    device = jax.devices()[0]
    return {
        'versions': versions,
        'device': {'kind': device.device_kind, 'platform': device.platform},
        'device_count': jax.device_count(),
        'process_count': jax.process_count(),
        'git_revision': _git_revision(),
    }


@functools.cache
def _git_revision() -> str | None:
    """The git revision of this package; None outside of a git checkout."""
    folder = pathlib.Path(__file__).parent
    command = ['git', '-C', str(folder), 'describe', '--always', '--dirty', '--abbrev=40']
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return None


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file completely or not at all; of several processes the first does."""
    if jax.process_index() > 0:
        return
    part = path.with_suffix('.part')
    part.write_text(json.dumps(content, indent=2) + '\n')
    part.replace(path)
