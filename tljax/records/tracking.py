"""The trackers of a run: they are started, get its records, and end with it.

Trackers are an addition to the run's folder, which has everything. An error of one is a warning and
ends it, not the run.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from tljax.config import config_json
from tljax.config.experiment import ConfigError, Experiment
from tljax.records import output
from tljax.records.runs import RESULT_FILE
from tljax.types import TrackedRun, Tracker, Tracking

KEYS_FILE = 'trackers.json'  # the name that each tracker has given the run
ARTIFACTS = ('report.html', RESULT_FILE)  # files of the run's folder, if they are there
SPLITS = ('val', 'test')  # of result.json, whose metrics are the summary


def check(trackers: Sequence[Tracker]) -> None:
    """Checks that what the trackers need is installed.

    Raises:
        ConfigError: it is not; the message names the extra.
    """
    obstacles = [(index, tracker.obstacle()) for index, tracker in enumerate(trackers)]
    if lines := [f'config.trackers[{index}]: {text}' for index, text in obstacles if text]:
        raise ConfigError('\n'.join(lines))


class Trackings:
    """The trackers of a run that are open; of several processes the first has them."""

    def __init__(self, experiment: Experiment, workdir: pathlib.Path):
        """Starts the trackers, or continues the runs that they began before."""
        self._workdir, self._open = workdir, {}
        if jax.process_index():
            return
        keys = _keys(workdir / KEYS_FILE)
        config = json.loads(config_json.to_json(experiment))
        for tracker in experiment.trackers:
            kind = type(tracker).__name__
            run = TrackedRun(workdir=workdir, name=workdir.name, config=config, key=keys.get(kind))
            with self._guarded(kind):
                self._open[kind] = tracker.start(run)
                keys[kind] = self._open[kind].key
        if keys:
            (workdir / KEYS_FILE).write_text(json.dumps(keys, indent=2) + '\n')

    def write(self, record: Mapping[str, Any]) -> None:
        """Sends the numbers of a record of `metrics.jsonl`."""
        split = record['split']
        metrics = {
            f'{split}/{name}': value for name, value in record.items() if isinstance(value, float)
        }
        self._each(lambda one: one.log(metrics, record['step']))

    def conclude(self, result: Mapping[str, Any]) -> None:
        """Sends the result and the files of a finished run."""
        summary = {
            f'final/{split}/{name}': value
            for split in SPLITS
            for name, value in (result.get(split) or {}).items()
            if isinstance(value, float)
        }
        files = [self._workdir / name for name in ARTIFACTS]
        files = [path for path in files if path.exists()]
        self._each(lambda one: one.conclude(summary, files))

    def close(self, *, complete: bool) -> None:
        """Ends the connections; a run that is not complete may go on later."""
        self._each(lambda one: one.close(complete=complete))
        self._open.clear()

    def _each(self, action: Callable[[Tracking], None]) -> None:
        for kind, tracking in list(self._open.items()):
            with self._guarded(kind):
                action(tracking)

    @contextlib.contextmanager
    def _guarded(self, kind: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a service, a network or a disk: the run's folder has all
            self._open.pop(kind, None)
            text = ' '.join(str(error).split())
            output.warn(f'{kind} gets no more records of this run: {text:.300}')


@contextlib.contextmanager
def opened(experiment: Experiment, workdir: pathlib.Path) -> Iterator[Trackings]:
    """The trackers of a run, which end with the block, also after an error."""
    trackings = Trackings(experiment, workdir)
    complete = False
    try:
        yield trackings
        complete = True
    finally:
        trackings.close(complete=complete)


def _keys(path: pathlib.Path) -> dict[str, str]:
    """The content of the file of keys; empty if there is none, or a damaged one."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
