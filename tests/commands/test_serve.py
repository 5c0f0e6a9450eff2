"""`tljax serve`: what the server answers to photographs, hostile files and other sites."""

import concurrent.futures
import contextlib
import dataclasses
import http.client
import io
import json
import os
import pathlib
import shutil
import struct
import tempfile
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

import tljax
from tests import browser
from tljax.commands import predict
from tljax.commands import serve as command
from tljax.data import decode
from tljax.data.files import ImageFile
from tljax.records.figures.axes import share_text
from tljax.training.report.network_pass import NetworkPass
from tljax.training.serving import application, server, uploads
from tljax.training.serving.predictor import Predictor
from tljax.training.serving.program import Program

wasyncore = pytest.importorskip('waitress.wasyncore')
MOST_BYTES = 2_000_000


@pytest.fixture(scope='module')
def predictor(served_run):
    return server.read(served_run, 1000, 'knn')


@pytest.fixture(scope='module')
def app(predictor):
    return application.make(predictor, 'Predictions of run', '127.0.0.1', MOST_BYTES)


@pytest.fixture
def send(app):
    """Sends a body to the application; returns the status and the answer."""

    def send(data, **headers):
        response = app.test_client().post('/predict', data=data, headers=headers)
        return response.status_code, response.json

    return send


@contextlib.contextmanager
def listening(app):
    """A server of the application at a free port of this machine, in a thread."""
    waiting = server.listening(app, '127.0.0.1', 0, MOST_BYTES)
    thread = threading.Thread(target=waiting.run)
    thread.start()
    try:
        yield waiting.effective_port
    finally:
        # The loop ends once nothing is left to wait for.
        waiting.trigger.pull_trigger(lambda: wasyncore.close_all(waiting._map, ignore_all=True))
        thread.join(10)
        waiting.task_dispatcher.shutdown()
    assert not thread.is_alive()


