"""The page of a run: its content, its files, and runs with missing records."""

import csv
import dataclasses
import html.parser
import json
import re
import shutil
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.small_runs import experiment
from tljax.commands import report
from tljax.data.manifest import Manifest
from tljax.records import predictions
from tljax.records.predictions import Predictions
from tljax.training import run
from tljax.training.report import change, comparison, inputs, page, pairs, thumbnails, timing
from tljax.training.report.budget import Budget, of_training
from tljax.training.report.inputs import Inputs
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

CLASSES = ('../up', '<img src=x onerror=alert(1)>', '=cmd()')  # sorted, as those of a list are
NAMES = ('{}.png', '<img onerror=x>{}.png', '=cmd(){}.png')


def pictures(folder):
    """60 noisy images of three classes; the first test image is also a training image."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(60):
        label = number % 3
        image = rng.normal(100, 60, (10 + number % 4, 12, 3)) + 40 * np.eye(3)[label]
        path = NAMES[number // 3 % 3].format(number)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / path)
        lines.append([path, CLASSES[label], 'test' if number % 5 > 2 else 'train'])
    shutil.copy(folder / lines[0][0], folder / lines[3][0])
    with (folder / 'list.csv').open('w', newline='') as file:
        csv.writer(file).writerows([['path', 'label', 'split'], *lines])
    return Manifest(path=str(folder / 'list.csv'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The folder of a run with its page."""
    folder = tmp_path_factory.mktemp('report')
    configured = experiment(data=pictures(folder), epochs=2.0)
    run.train(configured, folder / 'run', show_model=False)
    pages = {'after report=False': (folder / 'run/report.html').exists()}
    pages['asked for'] = page.write(folder / 'run').exists()
    (folder / 'pages.json').write_text(json.dumps(pages))
    return folder / 'run'


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run that a test may damage."""
    shutil.copytree(trained, tmp_path / 'copy')
    return tmp_path / 'copy'


class Reader(html.parser.HTMLParser):
    """Texts, tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.headings = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())
            if self.tags[-1][0] in ('h1', 'h2', 'h3'):
                self.headings.append((self.tags[-1][0], data.strip()))


@pytest.fixture(scope='module')
def read(trained):
    return Reader((trained / 'report.html').read_text())


def missing(path):
    """The notes of a page on missing records."""
    return re.findall(r'class="missing">([^<]*)', path.read_text())


def test_the_page_has_every_part_and_lacks_nothing(trained, read):
    assert [text for tag, text in read.headings if tag == 'h2'] == list(page.PARTS)
    notes = missing(trained / 'report.html')
    assert not [note for note in notes if 'could not be made' in note or 'Left out' in note]
    assert '\ufffd' not in (trained / 'report.html').read_text()  # stands for what no text has


def test_a_part_is_entitled_as_the_list_of_parts_says(trained):
    source = Inputs(TrainedRun(trained))
    for title in ('Result', 'Training', 'Where the time went', 'Classes', 'Confidence'):
        assert page.PARTS[title](source).title == title


def timing_of(folder, **changes):
    """The section on the time of a run whose result.json has these values."""
    path = folder / 'result.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return timing.section(Inputs(TrainedRun(folder)))


def test_the_page_shows_the_time_of_every_stage_and_what_restarts_cost(copied):
    seconds = {'compile': 30.0, 'step': 60.0, 'lost': 10.0}
    record = {'seconds': seconds, 'restarts': 2, 'stopped_seconds': 300.0}
    first, figures = timing_of(copied, wall_time=record).blocks
    assert 'restarted 2 times' in first.text
    assert '5 min' in first.text
    (figure,) = figures.figures
    assert [row[1] for row in figure.rows] == [30, 60, 10]
    assert '60.0' in figure.alt
    record['seconds']['unrecorded'] = 5.0
    assert timing_of(copied, wall_time=record).blocks[-1].style == 'missing'


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [({'wall_time': None}, 'did not record it'), ({'shared': {'cells': []}}, 'in one program')],
)
def test_the_page_says_why_the_time_of_a_run_is_missing(changes, reason, copied):
    with pytest.raises(inputs.MissingError, match=reason):
        timing_of(copied, **changes)


