"""Trackers get what a run records, go on with a resumed run, and never end a run."""

import dataclasses
import importlib.util
import json
import struct

import pytest

from tests import small_runs
from tljax.config.experiment import ConfigError
from tljax.records import tracking
from tljax.records.trackers.mlflow import MLflow
from tljax.records.trackers.weights_and_biases import WandB
from tljax.training.run import train

SENT = []  # what `Notes` was told, in order


@dataclasses.dataclass(slots=True, kw_only=True)
class Notes:
    """A tracker that notes its calls; it fails in one of them."""

    fails_in: str = ''

    def obstacle(self):
        """See `types.Tracker`."""
        return None

    def start(self, run):
        """See `types.Tracker`."""
        SENT.append(('start', run))
        return NotesTracking(self.fails_in, run.key or 'k1')


@dataclasses.dataclass
class NotesTracking:
    """See `types.Tracking`."""

    fails_in: str
    key: str

    def _note(self, name, *values):
        SENT.append((name, *values))
        if self.fails_in == name:
            raise OSError('the service\nis down')

    def log(self, metrics, step):
        """See `types.Tracking`."""
        self._note('log', dict(metrics), step)

    def conclude(self, summary, files):
        """See `types.Tracking`."""
        self._note('conclude', dict(summary), [path.name for path in files])

    def close(self, *, complete):
        """See `types.Tracking`."""
        self._note('close', complete)


@pytest.fixture(scope='module', autouse=True)
def programs():
    """The compiled programs that all runs of this file share."""
    with small_runs.shared_programs():
        yield


@pytest.fixture(autouse=True)
def _nothing_sent():
    SENT.clear()


def names():
    """The kinds of the calls, in order, with repetitions of one kind taken together."""
    kinds = [call[0] for call in SENT]
    return [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]


def test_a_tracker_gets_the_config_every_record_and_the_result(tmp_path):
    result = train(small_runs.experiment(trackers=(Notes(),)), tmp_path / 'mine')
    assert names() == ['start', 'log', 'conclude', 'close']
    run = SENT[0][1]
    assert (run.name, run.key) == ('mine', None)
    assert run.config['optimizer']['learning_rate'] == 0.01
    logged = [(step, metrics) for kind, metrics, step in SENT[1:-2]]
    recorded = small_runs.records(tmp_path / 'mine')
    assert [step for step, _ in logged] == [record['step'] for record in recorded]
    assert logged[0][1]['train/loss'] == recorded[0]['loss']
    _, summary, files = SENT[-2]
    assert summary['final/test/accuracy'] == result['test']['accuracy']
    assert files == ['result.json']
    assert SENT[-1] == ('close', True)
    SENT.clear()
    train(small_runs.experiment(trackers=(Notes(),)), tmp_path / 'mine')
    assert SENT == []  # it is finished


def test_a_resumed_run_goes_on_under_its_key(tmp_path):
    experiment = small_runs.experiment(trackers=(Notes(),))
    small_runs.crash_after(6, experiment, tmp_path)
    assert SENT[-1] == ('close', False)
    SENT.clear()
    train(experiment, tmp_path)
    assert SENT[0][1].key == 'k1'
    steps = [call[2] for call in SENT if call[0] == 'log']
    assert min(steps) > 5
    assert SENT[-1] == ('close', True)


@pytest.mark.parametrize('fails_in', ['log', 'conclude', 'close'])
def test_an_error_of_a_tracker_is_one_warning_and_ends_it(fails_in, tmp_path, capsys):
    trackers = (Notes(fails_in=fails_in),)
    with tracking.opened(small_runs.experiment(trackers=trackers), tmp_path) as trackings:
        for step in range(2):
            trackings.write({'split': 'val', 'step': step, 'loss': 1.0})
        trackings.conclude({})
    assert [call[0] for call in SENT].count(fails_in) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if 'warning' in line]
    assert lines == ['warning: Notes gets no more records of this run: the service is down']


def test_damaged_keys_begin_a_new_run(tmp_path):
    (tmp_path / tracking.KEYS_FILE).write_text('{"Notes": ')
    with tracking.opened(small_runs.experiment(trackers=(Notes(),)), tmp_path):
        assert SENT[0][1].key is None
    assert json.loads((tmp_path / tracking.KEYS_FILE).read_text()) == {'Notes': 'k1'}


