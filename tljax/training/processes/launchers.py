"""What SLURM, MPI and Kubernetes tell a process that they have started."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from tljax.types import InputError

FIRST_PORT, PORTS = 61440, 4096  # the upper end of the ports that no service is registered for
PORT_VARIABLE = 'JAX_COORDINATOR_PORT'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launcher:
    """What a launcher says.

    Attributes:
        name: of the launcher.
        values: `coordinator`, `processes` and `process`, as far as they are known, each with the
            name of its variable.
        tasks_here: how many processes run on this host; None if unknown.
        task_here: the index of this process among them.
    """

    name: str
    values: dict[str, tuple[str, str]]
    tasks_here: int | None = None
    task_here: int = 0


def detect(environ: Mapping[str, str]) -> Launcher | None:
    """The launcher of this process; None if its environment names none."""
    if 'SLURM_JOB_ID' in environ and 'SLURM_STEP_NODELIST' in environ:
        return _slurm(environ)
    if 'OMPI_COMM_WORLD_RANK' in environ:
        return _open_mpi(environ)
    if 'PMI_RANK' in environ:
        return _mpi(environ)
    if 'JOB_COMPLETION_INDEX' in environ:
        return Launcher(name='Kubernetes', values=_values(environ, process='JOB_COMPLETION_INDEX'))
    return None


def local_devices(launcher: Launcher, gpus: int) -> tuple[int, ...] | None:
    """The GPUs of this process, if the processes of a host share them; None for all it sees.

    A single process on a host gets all GPUs. A process that sees one GPU was given it by the
    launcher (`--gpus-per-task=1`).

    Args:
        launcher: of this process.
        gpus: how many GPUs it sees.

    Raises:
        InputError: the GPUs cannot be shared equally.
    """
    tasks = launcher.tasks_here
    if tasks is None or tasks == 1 or gpus <= 1:
        return None
    if gpus % tasks:
        raise InputError(
            f'--distributed: {tasks} processes of {launcher.name} share {gpus} GPUs on this host; '
            'start one for each GPU, or one for each host'
        )
    share = gpus // tasks
    first = launcher.task_here * share
    return tuple(range(first, first + share))


def visible_gpus(environ: Mapping[str, str], devices: pathlib.Path = pathlib.Path('/dev')) -> int:
    """The number of NVIDIA GPUs that a process sees.

    Args:
        environ: the environment variables.
        devices: the folder of Linux's device files.
    """
    listed = environ.get('CUDA_VISIBLE_DEVICES')
    if listed is not None:
        return len([one for one in listed.split(',') if one.strip() not in ('', '-1')])
    return sum(bool(re.fullmatch(r'nvidia\d+', path.name)) for path in devices.glob('nvidia*'))


def _values(environ: Mapping[str, str], **names: str) -> dict[str, tuple[str, str]]:
    """The variables that are set, by field."""
    return {field: (name, environ[name]) for field, name in names.items() if environ.get(name)}


def _slurm(environ: Mapping[str, str]) -> Launcher:
    count = 'SLURM_STEP_NUM_TASKS' if 'SLURM_STEP_NUM_TASKS' in environ else 'SLURM_NTASKS'
    values = _values(environ, processes=count, process='SLURM_PROCID')
    nodes = environ['SLURM_STEP_NODELIST']
    step = int(environ.get('SLURM_STEP_ID') or 0)
    job = int(re.sub(r'\D.*', '', environ['SLURM_JOB_ID']) or 0)
    port = environ.get(PORT_VARIABLE) or str(FIRST_PORT + (job + step) % PORTS)
    values['coordinator'] = ('SLURM_STEP_NODELIST', f'{first_host(nodes)}:{port}')
    tasks = _tasks_per_node(environ.get('SLURM_STEP_TASKS_PER_NODE', ''))
    node = int(environ.get('SLURM_NODEID') or 0)
    return Launcher(
        name='SLURM',
        values=values,
        tasks_here=tasks[node] if node < len(tasks) else None,
        task_here=int(environ.get('SLURM_LOCALID') or 0),
    )


def first_host(nodes: str) -> str:
    """The first host of a node list of SLURM: `gpu[007-009,012],x` is `gpu007`."""
    match = re.match(r'([^,\[]+)(?:\[([^,\-\]]+)[^\]]*\]([^,]*))?', nodes)
    if not match:
        raise InputError(f'--distributed: SLURM_STEP_NODELIST={nodes}: wanted the names of hosts')
    return ''.join(part or '' for part in match.groups())


def _tasks_per_node(text: str) -> list[int]:
    """The tasks of every node: `2(x3),1` is 2, 2, 2, 1."""
    found = re.findall(r'(\d+)(?:\(x(\d+)\))?', text)
    return [int(tasks) for tasks, nodes in found for _ in range(int(nodes or 1))]


def _open_mpi(environ: Mapping[str, str]) -> Launcher:
    values = _values(environ, processes='OMPI_COMM_WORLD_SIZE', process='OMPI_COMM_WORLD_RANK')
    # Open MPI 4 names the host of mpirun, which also runs process 0 unless a host file says
    # otherwise; Open MPI 5 names none.
    uri = environ.get('OMPI_MCA_orte_hnp_uri', '')
    if match := re.match(r'"?(\d+).*?(?:tcp://([^,:]+)|tcp6://\[([^,\]]+))', uri):
        port = environ.get(PORT_VARIABLE) or str(FIRST_PORT + int(match[1]) // PORTS % PORTS)
        host = match[2] or f'[{match[3]}]'
        values['coordinator'] = ('OMPI_MCA_orte_hnp_uri', f'{host}:{port}')
    return Launcher(
        name='Open MPI',
        values=values,
        tasks_here=int(environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') or 0) or None,
        task_here=int(environ.get('OMPI_COMM_WORLD_LOCAL_RANK') or 0),
    )


def _mpi(environ: Mapping[str, str]) -> Launcher:
    """MPICH and Intel MPI."""
    return Launcher(
        name='MPI',
        values=_values(environ, processes='PMI_SIZE', process='PMI_RANK'),
        tasks_here=int(environ.get('MPI_LOCALNRANKS') or 0) or None,
        task_here=int(environ.get('MPI_LOCALRANKID') or 0),
    )
