"""The files of scripts/launch use options that exist, and start tljax again when it was stopped."""

import os
import pathlib
import re
import shlex
import subprocess
import tomllib

import jsonschema
import pytest
import yaml

from tljax.commands import config_files, names, overrides
from tljax.config import validation

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'scripts/launch'
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
BATCH = sorted(FOLDER.glob('*.sbatch'))
MANIFESTS = sorted(FOLDER.glob('jobset_*.yaml'))
MEMORY, NUMBER = r'\d+[KMGT]?', r'\d+'
# Long options of sbatch, and their values; from its manual page.
SBATCH = {
    'array': r'\d+-\d+(%\d+)?',
    'cpus-per-task': NUMBER,
    'gpus-per-node': r'(\w+:)?\d+',
    'gpus-per-task': r'(\w+:)?\d+',
    'job-name': r'[\w-]+',
    'mem': MEMORY,
    'nodes': r'\d+(-\d+)?',
    'ntasks': NUMBER,
    'ntasks-per-node': NUMBER,
    'open-mode': 'append|truncate',
    'output': r'[\w%./-]+',
    'partition': r'\w+',
    'requeue': '',
    'signal': r'([BR]:)?[A-Z0-9]+@\d+',
    'time': r'(\d+-)?\d+:\d\d:\d\d',
}
GCLOUD = {'zone', 'accelerator-type', 'version', 'spot', 'worker', 'command'}
DOCKER = {'ARG', 'FROM', 'RUN', 'WORKDIR', 'COPY', 'USER', 'ENV', 'CMD'}


def fields(**properties):
    """The schema of an object with some of these fields and no others."""
    return {'type': 'object', 'properties': properties, 'additionalProperties': False}


def items(schema):
    """The schema of a list."""
    return {'type': 'array', 'items': schema}


STRING, COUNT, BOOL = {'type': 'string'}, {'type': 'integer', 'minimum': 0}, {'type': 'boolean'}
STRINGS = {'type': 'object', 'additionalProperties': STRING}
# Field names of batch/v1 and core/v1: the reference of the Kubernetes API.
EXIT_CODES = fields(
    containerName=STRING, operator={'enum': ['In', 'NotIn']}, values=items({'type': 'integer'})
)
CONTAINER = fields(
    name=STRING,
    image=STRING,
    command=items(STRING),
    args=items(STRING),
    env=items(fields(name=STRING, value=STRING)),
    ports=items(fields(containerPort=COUNT, name=STRING, protocol=STRING)),
    resources=fields(
        limits={'type': 'object', 'additionalProperties': COUNT},
        requests={'type': 'object', 'additionalProperties': COUNT},
    ),
    volumeMounts=items(fields(name=STRING, mountPath=STRING, readOnly=BOOL, subPath=STRING)),
)
POD = fields(
    restartPolicy={'const': 'Never'},
    terminationGracePeriodSeconds=COUNT,
    securityContext=fields(runAsNonRoot=BOOL, runAsUser=COUNT, runAsGroup=COUNT, fsGroup=COUNT),
    nodeSelector=STRINGS,
    containers=items(CONTAINER),
    volumes=items(
        fields(
            name=STRING,
            persistentVolumeClaim=fields(claimName=STRING, readOnly=BOOL),
            emptyDir=fields(medium={'const': 'Memory'}, sizeLimit=STRING),
        )
    ),
)
JOB = fields(
    parallelism=COUNT,
    completions=COUNT,
    completionMode={'const': 'Indexed'},
    backoffLimit={'const': 0},
    podFailurePolicy=fields(
        rules=items(
            fields(
                action={'enum': ['FailJob', 'FailIndex', 'Ignore', 'Count']},
                onExitCodes=EXIT_CODES,
                onPodConditions=items(fields(type=STRING, status=STRING)),
            )
        )
    ),
    template=fields(metadata=fields(labels=STRINGS, annotations=STRINGS), spec=POD),
)
# Field names of jobset.x-k8s.io/v1alpha2: the reference of JobSet.
JOBSET = fields(
    apiVersion={'const': 'jobset.x-k8s.io/v1alpha2'},
    kind={'const': 'JobSet'},
    metadata=fields(name=STRING, namespace=STRING, labels=STRINGS, annotations=STRINGS),
    spec=fields(
        failurePolicy=fields(
            maxRestarts=COUNT,
            restartStrategy={'enum': ['Recreate', 'BlockingRecreate']},
            rules=items(
                fields(
                    name=STRING,
                    action={
                        'enum': ['FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts']
                    },
                    onJobFailureReasons=items(
                        {'enum': ['BackoffLimitExceeded', 'DeadlineExceeded', 'PodFailurePolicy']}
                    ),
                    targetReplicatedJobs=items(STRING),
                )
            ),
        ),
        replicatedJobs=items(fields(name=STRING, replicas=COUNT, template=fields(spec=JOB))),
    ),
)
# Field names of SkyPilot's tasks: its reference.
TASK = fields(
    name=STRING,
    workdir=STRING,
    num_nodes=COUNT,
    resources=fields(
        infra=STRING,
        accelerators=STRING,
        accelerator_args=fields(runtime_version=STRING, tpu_name=STRING),
        use_spot=BOOL,
        job_recovery=fields(
            strategy={'enum': ['FAILOVER', 'EAGER_NEXT_REGION']},
            max_restarts_on_errors=COUNT,
            recover_on_exit_codes=items({'type': 'integer', 'minimum': 0, 'maximum': 255}),
        ),
    ),
    file_mounts={
        'type': 'object',
        'additionalProperties': fields(
            source=STRING, mode={'enum': ['MOUNT', 'COPY', 'MOUNT_CACHED']}
        ),
    },
    envs=STRINGS,
    setup=STRING,
    run=STRING,
)


