"""Damaged records of a run are named, set aside or made again; a run never ends in a traceback."""

import json
import shutil

import pytest

from tests import small_runs
from tests.small_runs import assert_same_run, crash_after, experiment
from tljax.config.experiment import ConfigError
from tljax.records import writers
from tljax.training.run import train

pytestmark = pytest.mark.usefixtures('shared_programs')


@pytest.fixture(scope='module')
def stopped(shared_programs, tmp_path_factory):
    """The folder of a run that was stopped."""
    workdir = tmp_path_factory.mktemp('stopped')
    crash_after(9, experiment(), workdir)
    return workdir


def copy(folder, tmp_path):
    """A copy of the folder of a run."""
    return shutil.copytree(folder, tmp_path / 'run')


@pytest.mark.parametrize(
    'content',
    [
        b'{"step": 4, "va',
        b'[]',
        *(pytest.param(content, marks=pytest.mark.slow) for content in (b'', b'\xff')),
    ],
)
def test_a_damaged_result_is_computed_again(content, reference, tmp_path, capsys):
    workdir = copy(reference[0], tmp_path)
    (workdir / 'result.json').write_bytes(content)
    assert train(experiment(), workdir)['test'] == reference[1]['test']
    assert 'result.json is damaged' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    'line',
    [
        *(pytest.param(line, marks=pytest.mark.slow) for line in (b'123\n', b'{}\n')),
        b'\xff\n',
        b'{"step": 9, "pha',
    ],
)
def test_damaged_lines_of_the_metrics_are_left_out(line, reference, stopped, tmp_path):
    workdir = copy(stopped, tmp_path)
    with (workdir / 'metrics.jsonl').open('ab') as file:
        file.write(line)
    train(experiment(), workdir)
    assert_same_run(experiment(), workdir, reference)
    assert small_runs.records(workdir) == small_runs.records(reference[0])


@pytest.mark.parametrize('name', ['config.json', 'splits.json'])
@pytest.mark.parametrize('content', [b'', b'[1, 2', b'[]', b'\xff'])
def test_a_damaged_description_of_the_run_is_named_in_an_error(name, content, stopped, tmp_path):
    workdir = copy(stopped, tmp_path)
    (workdir / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name.replace('.', r'\.')) as error:
        train(experiment(), workdir)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize('index', [0, 1], ids=['best', 'last'])
def test_a_damaged_checkpoint_is_named_and_the_run_ends_from_the_others(
    index, reference, stopped, tmp_path, capsys
):
    workdir = copy(stopped, tmp_path)
    steps = sorted(path.name for path in (workdir / 'checkpoints/steps').iterdir())
    assert len(steps) == 2
    step = steps[index]
    record = workdir / 'checkpoints/steps' / step / 'record' / 'metadata'
    record.write_text(json.dumps(json.loads(record.read_text()) | {'seconds': -1.0}))
    train(experiment(), workdir)
    assert f'the checkpoint of step {step} is damaged' in ' '.join(capsys.readouterr().out.split())
    assert (workdir / f'checkpoints/damaged-{step}').is_dir()
    last = [r for r in writers.read_metrics(workdir / 'metrics.jsonl') if r['split'] == 'val'][-1]
    expected = [r for r in small_runs.records(reference[0]) if r['split'] == 'val'][-1]
    assert last['loss'] == expected['loss']
