"""`tljax predict`: the predictions of a network on images."""

import csv
import json
import runpy
import shutil
import sys

import numpy as np
import pytest

import tljax
from tljax.commands import predict as command
from tljax.data import decode, unlabelled
from tljax.metrics import out_of_distribution
from tljax.models.views import NAMED
from tljax.training import prediction
from tljax.training.robustness import subject, unfamiliar

OTHER_VIEWS = sorted(set(NAMED) - {'centre'})


@pytest.fixture(scope='module')
def workdir(served_run):
    return served_run


@pytest.fixture(scope='module')
def network(workdir):
    return tljax.load(workdir)


@pytest.fixture
def images(workdir, tmp_path):
    """A copy of the test images, in folders of their classes."""
    return shutil.copytree(workdir.parent / 'data/test', tmp_path / 'images')


@pytest.fixture
def run(workdir, capsys):
    def run(*words):
        code = command.main([str(workdir), *map(str, words)])
        return code, capsys.readouterr()

    return run


def probabilities(network, paths, views='centre'):
    return network.predict([decode.read_image(path) for path in paths], views=NAMED[views])


def read_csv(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    'views', ['centre', *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_VIEWS)]
)
def test_a_folder_is_predicted_as_in_python(views, run, images, tmp_path, network):
    out = tmp_path / 'out.csv'
    code, printed = run(images, f'--out={out}', f'--views={views}')
    assert code == 0, printed.err
    rows = read_csv(out)
    paths = sorted(images.rglob('*.png'))
    assert [row['path'] for row in rows] == list(map(str, paths))
    found = [[float(row[f'p_{name}']) for name in network.class_names] for row in rows]
    wanted = probabilities(network, paths, views)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    likeliest = [network.class_names[i] for i in wanted.argmax(1)]
    assert [row['predicted'] for row in rows] == likeliest


def test_views_unlike_the_training_crops_give_a_warning(run, images):
    _, printed = run(images / 'red/0.png', '--views=ten_crop')
    assert 'Warning: training cut no crops' in printed.err
    _, printed = run(images / 'red/0.png', '--views=flip')
    assert not printed.err


def test_json_lines_have_the_probabilities_by_class(run, images, tmp_path, network):
    out = tmp_path / 'out.jsonl'
    run(images / 'red', f'--out={out}')
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    wanted = probabilities(network, sorted((images / 'red').iterdir()))
    for row, one in zip(rows, wanted, strict=True):
        assert row['probabilities'] == pytest.approx(
            dict(zip(network.class_names, one.tolist(), strict=True)), abs=1e-6
        )


def test_the_most_probable_classes_of_each_image_are_printed(run, images, network):
    code, printed = run(images / 'red/0.png', images / 'blue/0.png', '--top=2')
    assert code == 0
    wanted = probabilities(network, [images / 'red/0.png', images / 'blue/0.png'])
    for line, row in zip(printed.out.splitlines(), wanted, strict=True):
        best = np.argsort(-row)[:2]
        cells = [text for i in best for text in (network.class_names[i], f'{row[i]:.1%}')]
        assert line.split()[1:] == cells


def test_bad_files_are_reported_and_the_others_predicted(run, images, tmp_path):
    (images / 'green/2.png').write_bytes(b'')
    middle = images / 'green/4.png'
    content = bytearray(middle.read_bytes())
    content[200:260] = bytes(60)
    middle.write_bytes(content)
    out = tmp_path / 'out.csv'
    code, printed = run(images, images / 'nowhere.png', f'--out={out}')
    assert code == 1
    reported = [line.split(': ')[1] for line in printed.err.splitlines()]
    bad = [images / 'green/2.png', images / 'nowhere.png', middle]
    assert sorted(reported) == sorted(map(str, bad))
    good = [path for path in sorted(images.rglob('*.png')) if path not in bad]
    assert [row['path'] for row in read_csv(out)] == list(map(str, good))


def test_rows_after_a_bad_file_are_those_of_their_images(run, images, tmp_path, network):
    """A row that is left out must not move the others."""
    path = images / 'blue/1.png'
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    out = tmp_path / 'out.csv'
    run(images, f'--out={out}', '--batch_size=4')
    last = read_csv(out)[-1]
    wanted = probabilities(network, [images / 'red/6.png'])[0]
    assert last['path'] == str(images / 'red/6.png')
    assert float(last['p_red']) == pytest.approx(wanted[2], abs=1e-6)


def test_bad_files_can_be_an_error(run, images, tmp_path):
    (images / 'green/2.png').write_bytes(b'')
    out = tmp_path / 'out.csv'
    code, printed = run(images, '--bad_files=error', f'--out={out}')
    assert code == 2
    assert f'{images}/green/2.png: it is empty' in printed.err
    assert not out.exists()