def manifest(path):
    """The content of a manifest, its job and its container."""
    content = yaml.safe_load(path.read_text())
    (replicated,) = content['spec']['replicatedJobs']
    job = replicated['template']['spec']
    (container,) = job['template']['spec']['containers']
    return content, job, container


def commands_of(path):
    """The command lines of tljax in a file."""
    if path in MANIFESTS:
        return [manifest(path)[2]['command']]
    lines = re.sub(r'\\\n#?', ' ', path.read_text()).splitlines()
    lines = [re.sub(r"""\s*(\|\||').*$""", '', line) for line in lines]
    found = [
        re.search(rf'(?:^|[\s/])(tljax (?:{"|".join(names.COMMANDS)}) .*)', one) for one in lines
    ]
    return [shlex.split(match[1]) for match in found if match]


CASES = [
    pytest.param(command, id=f'{path.name}-{index}')
    for path in FILES
    for index, command in enumerate(commands_of(path))
]


def test_every_file_runs_tljax():
    counts = {path.name: len(commands_of(path)) for path in FILES}
    assert all(counts.values()), counts


@pytest.mark.parametrize('command', CASES)
def test_tljax_takes_the_flags_and_fields_of_each_command(command):
    parser = names.module(command[1]).parser()
    arguments = parser.read(command[2:])
    spec = arguments.config.spec
    if spec and not spec.endswith('.py'):
        experiment, _ = config_files.load(arguments.config)
        overrides.apply(experiment, arguments.config.overrides)
        validation.validate(experiment)


@pytest.mark.parametrize('path', BATCH, ids=lambda path: path.name)
def test_sbatch_knows_every_option(path):
    lines = path.read_text().splitlines()
    options = [line for line in lines if line.startswith('#SBATCH')]
    after = lines[max(lines.index(one) for one in options) + 1 :]
    assert not any(line.startswith('#SBATCH') for line in after)
    assert all(line.startswith('#') for line in lines[: lines.index(options[-1])])  # else unread
    for option in options:
        name, _, value = option.removeprefix('#SBATCH --').partition('=')
        assert re.fullmatch(SBATCH[name], value), option
    assert {'#SBATCH --requeue', '#SBATCH --signal=USR1@90'} <= set(options)