def test_the_page_asks_for_nothing_outside_of_it(read):
    links = [
        v for _, a in read.tags for k, v in a.items() if k in ('src', 'href', 'data', 'action')
    ]
    assert all(link.startswith(('data:', '#')) for link in links)
    assert not any('url(' in text and 'sprite.src' not in text for text in read.texts)


def test_every_image_and_figure_says_what_it_is(read):
    assert all('alt' in a for tag, a in read.tags if tag == 'img')
    figures = [a for tag, a in read.tags if tag == 'svg']
    assert len(figures) > 10
    assert all(a['role'] == 'img' and a['aria-label'] for a in figures)


def test_names_of_classes_and_files_are_shown_as_text(read):
    text = ' '.join(read.texts)
    assert all(name in text for name in CLASSES)
    assert '<img onerror=x>' in text
    assert not any('onerror' in attributes for _, attributes in read.tags)
    assert not any(tag == 'img' and a.get('src') == 'x' for tag, a in read.tags)


def test_formulas_are_neutralised_in_every_csv(trained):
    cells = [
        cell
        for path in (trained / 'figures').glob('*.csv')
        for row in csv.reader(path.read_text().splitlines())
        for cell in row
    ]
    assert any('=cmd()' in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(('=', '+', '@'))]


def test_the_page_is_readable_in_a_browser(trained, chromium):
    assert not chromium.faults(trained / 'report.html')


def test_the_arrow_keys_step_through_the_errors_of_the_map(trained, chromium):
    chromium.open(trained / 'report.html')
    chromium.evaluate("document.querySelector('.plot[tabindex]').focus()")
    press = (
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    chromium.evaluate(press)
    assert 'predicted as' in chromium.evaluate("document.querySelector('.tip .text').textContent")
    assert not chromium.messages()


def test_each_figure_is_a_picture_a_drawing_and_numbers(trained):
    names = {path.stem for path in (trained / 'figures').iterdir()}
    assert {'result', 'confusion', 'map-pca', 'slices', 'cka', 'movement'} <= names
    for name in names:
        xml.etree.ElementTree.parse(trained / f'figures/{name}.svg')
        with Image.open(trained / f'figures/{name}.png') as picture:
            assert picture.width > 400
        assert len((trained / f'figures/{name}.csv').read_text().splitlines()) > 1


def test_the_image_in_two_splits_is_reported(trained, read):
    at = read.texts.index('Images in several splits')
    assert '0.png' in ' '.join(read.texts[at : at + 20])


def test_50_thumbnails_and_the_sprite_of_the_map_take_less_than_3_mb():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (112, 112, 3), np.uint8)
    sheet = Image.fromarray(rng.integers(0, 256, (20 * 40, 20 * 40, 3), np.uint8))
    one = len(thumbnails.data_uri(thumbnails.thumbnail(noise)))
    assert 50 * one + len(thumbnails.data_uri(sheet, 70)) < 2.5e6


def test_a_run_without_predictions_gets_a_page_of_the_rest(copied):
    (copied / 'predictions.npz').unlink()
    result = json.loads((copied / 'result.json').read_text())
    (copied / 'result.json').write_text(
        json.dumps({k: v for k, v in result.items() if k != 'calibration'})
    )
    assert report.main([str(copied)]) == 0
    notes = missing(copied / 'report.html')
    assert sum('predictions.npz' in note for note in notes) >= 5
    assert {'result.svg', 'training-loss.svg', 'movement.svg'} <= {
        path.name for path in (copied / 'figures').iterdir()
    }
    assert not (copied / 'figures/confusion.svg').exists()  # of the page before


def test_a_run_without_its_data_gets_a_page_of_the_rest(copied):
    config = (copied / 'config.json').read_text().replace('list.csv', 'lost.csv')
    (copied / 'config.json').write_text(config)
    page.write(copied)
    assert any('lost.csv' in note for note in missing(copied / 'report.html'))
    assert (copied / 'figures/confusion.svg').exists()


def test_an_unfinished_run_gets_its_curves(copied):
    for name in ('result.json', 'predictions.npz'):
        (copied / name).unlink()
    page.write(copied)
    assert any('result.json' in note for note in missing(copied / 'report.html'))
    assert (copied / 'figures/training-loss.svg').exists()