def post(port, data, **headers):
    """The status and the body of the answer to an image that is sent over a socket."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    with contextlib.closing(connection):
        connection.request('POST', '/predict', body=data, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


def encoded(image, kind='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(side=24, mode='RGB'):
    values = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def chunk(kind, content):
    return struct.pack('>I', len(content)) + kind + content + struct.pack(
        '>I', zlib.crc32(kind + content)
    )  # fmt: skip


def png_header(width, height, content=b''):
    """A PNG of gray pixels that states its size, and has this content."""
    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    start = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
    return start + chunk(b'IDAT', content) + chunk(b'IEND', b'')


@pytest.mark.parametrize('color', ['red', 'green', 'blue'])
def test_a_photograph_is_predicted_as_by_the_network(send, served_run, color):
    path = served_run.parent / f'data/test/{color}/0.png'
    status, answer = send(path.read_bytes())
    network = tljax.load(served_run)
    assert network.temperature not in (None, 1.0)
    wanted = dict(zip(network.class_names, network.predict(path)[0].tolist(), strict=True))
    assert status == 200
    assert answer['probabilities'] == pytest.approx(wanted, abs=1e-6)
    assert answer['headline'] == max(wanted, key=wanted.get)
    shares = [one['probability'] for one in answer['top']]
    assert shares == sorted(wanted.values(), reverse=True) == pytest.approx(shares)
    assert [one['text'] for one in answer['pictures']] == ['what the network sees', 'Grad-CAM']


@pytest.mark.parametrize(
    'data',
    [
        encoded(noise(mode='CMYK'), 'JPEG'),
        encoded(noise(mode='L')),
        encoded(noise(mode='RGBA')),
        encoded(noise(mode='P')),
        encoded(noise(), 'GIF', save_all=True, append_images=[Image.new('RGB', (24, 24), 'red')]),
        encoded(Image.new('RGB', (1, 3000), 'blue')),
    ],
    ids=['CMYK', 'gray', 'transparent', 'palette', 'animated', 'narrow'],
)
def test_unusual_images_are_predicted(send, data):
    status, answer = send(data)
    assert status == 200
    assert sum(answer['probabilities'].values()) == pytest.approx(1, abs=1e-5)


def test_a_photograph_is_turned_upright(send):
    image = noise()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert send(turned)[1] == send(encoded(image))[1]


def hostile():
    """Files with the status that answers each."""
    whole = encoded(noise(64))
    jpeg = encoded(noise(64), 'JPEG')
    return {
        'empty': (b'', 422),
        'text': (b'hello', 415),
        'HTML': (b'<!doctype html><script>alert(1)</script>', 415),
        'SVG': (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415),
        'EPS': (encoded(noise(), 'EPS'), 415),
        'truncated PNG': (whole[: len(whole) // 2], 422),
        'truncated JPEG': (jpeg[: len(jpeg) // 2], 422),
        'start of a JPEG': (jpeg[:20], 415),
        'bomb': (png_header(30_000, 30_000, zlib.compress(bytes(900_000))), 413),
        'too many pixels': (png_header(8_000, 8_000, zlib.compress(bytes(8_001 * 8_000))), 413),
        'largest size': (png_header(2**31 - 1, 2**31 - 1), 413),
        'no pixels': (png_header(0, 0), 415),
        'pixels of another size': (png_header(500, 500, zlib.compress(b'12')), 422),
        'deep gray': (encoded(Image.fromarray(np.ones((9, 9), np.uint16))), 422),
        'too many bytes': (bytes(MOST_BYTES + 1), 413),
    }


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('name', hostile())
def test_a_hostile_file_is_answered_with_one_line(send, name):
    data, wanted = hostile()[name]
    status, answer = send(data)
    assert (status, list(answer)) == (wanted, ['error'])
    assert answer['error']
    assert '\n' not in answer['error']
    assert 'Traceback' not in answer['error']


def test_an_unexpected_failure_shows_nothing_of_the_server(predictor, send, monkeypatch):
    def fail(data):
        raise RuntimeError('/secret/path')

    monkeypatch.setattr(predictor, 'answer', fail)
    status, answer = send(encoded(noise()))
    assert status == 500
    assert 'secret' not in answer['error']


@pytest.mark.parametrize(
    ('named', 'status'),
    [
        ('127.0.0.1:8000', 200),
        ('localhost:9', 200),
        ('[::1]:8000', 200),
        ('evil.example', 421),
        ('localhost.evil.example:8000', 421),
        ('127.0.0.1.evil.example', 421),
        ('', 421),
    ],
)
def test_only_requests_that_name_this_machine_are_answered(app, named, status):
    assert app.test_client().get('/', headers={'Host': named}).status_code == status


def test_a_request_from_a_page_of_another_site_is_refused(send):
    data = encoded(noise())
    assert send(data, Host='localhost:8000', Origin='http://localhost:8000')[0] == 200
    assert send(data, Host='localhost:8000', Origin='https://evil.example')[0] == 403
    assert send(data, Host='localhost:8000', Origin='null')[0] == 403


def test_an_unknown_address_is_answered_in_one_line(app):
    client = app.test_client()
    assert client.get('/../secret').status_code == 404
    assert client.get('/predict').status_code == 405
    assert client.get('/predict').json == {'error': 'Method Not Allowed'}


def test_the_policy_permits_only_the_scripts_of_the_page(app):
    response = app.test_client().get('/')
    policy = response.headers['Content-Security-Policy']
    assert "default-src 'none'" in policy
    assert 'unsafe' not in policy
    assert policy == application.content_security_policy(response.text)
    assert policy.count('sha256-') == 2
    assert ' style="' not in response.text
    assert ' onclick' not in response.text


def test_a_hundred_requests_at_once_are_computed_one_after_another(app, predictor, monkeypatch):
    at_once, most = [], []
    decoded = uploads.decoded

    def counted(*arguments):
        at_once.append(1)
        most.append(len(at_once))
        try:
            return decoded(*arguments)
        finally:
            at_once.pop()

    monkeypatch.setattr(uploads, 'decoded', counted)
    images = [encoded(noise(8 + i)) for i in range(100)]
    with listening(app) as port, concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda image: post(port, image), images))
    assert {status for status, _ in answers} == {200}
    assert max(most) == 1
    for image, (_, body) in list(zip(images, answers, strict=True))[::20]:
        assert json.loads(body) == predictor.answer(image)


def test_no_file_of_the_user_is_written_to_disk(app, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError('a temporary file')

    for name in ('TemporaryFile', 'NamedTemporaryFile', 'SpooledTemporaryFile', 'mkstemp'):
        monkeypatch.setattr(tempfile, name, refuse)
    large = encoded(noise(700))
    assert len(large) > 1_000_000  # waitress would write half of it to a file
    with listening(app) as port:
        assert post(port, large)[0] == 200
        form = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../x.png"\r\n'
            b'Content-Type: image/png\r\n\r\n' + large + b'\r\n--x--\r\n'
        )
        assert post(port, form, **{'Content-Type': 'multipart/form-data; boundary=x'})[0] == 415
        assert post(port, bytes(MOST_BYTES + 1))[0] == 413


def test_a_training_image_is_its_own_nearest_one(send, served_run):
    path = served_run.parent / 'data/train/green/3.png'
    nearest = send(path.read_bytes())[1]['nearest']
    assert len(nearest) == 5
    assert (nearest[0]['label'], nearest[0]['path']) == ('green', 'train/green/3.png')
    distances = [one['distance'] for one in nearest]
    assert distances == sorted(distances)
    assert distances[0] < 1e-3 < distances[1]
    assert all(one['source'].startswith('data:image/jpeg;base64,') for one in nearest)


@pytest.fixture(scope='module')
def scores(served_run, tmp_path_factory):
    """The out-of-distribution scores of `tljax predict` for test and unlike images."""
    folder = tmp_path_factory.mktemp('images')
    for color in ('black', 'lime', 'magenta', 'white', 'yellow'):
        Image.new('RGB', (12, 12), color).save(folder / f'{color}.png')
    out = folder / 'out.jsonl'
    images = [folder, served_run.parent / 'data/test/blue']
    assert predict.main([str(served_run), *map(str, images), '--ood=knn', f'--out={out}']) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_images_unlike_those_of_training_are_marked_as_by_predict(send, scores):
    marks = set()
    for one in scores:
        answer = send(pathlib.Path(one['path']).read_bytes())[1]
        assert answer['ood'].pop('score') == pytest.approx(one['ood'].pop('score'), abs=1e-4)
        assert answer['ood'].pop('threshold') == pytest.approx(
            one['ood'].pop('threshold'), abs=1e-4
        )
        assert answer['ood'] == one['ood']
        marks.add(answer['ood']['out_of_distribution'])
    assert marks == {False, True}


def test_grad_cam_is_that_of_the_page_of_a_run(predictor, served_run):
    network = tljax.load(served_run)
    program = Program(network)
    image = decode.load_resized(
        ImageFile(served_run.parent / 'data/test/red/0.png'), network.model.images
    )
    outputs = program(image)
    pages = NetworkPass(network.model)
    maps = pages.outputs(network.params, network.stats, image[None], maps=True).maps
    chosen = outputs.outputs.argmax()[None].astype(np.int32)
    heat = pages.grad_cam(network.params, network.stats, maps, chosen)
    assert np.ptp(heat) > 0
    np.testing.assert_allclose(outputs.heat, heat[0], rtol=1e-4, atol=1e-6)


def test_without_its_data_a_run_is_served_and_says_what_is_missing(served_run, tmp_path):
    run = shutil.copytree(served_run, tmp_path / 'run')
    config = run / 'config.json'
    config.write_text(config.read_text().replace(str(served_run.parent / 'data'), '/nowhere'))
    predictor = server.read(run, 1000, 'knn')
    answer = predictor.answer(encoded(noise()))
    assert (answer['ood'], answer['nearest']) == (None, [])
    assert len(answer['pictures']) == 2
    missing = [note for note in predictor.notes if '/nowhere' in note or 'training images' in note]
    assert missing[0].startswith('The nearest training images are missing: ')
    assert missing[1].startswith('No image is marked as unlike the training images: ')


def test_without_training_images_only_scores_of_logits_mark_images(served_run):
    without = server.read(served_run, 0, 'knn')
    assert any('--training_images is 0' in note for note in without.notes)
    assert any('knn needs training images' in note for note in without.notes)
    answer = server.read(served_run, 0, 'energy').answer(encoded(noise()))
    assert answer['ood']['name'] == 'energy'
    assert answer['nearest'] == []


def test_probabilities_without_a_temperature_are_said_to_be_uncalibrated(served_run):
    network = dataclasses.replace(tljax.load(served_run), temperature=None)
    assert 'not calibrated' in Predictor(network, None).notes[0]


def main(capsys, *words):
    code = command.main(list(map(str, words)))
    return code, capsys.readouterr()


def test_a_folder_that_is_no_finished_run_is_refused(capsys, tmp_path):
    code, printed = main(capsys, tmp_path)
    assert code == 2
    assert printed.err.count('\n') == 1


def test_an_address_in_use_is_refused(capsys, served_run, app):
    with listening(app) as port:
        code, printed = main(capsys, served_run, f'--port={port}')
    assert code == 2
    assert 'in use' in printed.err


@pytest.mark.parametrize(('host', 'warns'), [('127.0.0.1', False), ('0.0.0.0', True)])
def test_a_host_that_others_reach_prints_a_warning(capsys, served_run, monkeypatch, host, warns):
    started = []

    def start(arguments):
        waiting = listening_nowhere(arguments.host)
        started.append(waiting)
        return waiting

    monkeypatch.setattr(server, 'start', start)
    code, printed = main(capsys, served_run, f'--host={host}', '--port=0')
    assert code == 0
    assert ('reachable from other machines' in printed.err) is warns
    assert f'http://{host}:1/' in printed.out


class listening_nowhere:  # noqa: N801
    """Stands for a server that is interrupted at once."""

    effective_port = 1

    def __init__(self, host):
        self.host = host

    def run(self):
        """Ends."""


def test_the_default_host_is_reached_from_this_machine_only():
    assert server.is_loopback(command.parser().read(['RUN']).host)
    assert not server.is_loopback('0.0.0.0')
    assert not server.is_loopback('example.com')


def navigate(page, port):
    """Opens the page of a server."""
    page.events.clear()
    page.call('Page.navigate', url=f'http://127.0.0.1:{port}/')
    while not any(one.get('method') == 'Page.loadEventFired' for one in page.events):
        page.events.append(page._receive())


def choose(page, *paths):
    """Chooses files in the page's field, and waits for their results."""
    before = page.evaluate("document.querySelectorAll('article').length")
    root = page.call('DOM.getDocument')['root']['nodeId']
    node = page.call('DOM.querySelector', nodeId=root, selector='#files')['nodeId']
    page.call('DOM.setFileInputFiles', nodeId=node, files=[str(path) for path in paths])
    wait(page, before + len(paths))