@pytest.mark.parametrize('path', [*BATCH, *sorted(FOLDER.glob('*.sh'))], ids=lambda path: path.name)
def test_bash_can_read_it(path):
    subprocess.run(['bash', '-n', path], check=True)
    assert path.suffix != '.sh' or os.access(path, os.X_OK)


def stubs(folder, **scripts):
    """An environment whose programs are shell scripts; each call is a line of `calls`."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{script}\n')
        (folder / name).chmod(0o755)
    return {'PATH': f'{folder}:{os.environ["PATH"]}'}


def calls(folder):
    """The calls of the stubs."""
    return (folder / 'calls').read_text().splitlines()


@pytest.mark.parametrize('path', BATCH, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ('code', 'restarts', 'again'),
    [(75, 0, True), (137, 3, True), (0, 0, False), (1, 0, False), (2, 0, False), (75, 20, False)],
)
def test_a_job_of_slurm_is_queued_again_when_it_was_stopped(path, code, restarts, again, tmp_path):
    environment = stubs(tmp_path / 'bin', srun=f'exit {code}', scontrol='')
    slurm = {'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': str(restarts)}
    done = subprocess.run(['bash', path], env={**environment, **slurm}, cwd=tmp_path)
    assert done.returncode == code
    assert ('scontrol requeue 7' in calls(tmp_path / 'bin')) == again


def test_run_again_repeats_a_command_that_was_stopped_and_no_other(tmp_path):
    script = f'test $(wc -l < {tmp_path}/bin/calls) = 3 && exit "$1"; exit 75'
    environment = stubs(tmp_path / 'bin', tljax=script)
    environment |= {'RESTART_SECONDS': '0', 'MAX_RESTARTS': '4'}
    for code in (0, 2):
        (tmp_path / 'bin/calls').unlink(missing_ok=True)
        command = [FOLDER / 'run_again.sh', 'tljax', str(code)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == code
        assert len(calls(tmp_path / 'bin')) == 3
        assert 'exit code 75, starting again (2 of 4)' in done.stderr
    environment['MAX_RESTARTS'] = '1'
    (tmp_path / 'bin/calls').unlink()
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 75
    assert len(calls(tmp_path / 'bin')) == 2


def test_run_again_passes_sigterm_on_and_does_not_repeat(tmp_path):
    script = "trap 'echo saved; exit 75' TERM; echo ready; while :; do sleep 0.05; done"
    environment = stubs(tmp_path / 'bin', tljax=script)
    process = subprocess.Popen(
        [FOLDER / 'run_again.sh', 'tljax'], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    process.terminate()
    assert process.communicate(timeout=30)[0] == 'saved\n'
    assert process.returncode == 75
    assert len(calls(tmp_path / 'bin')) == 1


def test_gcloud_gets_options_that_it_knows_and_every_host_runs_tljax(tmp_path):
    environment = stubs(tmp_path / 'bin', gcloud='', git='')
    subprocess.run(['bash', FOLDER / 'tpu_vm.sh'], env=environment, check=True)
    lines = '\n'.join(calls(tmp_path / 'bin'))
    verbs = re.findall(r'gcloud compute tpus tpu-vm (\w+)', lines)
    assert verbs == ['create', 'scp', 'ssh', 'ssh']
    text = (FOLDER / 'tpu_vm.sh').read_text()
    calls_of_gcloud = re.findall(r'^gcloud (?:.*\\\n)*.*', text, re.MULTILINE)
    options = {name for call in calls_of_gcloud for name in re.findall(r'\s--([a-z-]+)', call)}
    assert options - {'user', 'clear', 'python', 'config', 'workdir'} <= GCLOUD


@pytest.mark.parametrize('path', MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_has_fields_that_jobset_knows_and_fits_together(path):
    content, job, container = manifest(path)
    jsonschema.validate(content, JOBSET)
    assert job['parallelism'] == job['completions']
    pod = job['template']['spec']
    volumes = {volume['name'] for volume in pod['volumes']}
    assert {mount['name'] for mount in container['volumeMounts']} == volumes
    (rule,) = job['podFailurePolicy']['rules']
    assert rule['action'] == 'FailJob'
    assert rule['onExitCodes'] == {'containerName': 'train', 'operator': 'In', 'values': [1, 2]}
    assert container['name'] == 'train'
    (policy,) = content['spec']['failurePolicy']['rules']
    assert (policy['action'], policy['onJobFailureReasons']) == ('FailJobSet', ['PodFailurePolicy'])


def test_the_processes_of_the_gpu_manifest_find_each_other():
    from tljax.training.processes import settings

    content, job, container = manifest(FOLDER / 'jobset_gpu.yaml')
    environ = {one['name']: one['value'] for one in container['env']}
    for index in range(job['completions']):
        environ['JOB_COMPLETION_INDEX'] = str(index)
        own = settings.resolve(settings.Flags(), environ, gpus=8)
        assert (own.process, own.processes) == (index, job['completions'])
        assert own.local_devices is None
    name, (replicated,) = content['metadata']['name'], content['spec']['replicatedJobs']
    host, port = own.coordinator.split(':')
    assert host == f'{name}-{replicated["name"]}-0-0.{name}'
    assert int(port) == container['ports'][0]['containerPort']


def test_the_tpu_manifest_has_all_chips_of_its_topology():
    _, job, container = manifest(FOLDER / 'jobset_tpu.yaml')
    topology = job['template']['spec']['nodeSelector']['cloud.google.com/gke-tpu-topology']
    rows, columns = map(int, topology.split('x'))
    chips = container['resources']['limits']['google.com/tpu']
    assert chips * job['parallelism'] == rows * columns


def test_a_task_of_skypilot_has_fields_that_it_knows():
    task = yaml.safe_load((FOLDER / 'sky_tpu.yaml').read_text())
    jsonschema.validate(task, TASK)
    assert 75 in task['resources']['job_recovery']['recover_on_exit_codes']
    for script in (task['setup'], task['run']):
        subprocess.run(['bash', '-n'], input=script, text=True, check=True)


def instructions():
    """The instructions of the Dockerfile with their arguments."""
    text = re.sub(r'\\\n', ' ', (FOLDER / 'Dockerfile').read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith('#')]
    return [tuple(line.split(None, 1)) for line in lines]


def test_the_dockerfile_copies_files_that_exist_and_uses_its_arguments():
    found = instructions()
    assert {name for name, _ in found} <= DOCKER
    assert [text for name, text in found if name == 'FROM'] == ['python:${PYTHON}-slim']
    for name, text in found:
        if name == 'COPY':
            assert all((ROOT / source).exists() for source in text.split()[:-1]), text
    everything = ' '.join(text for name, text in found if name != 'ARG')
    arguments = [text.partition('=')[0] for name, text in found if name == 'ARG']
    assert arguments == ['PYTHON', 'DEVICE', 'EXTRAS']
    for argument in arguments:
        assert re.search(rf'\${{?{argument}\b', everything), argument
    order = [name for name, _ in found]
    assert order.index('USER') > max(i for i, name in enumerate(order) if name == 'RUN')


def test_the_dockerfile_installs_extras_that_exist_for_every_device(tmp_path):
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project'][
        'optional-dependencies'
    ]
    (install,) = [text for name, text in instructions() if name == 'RUN' and 'case' in text]
    defaults = dict(t.split('=') for name, t in instructions() if name == 'ARG')
    environment = stubs(tmp_path / 'bin', python='') | defaults
    for device in ('cpu', 'gpu', 'tpu'):
        subprocess.run(['sh', '-c', install], env={**environment, 'DEVICE': device}, check=True)
        installed = re.search(r'\.\[(.*)\]', calls(tmp_path / 'bin')[-1])[1].split(',')
        assert set(installed) <= set(extras)
        assert (device in installed) == (device != 'cpu')
    wrong = {**environment, 'DEVICE': 'rocm'}
    done = subprocess.run(['sh', '-c', install], env=wrong, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'DEVICE=rocm: wanted cpu, gpu or tpu\n'