def test_a_part_that_fails_is_named_and_the_others_stay(copied, monkeypatch):
    def broken(source):
        raise ZeroDivisionError('by <0>')

    monkeypatch.setattr(page, 'PARTS', {'Images': broken, 'Training': page.PARTS['Training']})
    page.write(copied)
    reader = Reader((copied / 'report.html').read_text())
    assert 'This part could not be made: ZeroDivisionError: by <0>' in reader.texts
    assert 'Loss by epoch.' in reader.texts


def test_a_page_without_time_does_not_run_the_network(copied, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('the network ran')

    monkeypatch.setattr(inputs.NetworkPass, 'outputs', refuse)
    page.write(copied, budget=Budget(0.0))
    notes = missing(copied / 'report.html')
    assert not [note for note in notes if 'the network ran' in note]
    assert sum(f'tljax report {copied}' in note for note in notes) >= 3


@pytest.mark.parametrize(('wall', 'seconds'), [(600, 30), (60, 15), (4, 1), (36000, 30)])
def test_a_page_takes_a_share_of_the_run(wall, seconds):
    assert of_training(wall).seconds == pytest.approx(seconds)


def test_report_false_writes_no_page(trained):
    pages = json.loads((trained.parent / 'pages.json').read_text())
    assert pages == {'after report=False': False, 'asked for': True}


def test_a_page_that_cannot_be_written_does_not_fail_the_run(copied, monkeypatch, capsys):
    (copied / 'report.html').unlink()
    monkeypatch.setattr(page.page, 'render', lambda _: 1 / 0)
    page.write_after_training(copied)
    assert 'No report.html: ZeroDivisionError' in capsys.readouterr().out


def test_movement_is_relative_and_0_for_a_frozen_stage():
    start = {'a': {'w': np.full(4, 2.0)}, 'b': {'w': np.ones(3)}, 'c': {'w': np.zeros(2)}}
    end = {'a': {'w': np.full(4, 3.0)}, 'b': {'w': np.ones(3)}, 'c': {'w': np.ones(2)}}
    assert change.movement(start, end) == {'a': 0.5, 'b': 0.0, 'c': np.inf}


def other_run(copied, seed=0):
    """The same run with other predictions of its test images."""
    content = predictions.read(copied / 'predictions.npz')
    rng = np.random.default_rng(seed)
    test = content.splits['test']
    logits = rng.normal(size=test.logits.shape).astype(np.float32)
    splits = {**content.splits, 'test': dataclasses.replace(test, logits=logits)}
    predictions.write(copied / 'predictions.npz', Predictions(content.classes, splits))
    return copied


def test_runs_are_compared_on_the_same_images(trained, copied, tmp_path, capsys):
    other = other_run(copied)
    out = tmp_path / 'both.html'
    assert report.main([str(trained), str(other), f'--out={out}']) == 0
    pair = pairs.difference(Inputs(TrainedRun(trained)), Inputs(TrainedRun(other)))
    reader = Reader(out.read_text())
    cell = f'{100 * pair.difference:+.1f} ({100 * pair.low:+.1f} to {100 * pair.high:+.1f})'
    assert cell in reader.texts
    rows = list(
        csv.DictReader((tmp_path / 'both_figures/differences.csv').read_text().splitlines())
    )
    assert float(rows[0]['low']) == pytest.approx(pair.low, abs=1e-6)
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    'argv', [['nothing_here'], ['a', '--out=x.html'], ['a', '--seconds=0'], []]
)
def test_unusable_arguments_end_in_a_line(argv, capsys):
    assert report.main(argv) == 2
    assert 'Traceback' not in capsys.readouterr().err


def test_a_run_compared_with_itself_is_refused(trained):
    with pytest.raises(InputError, match='twice'):
        comparison.write([trained, trained], trained / 'x.html')


def test_a_saliency_map_is_drawn_from_its_least_to_its_largest_value():
    image = np.full((8, 8, 3), 128, np.uint8)
    heat = np.full((2, 2), 0.9)
    heat[0, 0] = 1.0
    picture = np.asarray(thumbnails.heated(image, heat, 16), int).sum(-1)
    assert picture[0, 0] > picture[-1, -1] + 100
    even = np.asarray(thumbnails.heated(image, np.ones((2, 2)), 16))
    assert np.ptp(even.reshape(-1, 3), axis=0).max() == 0
