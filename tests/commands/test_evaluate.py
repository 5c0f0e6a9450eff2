"""`tljax evaluate`: a network on labelled images."""

import contextlib
import dataclasses
import io
import json
import pathlib
import shutil

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

import tljax
from tests import served
from tests.small_runs import Tiny
from tljax.commands import evaluate as command
from tljax.records import console, predictions
from tljax.training import final_evaluation, labelled_data
from tljax.types import BadFiles, InputError
from tljax.weights import export, published


@pytest.fixture(scope='module')
def workdir(served_run):
    return served_run


@pytest.fixture
def run(workdir, tmp_path, capsys, monkeypatch):
    """Runs the command on that run; the exit code, what it printed, and the content of --out."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(console.console, 'width', 200)

    def run(*words, network=workdir):
        out = tmp_path / 'out.json'
        capsys.readouterr()
        code = command.main([str(network), *map(str, words), f'--out={out}'])
        printed = capsys.readouterr()
        return code, printed, json.loads(out.read_text()) if out.exists() else None

    return run


@dataclasses.dataclass
class Outputs:
    """What the command prints, and the files that it writes."""

    printed: str
    folder: pathlib.Path

    @property
    def written(self):
        """The content of --out."""
        return json.loads((self.folder / 'out.json').read_text())


def outputs(workdir, folder, *words):
    """Evaluates the test split of the run's own data, with every output."""
    files = {'out': 'out.json', 'predictions': 'own.npz', 'picture': 'confusion.png'}
    flags = [f'--{name}={folder / file}' for name, file in files.items()]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv('TLJAX_CACHE', str(folder / 'cache'))
        patch.setattr(console.console, 'width', 200)
        assert command.main([str(workdir), '--data=config', *flags, *words]) == 0
    return Outputs(printed.getvalue(), folder)


@pytest.fixture(scope='module')
def usual(workdir, tmp_path_factory):
    return outputs(workdir, tmp_path_factory.mktemp('usual'))


@pytest.fixture(scope='module')
def tenfold(workdir, tmp_path_factory):
    return outputs(workdir, tmp_path_factory.mktemp('tenfold'), '--views=ten_crop')


@pytest.fixture
def data(workdir, tmp_path):
    """A copy of the data that can be changed."""
    return shutil.copytree(workdir.parent / 'data', tmp_path / 'data')


def result(workdir):
    return json.loads((workdir / 'result.json').read_text())


def test_a_runs_own_test_split_gives_exactly_its_result(usual, workdir):
    wanted = result(workdir)['test']
    assert {name: usual.written[name] for name in wanted} == wanted
    assert 0.4 < wanted['accuracy'] < 1


def test_a_runs_own_validation_split_gives_exactly_its_result(run, workdir):
    code, printed, written = run('--data=config', '--split=val')
    assert code == 0, printed.err
    wanted = result(workdir)['val']
    assert {name: written[name] for name in wanted} == wanted
    assert 0.4 < wanted['accuracy'] < 1


def test_the_same_images_by_their_folder_give_it_too(run, workdir):
    _, _, written = run(workdir.parent / 'data')
    wanted = result(workdir)['test']
    assert {name: written[name] for name in wanted} == wanted


def test_the_result_follows_from_the_predictions_to_the_last_digit(workdir):
    done = tljax.TrainedRun(workdir)
    assert set(done.predictions.splits) == {'val', 'test'}
    assert done.predictions.classes == done.network.class_names
    recorded = json.loads((workdir / 'splits.json').read_text())
    for name, split in done.predictions.splits.items():
        metrics = final_evaluation.make_metrics(done.config.loss, split.task)(split)
        assert console.with_interval(metrics) == done.result[name]
        assert split.ids.tolist() == recorded[name]['ids']
        data = workdir.parent / 'data'
        assert [str(data / path) for path in split.paths] == recorded[name]['files']


def test_the_kept_features_are_what_the_head_reads(workdir):
    done = tljax.TrainedRun(workdir)
    val = done.predictions.splits['val']
    head = jax.device_get(done.network.params['head']['linear'])
    np.testing.assert_allclose(
        val.features @ head['kernel'] + head['bias'], val.logits, rtol=1e-3, atol=1e-4
    )
    assert len(done.predictions.splits['test'].features) == 21


def test_the_command_writes_the_same_predictions(usual, workdir):
    ours = predictions.read(usual.folder / 'own.npz').splits['test']
    wanted = tljax.TrainedRun(workdir).predictions.splits['test']
    for part in ('ids', 'paths', 'labels', 'logits'):
        np.testing.assert_array_equal(getattr(ours, part), getattr(wanted, part))


