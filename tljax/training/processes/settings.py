"""Which of several processes this is: from flags, or from the environment of a launcher."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping

from tljax.training.processes import launchers
from tljax.types import InputError

FIELDS = ('coordinator', 'processes', 'process')
VARIABLES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What the command line says about the processes; None for a flag that is not given.

    Attributes:
        coordinator: HOST:PORT on which process 0 answers.
        processes: the number of processes.
        process: the index of this one.
        local_devices: indices of the GPUs of this process, among those of its host.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    local_devices: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How this process joins the others.

    Attributes:
        launcher: what the values come from, for messages.
        coordinator: HOST:PORT on which process 0 answers; None if JAX finds all values itself.
        processes: the number of processes; None as above.
        process: the index of this one; None as above.
        local_devices: indices of the GPUs of this process; None for all.
    """

    launcher: str
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    local_devices: tuple[int, ...] | None = None


def resolve(flags: Flags, environ: Mapping[str, str], gpus: int) -> Settings:
    """The settings of this process.

    If the flags name coordinator, number and index, the environment is not read. Otherwise all
    sources of a number must agree.

    Args:
        flags: of the command line.
        environ: the environment variables.
        gpus: the number of GPUs that this process sees.

    Raises:
        InputError: a value is missing, wrong, or contradicts another one; in one line.
    """
    sources = [_of_flags(flags)]
    launcher = None
    if any(field not in sources[0] for field in FIELDS):
        launcher = launchers.detect(environ)
        if sources == [{}] and _found_by_jax(environ, launcher):
            return Settings(launcher='TPU' if _has('libtpu') else 'Kubernetes')
        sources.append(_of_variables(environ))
        sources.append(launcher.values if launcher else {})
    values = {field: _agreed(field, sources) for field in FIELDS}
    return Settings(
        launcher=launcher.name if launcher else ('flags' if sources[0] else 'JAX variables'),
        coordinator=_address(values['coordinator'], _one_process(values)),
        **_numbers(values),
        local_devices=flags.local_devices
        or (launchers.local_devices(launcher, gpus) if launcher else None),
    )


def _of_flags(flags: Flags) -> dict[str, tuple[str, str]]:
    """The values of the flags, each with its name."""
    given = {field: getattr(flags, field) for field in FIELDS}
    return {
        field: (f'--{field}', str(value)) for field, value in given.items() if value is not None
    }


def _of_variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The values of the variables of JAX, each with its name."""
    pairs = zip(FIELDS, VARIABLES, strict=True)
    return {field: (name, environ[name]) for field, name in pairs if environ.get(name)}


def _found_by_jax(environ: Mapping[str, str], launcher: launchers.Launcher | None) -> bool:
    """Whether JAX asks the TPU's metadata or Kubernetes for all values."""
    if any(environ.get(name) for name in VARIABLES):
        return False
    in_cluster = 'KUBERNETES_SERVICE_HOST' in environ and _has('kubernetes')
    known = launcher is not None and launcher.name != 'Kubernetes'
    return not known and (_has('libtpu') or in_cluster)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _agreed(field: str, sources: list[dict[str, tuple[str, str]]]) -> tuple[str, str]:
    """Name and value of a field; for the address, the first source counts."""
    found = [source[field] for source in sources if field in source]
    if not found:
        names: dict[str, str] = dict(zip(FIELDS, VARIABLES, strict=True))
        raise InputError(
            f'--distributed: --{field} is missing, and the environment does not name it '
            f'({names[field]}, or SLURM, MPI, a TPU pod; in a SLURM job, start with srun)'
        )
    (first, value), *others = found
    for name, other in others if field != 'coordinator' else []:
        if other != value:
            raise InputError(f'--distributed: {first}={value}, but {name}={other}')
    return first, value


def _one_process(values: Mapping[str, tuple[str, str]]) -> bool:
    return values['processes'][1] == '1'


def _address(named: tuple[str, str], alone: bool) -> str | None:
    """HOST:PORT; None if no other process needs it."""
    name, value = named
    if not re.fullmatch(r'(\[[0-9a-fA-F:]+\]|[^:\s/]+):\d{1,5}', value):
        raise InputError(f'--distributed: {name}={value}: wanted HOST:PORT')
    return None if alone else value


def _numbers(values: Mapping[str, tuple[str, str]]) -> dict[str, int]:
    """The number of processes and the index of this one."""
    for field in ('processes', 'process'):
        name, value = values[field]
        if not value.isdecimal():
            raise InputError(f'--distributed: {name}={value}: wanted a number')
    count, index = (int(values[field][1]) for field in ('processes', 'process'))
    name, value = values['process']
    if not index < count:
        raise InputError(
            f'--distributed: {name}={value}: wanted 0 to {count - 1}, because '
            f'{values["processes"][0]}={count}'
        )
    return {'processes': count, 'process': index}