def test_an_error_leaves_no_partial_output_file(run, images, tmp_path):
    path = images / 'green/4.png'
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    code, _ = run(images, '--bad_files=error', f'--out={tmp_path / "out.csv"}')
    assert code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_only_bad_files_are_an_error(run, tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    code, printed = run(tmp_path / 'a.png')
    assert code == 2
    assert 'error: none of the 1 images can be read' in printed.err


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('list.csv', 'path,label\nred/1.png,red\nblue/0.png,blue\n'),
        ('list.jsonl', '{"path": "red/1.png"}\n\n{"path": "blue/0.png", "label": 1}\n'),
        ('list.txt', 'red/1.png\n\nblue/0.png\n'),
    ],
)
def test_a_list_names_images_relative_to_itself(name, text, images):
    (images / name).write_text(text)
    found = unlabelled.read([str(images / name)])
    assert list(map(str, found.encoded)) == [f'{images}/red/1.png', f'{images}/blue/0.png']


@pytest.mark.parametrize(
    ('name', 'text'),
    [('list.csv', 'file\na.png\n'), ('list.jsonl', 'a.png\n'), ('list.jsonl', '["a.png"]\n')],
)
def test_a_list_that_cannot_be_read_is_an_error_of_one_line(name, text, run, tmp_path):
    (tmp_path / name).write_text(text)
    code, printed = run(tmp_path / name)
    assert code == 2
    assert f'{tmp_path / name}: ' in printed.err
    assert len(printed.err.splitlines()) == 1


def test_an_image_that_is_named_twice_is_predicted_once(images):
    found = unlabelled.read([str(images / 'red'), str(images / 'red/0.png')])
    assert len(found) == 7


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        (['--top=0'], '--top: 0: wanted 1 or more'),
        (['--out=a.xlsx'], '--out is a.xlsx, wanted one of .csv, .jsonl'),
        (['--out=nowhere/a.csv'], 'nowhere/a.csv'),
    ],
)
def test_a_flag_that_cannot_be_used_is_an_error_of_one_line(words, reason, run, images):
    code, printed = run(images, *words)
    assert code == 2
    assert reason in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_folder_without_images_is_an_error(run, tmp_path):
    code, printed = run(tmp_path)
    assert code == 2
    assert f'no image in {tmp_path}' in printed.err


def test_images_are_decoded_as_predictions_are_consumed(images, network, monkeypatch):
    decoded = []
    real = decode.decode_resized
    monkeypatch.setattr(decode, 'decode_resized', lambda *a: decoded.append(a[1]) or real(*a))
    many = unlabelled.read([str(images)]).take(np.tile(np.arange(21), 10))
    rows = prediction.predict(network, many, NAMED['centre'], 4)
    next(rows)
    assert len(decoded) <= 4 * (1 + 2 * 4)  # a batch, and two for each thread that reads ahead
    assert sum(1 for _ in rows) == 209


def test_with_an_output_file_only_the_first_images_are_printed(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, 'PRINT_LIMIT', 2)
    out = tmp_path / 'out.jsonl'
    _, printed = run(images, f'--out={out}')
    assert printed.out.splitlines()[2:] == [f'{out}: 21 images']
    _, printed = run(images)
    assert len(printed.out.splitlines()) == 21


def test_the_module_can_be_run(workdir, images, monkeypatch, capsys):
    image = str(images / 'red/0.png')
    monkeypatch.setattr(sys, 'argv', ['tljax', 'predict', str(workdir), image])
    monkeypatch.delitem(sys.modules, 'tljax.__main__', raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module('tljax', run_name='__main__')
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(image)


@pytest.mark.parametrize('name', ['energy', 'knn'])
def test_out_of_distribution_scores_come_with_the_threshold_of_the_run(
    name, workdir, run, images, tmp_path
):
    out = tmp_path / 'out.jsonl'
    code, printed = run(images, f'--ood={name}', f'--out={out}')
    assert code == 0, printed.err
    rows = [json.loads(line)['ood'] for line in out.read_text().splitlines()]
    one = subject.read(workdir)
    wanted = unfamiliar.detector(one, name)
    assert {row['threshold'] for row in rows} == {wanted.threshold}
    assert all(row['out_of_distribution'] == (row['score'] < wanted.threshold) for row in rows)
    test = one.predict(one.data('test').examples, features=True)
    scores = wanted.scorer.score(name, test.logits, test.features)
    assert [row['score'] for row in rows] == pytest.approx(scores.tolist(), abs=1e-5)
    assert f'{name} ' in printed.out


def test_scores_in_csv_have_columns_of_their_own(run, images, tmp_path):
    out = tmp_path / 'out.csv'
    assert run(images, '--ood=energy', f'--out={out}')[0] == 0
    rows = read_csv(out)
    assert [*rows[0]][-3:] == ['ood_score', 'ood_threshold', 'out_of_distribution']
    for row in rows:
        below = float(row['ood_score']) < float(row['ood_threshold'])
        assert row['out_of_distribution'] == ('true' if below else 'false')


def test_a_score_with_several_views_is_refused(run, images):
    code, printed = run(images, '--ood=energy', '--views=flip')
    assert code == 2
    assert '--ood computes the score of one view, wanted --views=centre, not flip' in printed.err


def test_the_command_names_every_score():
    assert set(command.OOD_SCORES) == set(out_of_distribution.SCORES)
