"""What a run tells: on the terminal, in metrics.jsonl, in TensorBoard's events, in result.json."""

import contextlib
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, TextIO, cast

import jax
import numpy as np
import rich.box
import rich.console
import rich.progress
import rich.table

from tljax import tree
from tljax.metrics import wilson_interval
from tljax.optim import FROZEN
from tljax.output import Events, StandardOutput
from tljax.types import Params

console = rich.console.Console(highlight=False, file=cast(TextIO, StandardOutput()))
if not console.is_terminal:
    console.width = 110  # a file or a pipe has no width, and tables should not be folded there
PACKAGES = ('tljax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


class Records:
    """The metrics of one run: a JSON object a line, and the same as TensorBoard events."""

    def __init__(self, workdir: pathlib.Path, resumed_at: int):
        """Opens the files, and drops what an earlier attempt wrote after step `resumed_at`.

        Of several processes the first writes.
        """
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = workdir / 'metrics.jsonl'
        kept = [r for r in read_metrics(path) if r['step'] <= resumed_at]
        part = path.with_suffix('.part')
        part.write_text(''.join(json.dumps(record) + '\n' for record in kept))
        part.replace(path)
        self._file = path.open('a')
        self._events = Events(workdir, purge_step=resumed_at + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """One record: `step`, `epoch`, `phase`, `split`, and metrics by their plain names."""
        if not self._writes:
            return
        self._file.write(json.dumps(record) + '\n')
        self._file.flush()
        for name, value in record.items():
            if isinstance(value, float) and name != 'epoch':
                self._events.add(f'{record["split"]}/{name}', value, record['step'])

    def close(self) -> None:
        """Closes the files."""
        if not self._writes:
            return
        self._file.close()
        self._events.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def model_table(
    rows: Sequence[tuple[str, tuple[int, ...], int]], labels: Params
) -> rich.table.Table:
    """Stages, what they put out, their parameters, and what happens to them.

    Args:
        rows: of `model.describe`.
        labels: of the phase, per leaf.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ('stage', 'output'):
        table.add_column(name)
    table.add_column('parameters', justify='right')
    table.add_column('')
    for name, shape, total in rows:
        groups = sorted(set(tree.flatten(labels[name]).values()))
        size = ' × '.join(map(str, shape))
        style = 'dim' if groups == [FROZEN] else None
        table.add_row(name, size, f'{total:,}', '; '.join(groups), style=style)
    return table


def counts(params: Params, labels: Params) -> tuple[int, int]:
    """The numbers of trained and of frozen parameters."""
    names, leaves = tree.flatten(labels), tree.flatten(params)
    trained = sum(int(np.prod(leaves[p].shape)) for p in leaves if names[p] != FROZEN)
    return trained, sum(int(np.prod(leaf.shape)) for leaf in leaves.values()) - trained


@contextlib.contextmanager
def progress(total_steps: int, done: int) -> Iterator[Any]:
    """A progress bar; `update(step, images_per_second, waiting)` moves it.

    Where the output is no terminal nothing is drawn: records are printed as lines instead.
    """
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = (
        rich.progress.TextColumn('{task.description}'),
        rich.progress.BarColumn(),
        rich.progress.TextColumn('step {task.completed}/{task.total}'),
        rich.progress.TextColumn('{task.fields[rate]:,.0f} images/s'),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn('left, {task.fields[waiting]:.0%} waiting for data'),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task('training', total=total_steps, completed=done, rate=0.0, waiting=0.0)

        def update(step: int, rate: float, waiting: float) -> None:
            bar.update(task, completed=step, rate=rate, waiting=waiting)

        yield update


def print_record(record: Mapping[str, Any]) -> None:
    """One record as a line."""
    parts = [f'step {record["step"]:>5}', f'epoch {record["epoch"]:>6.1f}', f'{record["split"]:<5}']
    parts.append(f'loss {record["loss"]:.4f}')
    if 'accuracy' in record:
        parts.append(f'accuracy {record["accuracy"]:.1%}')
    else:
        parts.append(_several_labels_text(record))
    if record['split'] == 'train':
        parts.append(f'{record["images_per_second"]:,.0f} images/s')
        parts.append(f'{record["seconds_left"]:.0f} s left')
        parts.append(f'{record["waiting_share"]:.0%} waiting for data')
    console.print('  ' + '  '.join(parts))


def _several_labels_text(record: Mapping[str, Any]) -> str:
    shown = {'mAP': record.get('mean_average_precision'), 'F1': record['micro_f1']}
    return '  '.join(f'{name} {value:.1%}' for name, value in shown.items() if value is not None)


def with_interval(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A split's metrics with the 95 % interval of its accuracy.

    With several labels an image that is `subset_accuracy`; for the others there is no such formula.
    """
    name = 'accuracy' if 'accuracy' in metrics else 'subset_accuracy'
    count = metrics['count']
    correct = round((metrics[name] or 0.0) * count)
    return {**metrics, f'{name}_interval': list(wilson_interval(correct, count))}


def accuracy_text(metrics: Mapping[str, Any], name: str = 'accuracy') -> str:
    """`94.1 % (92.2 to 95.6)`."""
    low, high = metrics[f'{name}_interval']
    return f'{100 * metrics[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})'


class Clock:
    """The speed of training and the share of it spent waiting for data.

    It lets two steps be in flight, so that the host neither waits for the device at every step
    nor runs away from it.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._in_flight: list[jax.Array] = []
        self.restart()

    def restart(self) -> None:
        """Forgets what was measured."""
        self._begun, self._steps, self._waited = time.perf_counter(), 0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A context whose duration counts as waiting for data."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    def tick(self, marker: jax.Array) -> None:
        """Counts a step, whose output `marker` is."""
        self._in_flight.append(marker)
        if len(self._in_flight) > 2:
            self._in_flight.pop(0).block_until_ready()
        self._steps += 1

    @property
    def images_per_second(self) -> float:
        """Since the last restart."""
        return self._steps * self._batch_size / max(time.perf_counter() - self._begun, 1e-9)

    @property
    def waiting_share(self) -> float:
        """Of the time since the last restart."""
        return self._waited / max(time.perf_counter() - self._begun, 1e-9)

    def seconds_left(self, steps: int) -> float:
        """For so many steps more at this speed."""
        return steps * self._batch_size / max(self.images_per_second, 1e-9)


def bytes_text(count: float) -> str:
    """`44.7 MiB`."""
    for unit in ('B', 'KiB', 'MiB'):
        if count < 1024:
            return f'{count:.4g} {unit}'
        count /= 1024
    return f'{count:.4g} GiB'


def environment() -> dict[str, Any]:
    """Versions, devices and the git revision, for result.json."""
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


def _git_revision() -> str | None:
    """The revision of the checkout this package lies in; None outside of one."""
    folder = pathlib.Path(__file__).parent
    command = ['git', '-C', str(folder), 'describe', '--always', '--dirty', '--abbrev=40']
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return None


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file whole or not at all; of several processes the first does."""
    if jax.process_index() > 0:
        return
    part = path.with_suffix('.part')
    part.write_text(json.dumps(content, indent=2) + '\n')
    part.replace(path)