@pytest.mark.parametrize(('tracker', 'extra'), [(WandB(), 'wandb'), (MLflow(), 'mlflow')])
def test_a_missing_package_is_a_line_with_its_extra_before_anything_runs(
    tracker, extra, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ConfigError, match=rf"trackers\[0\]: .* pip install 'tljax\[{extra}\]'"):
        train(small_runs.experiment(trackers=(tracker,)), tmp_path)
    assert not (tmp_path / 'config.json').exists()


def test_a_tracker_reports_invalid_fields():
    assert WandB(mode='of-line').problems() == [
        "mode is 'of-line', wanted one of online, offline, disabled"
    ]
    assert WandB(project=' ').problems() == ['project is empty']
    assert MLflow(experiment='').problems() == ['experiment is empty']


class TestRealTrackers:
    """Runs of Weights & Biases and of MLflow that stay on this machine."""

    def crashed_and_resumed(self, tracker, folder):
        """Trains a run that crashed once; returns its result."""
        experiment = small_runs.experiment(trackers=(tracker,))
        small_runs.crash_after(6, experiment, folder)
        return train(experiment, folder)

    @pytest.mark.slow
    @pytest.mark.filterwarnings('ignore')  # of wandb and its requirements
    def test_wandb_offline_has_the_records_of_a_resumed_run(self, tmp_path, monkeypatch):
        pytest.importorskip('wandb', reason='wandb is not installed')
        monkeypatch.setenv('WANDB_SILENT', 'true')
        result = self.crashed_and_resumed(WandB(project='blobs', mode='offline'), tmp_path)
        key = json.loads((tmp_path / tracking.KEYS_FILE).read_text())['WandB']
        files = sorted(tmp_path.glob(f'wandb/offline-run-*-{key}/run-{key}.wandb'))
        assert files
        found = [one for path in files for one in wandb_records(path)]
        history = [dict(one) for kind, one in found if kind == 'history']
        logged = {(row['step'], name) for row in history for name in row if name != 'step'}
        for record in small_runs.records(tmp_path):
            assert (record['step'], f'{record["split"]}/loss') in logged
        summary = {name: value for kind, one in found if kind == 'summary' for name, value in one}
        assert summary['final/test/accuracy'] == result['test']['accuracy']
        config = dict(next(one for kind, one in found if kind == 'config'))
        assert config['optimizer']['learning_rate'] == 0.01
        assert any(kind == 'artifact' and 'result.json' in one for kind, one in found)

    @pytest.mark.slow
    @pytest.mark.filterwarnings('ignore')  # of mlflow and its requirements
    def test_a_local_mlflow_has_the_records_of_a_resumed_run(self, tmp_path, monkeypatch):
        mlflow = pytest.importorskip('mlflow', reason='mlflow is not installed')
        monkeypatch.chdir(tmp_path)  # the default place of artifacts
        address = f'sqlite:///{tmp_path}/mlflow.db'
        tracker = MLflow(experiment='blobs', tracking_uri=address)
        result = self.crashed_and_resumed(tracker, tmp_path / 'run')
        client = mlflow.MlflowClient(address)
        (run,) = client.search_runs([client.get_experiment_by_name('blobs').experiment_id])
        assert run.info.status == 'FINISHED'
        assert run.data.params['optimizer.learning_rate'] == '0.01'
        final = run.data.metrics['final/test/accuracy']
        assert final == pytest.approx(result['test']['accuracy'])
        history = client.get_metric_history(run.info.run_id, 'val/loss')
        recorded = [r for r in small_runs.records(tmp_path / 'run') if r['split'] == 'val']
        assert {point.step for point in history} == {record['step'] for record in recorded}
        artifacts = {one.path for one in client.list_artifacts(run.info.run_id)}
        assert {'config.json', 'result.json'} <= artifacts


def blocks(path):
    """The messages in a log of LevelDB's format after the header of 7 bytes of wandb."""
    data, at, message = path.read_bytes(), 7, b''
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, length, kind = struct.unpack('<IHB', data[at : at + 7])
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a complete message, or the last part of one
            yield message
            message = b''


def wandb_records(path):
    """The records in a file that `wandb sync` reads: `(kind, [(name, value), ...])`."""
    from wandb.proto import wandb_internal_pb2

    for message in blocks(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        kind = record.WhichOneof('record_type')
        if kind == 'run':
            items = record.run.config.update
            yield 'config', [(item.key, json.loads(item.value_json)) for item in items]
        elif kind in ('history', 'summary'):
            items = record.history.item if kind == 'history' else record.summary.update
            pairs = [('/'.join(i.nested_key) or i.key, json.loads(i.value_json)) for i in items]
            yield kind, pairs
        elif kind in ('artifact', 'request'):
            yield kind, str(record)