def test_a_temperature_changes_the_loss_and_no_decision(run, workdir):
    calibrated = result(workdir)['calibration']
    code, printed, found = run('--data=config', '--split=val', '--calibrated')
    assert code == 0, printed.err
    wanted = result(workdir)['val']
    differing = {name for name in wanted if found[name] != wanted[name]}
    assert differing == {'loss'}
    after = calibrated['val']['after']['negative_log_likelihood']
    assert found['loss'] == pytest.approx(after, rel=1e-5)
    assert found['calibration']['temperature'] == calibrated['temperature'] != 1
    assert 'calibration error' in printed.out
    assert calibrated['unsure']  # of so few images


def test_probabilities_are_calibrated_unless_asked_otherwise(workdir):
    done = tljax.TrainedRun(workdir)
    image = np.full((8, 8, 3), 90, np.uint8)
    plain = done.network.predict(image, calibrated=False).astype(float)
    scaled = plain ** (1 / done.result['calibration']['temperature'])
    np.testing.assert_allclose(done.network.predict(image), scaled / scaled.sum(), 1e-4)


def test_a_run_of_before_temperatures_predicts_without_one(workdir, tmp_path, run):
    old = shutil.copytree(workdir, tmp_path / 'old')
    content = result(old)
    del content['calibration']
    (old / 'result.json').write_text(json.dumps(content))
    (old / 'predictions.npz').unlink()
    network = tljax.load(old)
    assert network.temperature is None
    image = np.full((8, 8, 3), 90, np.uint8)
    plain = network.predict(image, calibrated=False)
    np.testing.assert_array_equal(network.predict(image), plain)
    code, printed, _ = run('--data=config', '--calibrated', network=old)
    assert (code, 'has no temperature' in printed.err) == (2, True)
    with pytest.raises(InputError, match='there is no such file'):
        _ = tljax.TrainedRun(old).predictions


def test_exports_apply_the_temperature_and_the_card_says_so(workdir, tmp_path):
    network = tljax.load(workdir)
    side = network.preprocessing.resize_px
    images = np.random.default_rng(0).integers(0, 255, (2, side, side, 3), np.uint8)
    out, card = export.export(str(workdir), tmp_path / 'net.stablehlo', format='stablehlo')
    called = jax.export.deserialize(bytearray(out.read_bytes())).call(images)
    np.testing.assert_allclose(called, network.predict(images), 1e-4, 1e-5)
    assert 'The program divides the logits by the temperature' in card.read_text()
    assert '| test |' in card.read_text().partition('## Calibration')[2]
    out, _ = export.export(str(workdir), tmp_path / 'a' / 'net.safetensors', names='tljax')
    again = tljax.load(out, backbone=Tiny())  # type: ignore[arg-type]
    assert again.temperature == network.temperature


def test_other_views_are_a_flag(usual, tenfold):
    assert 'views: TenCrop' in tenfold.printed
    assert tenfold.written['loss'] != usual.written['loss']
    assert tenfold.written['count'] == usual.written['count'] == 21


def test_views_that_training_did_not_show_are_warned_of(usual, tenfold):
    assert 'Warning: training cut no crops' in tenfold.printed
    assert any('Warning' in note for note in tenfold.written['notes'])
    assert 'Warning' not in usual.printed


def test_the_size_of_batches_changes_no_figure(usual, run):
    _, _, other = run('--data=config', '--batch_size=21')
    assert other['class_accuracy'] == usual.written['class_accuracy']
    assert other['loss'] == pytest.approx(usual.written['loss'], rel=1e-6)


def test_classes_in_another_order_are_found_by_their_names(run, workdir, tmp_path):
    rows = [f'{c}/{i}.png,{c}' for c in ('red', 'green', 'blue') for i in range(7)]
    names = np.array(['red', 'green', 'blue'])
    folder = workdir.parent / 'data/test'
    images = np.stack([np.asarray(Image.open(folder / row.split(',')[0])) for row in rows])
    labels = np.repeat(np.arange(3), 7)
    np.savez(tmp_path / 'data.npz', images=images, labels=labels, class_names=names)
    code, printed, written = run(tmp_path / 'data.npz')
    assert code == 0, printed.err
    assert 'in another order' in printed.out
    assert written['class_names'] == ['blue', 'green', 'red']
    assert written['class_accuracy'] == result(workdir)['test']['class_accuracy']


