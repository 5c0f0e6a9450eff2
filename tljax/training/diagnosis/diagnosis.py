"""`tljax.diagnose`: a description of the installation and the machine, to report a problem with."""

import dataclasses
import pathlib
import platform
from typing import Any

from tljax import environment
from tljax.training.diagnosis import incompatibilities, machine, packages

MIB, GIB = 2**20, 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The state of the installation and the machine; it has no names of users and no secrets.

    Attributes:
        record: all of it in the form of JSON.
        problems: known incompatibilities; empty if none was found.
    """

    record: dict[str, Any]
    problems: list[str]

    def text(self) -> str:
        """Lines of text to paste into an issue."""
        return '\n'.join(_lines(self.record, self.problems))


def diagnose(seconds: float = 1.0) -> Diagnosis:
    """Describes versions, devices, flags, caches, memory, disk and speed.

    It also works if JAX cannot be imported, and says why.

    Args:
        seconds: the length of each of the two speed tests; 0 leaves them out.
    """
    versions = packages.versions()
    devices, error = _devices()
    if error is None:
        speed, error = _speed(seconds)
    else:
        speed = None
    one = incompatibilities.here(versions, devices[0]['platform'] if devices else None)
    problems = [*packages.conflicts(), *incompatibilities.problems(one)]
    if error:
        problems.insert(0, f'JAX cannot compute: {error}')
    record = {
        'versions': versions,
        'system': platform.platform(),
        'devices': devices,
        'processor': machine.processor(),
        'memory': {'total_bytes': machine.total_memory(), 'free_bytes': _free_memory()},
        'disk': {
            'cache_free_bytes': machine.free_disk(environment.cache_dir()),
            'here_free_bytes': machine.free_disk(pathlib.Path()),
        },
        'settings': machine.settings(),
        'caches': machine.caches(),
        'speed': speed,
        'problems': problems,
    }
    return Diagnosis(record=record, problems=problems)


def _devices() -> tuple[list[dict[str, Any]], str | None]:
    """The devices of JAX, and why it has none."""
    try:
        import jax

        found = [(device.platform, device.device_kind) for device in jax.devices()]
    except Exception as error:  # any, because a broken installation is what this command reports
        return [], _one_line(error)
    kinds = {one: found.count(one) for one in found}
    return [{'platform': p, 'kind': k, 'count': n} for (p, k), n in kinds.items()], None


def _speed(seconds: float) -> tuple[dict[str, Any] | None, str | None]:
    """The result of the speed tests, and why there is none."""
    if not seconds:
        return None, None
    try:
        from tljax.training.diagnosis import speed

        return speed.measure(seconds), None
    except Exception as error:
        return None, _one_line(error)


def _free_memory() -> int | None:
    """The bytes that this process can still use, also by the limits of a container."""
    try:
        from tljax.training import host_memory

        return int(host_memory.free_bytes())
    except Exception:  # JAX cannot be imported, or the system does not tell
        return None


def _one_line(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return machine.anonymous(f'{type(error).__name__}: {text:.300}')


def _lines(record: dict[str, Any], problems: list[str]) -> list[str]:
    versions = record['versions'].items()
    rows = [('system', record['system']), *versions, *_machine_rows(record)]
    rows += [(name, value) for name, value in record['settings'].items()]
    rows += [(text, _cache_text(cache)) for text, cache in record['caches'].items()]
    rows += _speed_rows(record['speed'])
    width = max(len(name) for name, _ in rows)
    lines = [f'{name:<{width}}  {value}' for name, value in rows]
    if not problems:
        return [*lines, '', 'No known incompatibility.']
    return [*lines, '', 'Known incompatibilities:', *(f'- {line}' for line in problems)]


def _machine_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, memory, disk = record['processor'], record['memory'], record['disk']
    features = ' '.join(cpu['features']) or 'no vector instructions that are known'
    devices = [f'{one["count"]} {one["platform"]} ({one["kind"]})' for one in record['devices']]
    return [
        ('processor', f'{cpu["name"]}; {features}'),
        ('cores', f'{cpu["cores"]}, usable {cpu["usable_cores"] or "unknown"}'),
        ('devices of JAX', ', '.join(devices) or 'none'),
        ('memory', f'{_size(memory["total_bytes"])}, free {_size(memory["free_bytes"])}'),
        ('free disk, caches', _size(disk['cache_free_bytes'])),
        ('free disk, this folder', _size(disk['here_free_bytes'])),
    ]


def _speed_rows(speed: dict[str, Any] | None) -> list[tuple[str, str]]:
    if speed is None:
        return [('speed', 'not measured')]
    product, step = speed['matrix_product'], speed['training_step']
    side = product['side']
    return [
        (
            'matrix product',
            f'{product["gflop_per_second"]:,.0f} GFLOP/s ({side} x {side}, float32)',
        ),
        (
            'training step',
            f'{step["images_per_second"]:,.0f} images/s ({step["network"]}, batches of '
            f'{step["batch_size"]}, float32)',
        ),
    ]


def _cache_text(cache: dict[str, Any]) -> str:
    if not cache['files']:
        return f'empty, {cache["folder"]}'
    least = '' if cache['complete'] else 'at least '
    return f'{least}{_size(cache["bytes"])} in {cache["files"]:,} files, {cache["folder"]}'


def _size(count: int | None) -> str:
    if count is None:
        return 'unknown'
    return f'{count / GIB:.1f} GiB' if count >= GIB else f'{count / MIB:.1f} MiB'