def drop(page, *paths):
    """Drops files on the page as a user does, and waits for their results."""
    before = page.evaluate("document.querySelectorAll('article').length")
    data = {'items': [], 'files': [str(path) for path in paths], 'dragOperationsMask': 1}
    for kind in ('dragEnter', 'dragOver', 'drop'):
        page.call('Input.dispatchDragEvent', type=kind, x=100, y=200, data=data)
    wait(page, before + len(paths))


def wait(page, count):
    """Waits until this many results are shown."""
    done = "document.querySelectorAll('article:not([aria-busy])').length"
    end = time.monotonic() + browser.SECONDS
    while page.evaluate(done) < count:
        assert time.monotonic() < end, page.evaluate('document.body.innerText')
        time.sleep(0.05)


def is_unlike(predictor, data):
    """Whether an image is marked as unlike those of training."""
    return predictor.answer(data)['ood']['out_of_distribution']


@pytest.mark.slow
def test_photographs_that_are_dropped_on_the_page_are_shown_with_their_predictions(
    app, predictor, served_run, chromium, tmp_path
):
    photos = sorted((served_run.parent / 'data/train/red').iterdir())
    photo = next(x for x in photos if not is_unlike(predictor, x.read_bytes()))
    named = tmp_path / ('<img src=x onerror=console.error(1)>' + 'W' * 80 + '.png')
    named.write_bytes(photo.read_bytes())
    bad = tmp_path / 'bad.jpg'
    bad.write_bytes(b'<html>')
    large = tmp_path / 'large.png'
    large.write_bytes(bytes(MOST_BYTES + 1))
    colors = ('black', 'lime', 'magenta', 'white', 'yellow')
    solid = {color: encoded(Image.new('RGB', (12, 12), color)) for color in colors}
    unlike = tmp_path / 'unlike.png'
    unlike.write_bytes(next(x for x in solid.values() if is_unlike(predictor, x)))
    faults = []
    with listening(app) as port:
        chromium.show(browser.LOOKS[0])
        navigate(chromium, port)
        drop(chromium, named)
        wrong = chromium.messages()
        choose(chromium, unlike, photo, bad, large)
        for look in [look for look in browser.LOOKS if not look.printed]:
            chromium.show(look)
            faults += chromium.evaluate(browser.OVERFLOW) + chromium.evaluate(browser.LOW_CONTRAST)
            if folder := os.environ.get('TLJAX_SCREENSHOTS'):
                kind = 'dark' if look.dark else 'light'
                chromium.screenshot(pathlib.Path(folder) / f'serve_{look.width}_{kind}.png')
    assert faults == []
    assert wrong == []
    asked = {url.rpartition('/')[2] for url in chromium.requests()}
    assert asked == {'predict'}
    titles = chromium.evaluate("[...document.querySelectorAll('article h2')].map(e => e.innerText)")
    assert titles == ['large.png', 'bad.jpg', photo.name, unlike.name, named.name]
    texts = chromium.evaluate("[...document.querySelectorAll('article')].map(e => e.innerText)")
    assert 'MB, wanted at most' in texts[0]
    assert 'is not an image' in texts[1]
    assert texts[2].removeprefix(photo.name) == texts[4].removeprefix(named.name)
    best = tljax.load(served_run).predict(photo)[0].max()
    assert share_text(best) in texts[2].replace(' %', '\u00a0%')
    assert 'Like the training images: knn' in texts[2]
    assert 'Unlike anything in training: knn' in texts[3]
    shown = "[...document.querySelectorAll('article img')].map(e => e.naturalWidth > 100)"
    assert chromium.evaluate(shown) == [True] * 3 * (2 + 5)