def test_a_class_that_the_data_has_not_is_said_and_left_out(run, data, workdir):
    shutil.rmtree(data / 'test/green')
    code, printed, written = run(data)
    assert code == 0, printed.err
    assert 'has 2 of the 3 classes' in printed.out
    wanted = result(workdir)['test']['class_accuracy']
    assert written['class_accuracy'] == [wanted[0], None, wanted[2]]
    assert written['mean_class_accuracy'] == pytest.approx((wanted[0] + wanted[2]) / 2)
    assert written['class_count'] == [7, 0, 7]


def test_a_class_that_the_network_has_not_is_an_error_with_both_sides(run, data):
    (data / 'test/green').rename(data / 'test/grean')
    code, printed, written = run(data)
    assert (code, written) == (2, None)
    assert printed.err.splitlines()[1:] == ['  + grean', '  - green']


def test_a_bad_file_among_good_ones_is_named_and_can_be_left_out(run, data):
    (data / 'test/red/3.png').write_bytes(b'<html>')
    code, printed, _ = run(data)
    assert code == 2
    assert f'{data}/test/red/3.png: it is HTML' in printed.err
    code, printed, written = run(data, '--bad_files=skip')
    assert code == 0
    assert f'skipped: {data}/test/red/3.png' in printed.err
    assert (written['count'], written['class_count']) == (20, [7, 7, 6])
    assert list(written['bad_files']) == [f'{data}/test/red/3.png']


def test_a_file_that_is_damaged_in_its_middle_counts_nowhere(run, data):
    path = data / 'test/red/3.png'
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    code, printed, written = run(data, '--bad_files=skip')
    assert code == 0
    assert f'skipped: {path}' in printed.err
    assert (written['count'], sum(written['class_count'])) == (20, 20)


def test_images_that_a_run_was_trained_on_are_noticed(run, workdir):
    _, printed, _ = run(workdir.parent / 'data', '--split=train')
    assert '36 of these images are files that the network was trained on' in printed.out
    _, printed, _ = run(workdir.parent / 'data', '--split=test')
    assert 'trained on' not in printed.out


def test_data_that_changed_since_the_run_is_noticed(run, workdir):
    extra = workdir.parent / 'data/test/red/extra.png'
    shutil.copy(workdir.parent / 'data/test/red/0.png', extra)
    try:
        _, printed, _ = run('--data=config')
    finally:
        extra.unlink()
    assert 'not the images that the run had: 21 then, 22 now' in printed.out


def test_what_is_confused_adds_up(usual):
    written = usual.written
    wrong = sum(row['count'] for row in written['confused'])
    assert wrong == round((1 - written['accuracy']) * written['count']) > 0
    assert all(row['true'] != row['predicted'] for row in written['confused'])
    assert 'predicted as' in usual.printed


def test_the_picture_of_the_confusion_is_drawn(usual):
    with Image.open(usual.folder / 'confusion.png') as picture:
        assert picture.height == 3 * 24 + 1


def test_a_network_without_names_is_shown_with_those_of_the_data(data, workdir):
    nameless = dataclasses.replace(tljax.load(workdir), class_names=None)
    found = labelled_data.read(nameless, str(data), None, BadFiles.ERROR, {})
    assert 'could not be checked' in found.notes[0]
    assert found.class_names == ('blue', 'green', 'red')
    np.testing.assert_array_equal(found.examples.labels, np.repeat([0, 1, 2], 7))


def test_folders_of_imagenet_are_known_by_their_ids(workdir, tmp_path):
    names = published.imagenet_classes()
    network = tljax.load(workdir)
    model = dataclasses.replace(network.model, num_classes=1000)
    network = dataclasses.replace(network, model=model, class_names=names)
    for name in ('n02102040', 'n01440764'):  # springer, tench
        served.draw(tmp_path / name / '0.png', 'red', np.random.default_rng(0))
    found = labelled_data.read(network, str(tmp_path), None, BadFiles.ERROR, {})
    shown = [found.class_names[label] for label in found.examples.labels]
    assert shown == ['tench', names[217]]
    assert 'springer' in names[217]


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        ([], 'wanted either DATA or --data=config'),
        (['there', '--data=config'], 'wanted either DATA or --data=config'),
        (['nowhere'], 'no such folder or file'),
        (['--data=config', '--batch_size=0'], '--batch_size: 0: wanted 1 or more'),
        (['--data=config', '--picture=nowhere/a.png'], 'no folder nowhere'),
        (['--data=config', '--picture=a.xyz'], '--picture=a.xyz'),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(words, reason, run):
    code, printed, _ = run(*words)
    assert code == 2
    assert reason in printed.err
    assert len(printed.err.splitlines()) == 1


def test_only_a_run_has_data_of_its_own(run):
    code, printed, _ = run('--data=config', network='embedded:glyphs')
    assert code == 2
    assert 'embedded:glyphs is not a run' in printed.err
