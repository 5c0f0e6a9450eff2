"""Which process this is, from flags and from the environments of launchers."""

import pytest

from tljax.training.processes import launchers
from tljax.training.processes.settings import Flags, resolve
from tljax.types import InputError

ADDRESS = 'a:1'
SLURM = {
    'SLURM_JOB_ID': '4098',
    'SLURM_STEP_ID': '1',
    'SLURM_STEP_NODELIST': 'gpu[007-009,012],other',
    'SLURM_NTASKS': '4',
    'SLURM_STEP_NUM_TASKS': '4',
    'SLURM_PROCID': '3',
    'SLURM_LOCALID': '1',
    'SLURM_NODEID': '1',
    'SLURM_STEP_TASKS_PER_NODE': '2(x2)',
}
OPEN_MPI = {
    'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
    'OMPI_COMM_WORLD_SIZE': '4',
    'OMPI_COMM_WORLD_RANK': '2',
    'OMPI_COMM_WORLD_LOCAL_SIZE': '4',
    'OMPI_COMM_WORLD_LOCAL_RANK': '2',
}
MPI = {'PMI_SIZE': '2', 'PMI_RANK': '1', 'JAX_COORDINATOR_ADDRESS': ADDRESS}
KUBERNETES = {
    'KUBERNETES_SERVICE_HOST': '10.0.0.1',
    'JOB_COMPLETION_INDEX': '1',
    'JAX_NUM_PROCESSES': '2',
    'JAX_COORDINATOR_ADDRESS': ADDRESS,
}


def numbers(environ, gpus=0, **flags):
    """Coordinator, number of processes, index and GPUs, and the launcher."""
    own = resolve(Flags(**flags), environ, gpus)
    return own.launcher, own.coordinator, own.processes, own.process, own.local_devices


def test_each_launcher_names_the_process_and_its_coordinator():
    port = launchers.FIRST_PORT + 4099 % launchers.PORTS
    assert numbers(SLURM) == ('SLURM', f'gpu007:{port}', 4, 3, None)
    named = numbers({**SLURM, 'JAX_COORDINATOR_PORT': '5'})
    assert named[1] == 'gpu007:5'
    port = launchers.FIRST_PORT + 1531576320 // 4096 % launchers.PORTS
    assert numbers(OPEN_MPI) == ('Open MPI', f'10.96.0.1:{port}', 4, 2, None)
    assert numbers(MPI) == ('MPI', ADDRESS, 2, 1, None)
    assert numbers(KUBERNETES) == ('Kubernetes', ADDRESS, 2, 1, None)
    variables = {
        'JAX_COORDINATOR_ADDRESS': ADDRESS,
        'JAX_NUM_PROCESSES': '3',
        'JAX_PROCESS_ID': '2',
    }
    assert numbers(variables) == ('JAX variables', ADDRESS, 3, 2, None)


def test_flags_that_name_everything_win_over_any_environment():
    flags = {'coordinator': '[::1]:9', 'processes': 2, 'process': 1, 'local_devices': (0, 1)}
    assert numbers(SLURM, 4, **flags) == ('flags', '[::1]:9', 2, 1, (0, 1))
    assert numbers(SLURM, coordinator=ADDRESS)[1:4] == (ADDRESS, 4, 3)


def test_a_tpu_and_a_cluster_with_the_kubernetes_package_are_left_to_jax(monkeypatch):
    find = 'tljax.training.processes.settings.importlib.util.find_spec'
    monkeypatch.setattr(find, lambda name: name == 'libtpu' or None)
    alone = ('TPU', None, None, None, None)
    assert numbers({}) == numbers({'JOB_COMPLETION_INDEX': '1'}) == alone
    assert numbers(KUBERNETES)[0] == 'Kubernetes'  # all is named
    assert numbers(SLURM)[0] == 'SLURM'
    monkeypatch.setattr(find, lambda name: name == 'kubernetes' or None)
    assert numbers({'KUBERNETES_SERVICE_HOST': '10.0.0.1'})[:2] == ('Kubernetes', None)


@pytest.mark.parametrize(
    ('nodes', 'first'),
    [
        ('node001', 'node001'),
        ('node001,host2', 'node001'),
        ('node[001-015],host2', 'node001'),
        ('node[001,007-015]', 'node001'),
        ('rack[1-2]-x,y', 'rack1-x'),
    ],
)
def test_the_first_host_of_a_node_list_is_the_coordinator(nodes, first):
    assert launchers.first_host(nodes) == first


@pytest.mark.parametrize(
    ('tasks', 'local', 'gpus', 'own'),
    [
        (1, 0, 4, None),  # one process on the host: all GPUs
        (4, 2, 4, (2,)),  # one process for each GPU
        (2, 1, 4, (2, 3)),
        (4, 2, 1, None),  # --gpus-per-task=1: it sees its own only
        (4, 2, 0, None),
    ],
)
def test_the_processes_of_a_host_share_its_gpus(tasks, local, gpus, own):
    here = {
        'SLURM_STEP_TASKS_PER_NODE': str(tasks),
        'SLURM_NODEID': '0',
        'SLURM_LOCALID': str(local),
    }
    assert numbers({**SLURM, **here}, gpus)[-1] == own
    here = {'OMPI_COMM_WORLD_LOCAL_SIZE': str(tasks), 'OMPI_COMM_WORLD_LOCAL_RANK': str(local)}
    assert numbers({**OPEN_MPI, **here}, gpus)[-1] == own


def test_gpus_are_counted_from_what_the_process_may_see(tmp_path):
    for name in ('nvidia0', 'nvidia1', 'nvidia10', 'nvidiactl', 'nvidia-uvm'):
        (tmp_path / name).touch()
    assert launchers.visible_gpus({}, tmp_path) == 3
    assert launchers.visible_gpus({'CUDA_VISIBLE_DEVICES': '4,GPU-5f'}, tmp_path) == 2
    assert launchers.visible_gpus({'CUDA_VISIBLE_DEVICES': ''}, tmp_path) == 0


@pytest.mark.parametrize(
    ('environ', 'flags', 'message'),
    [
        ({}, {}, '--coordinator is missing'),
        ({'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '4'}, {}, 'in a SLURM job, start with srun'),
        ({}, {'coordinator': ADDRESS}, '--processes is missing'),
        ({}, {'coordinator': ADDRESS, 'processes': 2}, '--process is missing'),
        (SLURM, {'processes': 2}, '--processes=2, but SLURM_STEP_NUM_TASKS=4'),
        ({**SLURM, 'JAX_PROCESS_ID': '0'}, {}, 'JAX_PROCESS_ID=0, but SLURM_PROCID=3'),
        ({}, {'coordinator': 'a', 'processes': 2, 'process': 0}, 'coordinator=a: wanted HOST:PORT'),
        (
            {},
            {'coordinator': ADDRESS, 'processes': 2, 'process': 2},
            '--process=2: wanted 0 to 1, because --processes=2',
        ),
        ({**KUBERNETES, 'JAX_NUM_PROCESSES': 'x'}, {}, 'JAX_NUM_PROCESSES=x: wanted a number'),
        ({**SLURM, 'SLURM_STEP_NODELIST': '[]'}, {}, 'wanted the names of hosts'),
    ],
)
def test_missing_and_contradicting_settings_are_named_in_one_line(environ, flags, message):
    with pytest.raises(InputError) as error:
        resolve(Flags(**flags), environ, gpus=0)
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_gpus_that_cannot_be_shared_are_an_error():
    with pytest.raises(InputError, match='2 processes of SLURM share 3 GPUs on this host'):
        resolve(Flags(), SLURM, gpus=3)
