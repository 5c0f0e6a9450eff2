"""Weights of a hub's repositories, against a hub on this machine."""

import hashlib
import http.server
import json
import sys
import threading
import urllib.parse

import jax
import numpy as np
import pytest
import safetensors.numpy

import tljax
from tests import golden_small
from tljax import tree
from tljax.models import port, stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.types import InputError, Interpolation, Preprocessing
from tljax.weights import hub, hub_config, hub_repository

COMMIT = '0123456789abcdef0123456789abcdef01234567'


def state_dict():
    """A small network's entries under its library's names."""
    params, stats = stages.shapes(stages.build(ResNetSmall(), 3))
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    zeros = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in leaves.items()}
    foreign = port.to_foreign(zeros, ResNetSmall().port_tables()['akamaster'])
    return {name: golden_small.tensor(name, array.shape) for name, array in foreign.items()}


WEIGHTS = safetensors.numpy.save(state_dict())
CONFIG = {'id2label': {'1': 'dog', '0': 'cat', '2': 'owl'}}
PREPROCESSOR = {
    'size': {'shortest_edge': 36},
    'do_center_crop': True,
    'crop_size': {'height': 32, 'width': 32},
    'resample': 3,
    'image_mean': [0.5, 0.5, 0.5],
    'image_std': [0.25, 0.25, 0.25],
}
WHOLE = {
    'model.safetensors': WEIGHTS,
    'config.json': json.dumps(CONFIG).encode(),
    'preprocessor_config.json': json.dumps(PREPROCESSOR).encode(),
    'README.md': b"---\nlicense: 'mit' # as the code\ntags:\n- vision\n---\n# A network\n",
}
PARTS = [f'model-0000{i}-of-00002.safetensors' for i in (1, 2)]
SPLIT = [dict(sorted(state_dict().items())[i::2]) for i in range(2)]
HALVES = {
    **{name: safetensors.numpy.save(some) for name, some in zip(PARTS, SPLIT, strict=True)},
    'model.safetensors.index.json': json.dumps(
        {'weight_map': {n: part for part, some in zip(PARTS, SPLIT, strict=True) for n in some}}
    ).encode(),
}
REPOSITORIES = {
    'org/whole': WHOLE,
    'org/bare': {'weights.safetensors': WEIGHTS},
    'org/two': {'a.safetensors': WEIGHTS, 'b.safetensors': WEIGHTS},
    'org/parts': {
        'model-00001-of-00002.safetensors': WEIGHTS,
        'model-00002-of-00002.safetensors': b'\0',
        'model.safetensors.index.json': b'{}',
    },
    'org/halves': HALVES,
    'org/page': {'model.safetensors': b'<html>Please sign in</html>'},
    'org/damaged': {'model.safetensors': WEIGHTS},
    'org/cut': {'model.safetensors': WEIGHTS},
    'org/odd': {'model.safetensors': WEIGHTS, 'config.json': b'no json'},
    'org/list': {'model.safetensors': WEIGHTS, 'config.json': b'[]'},
    'org/busy': WHOLE,
    'org/folders': WHOLE | {'b/model.safetensors': WEIGHTS, 'b/config.json': b'{"b": 1}'},
}  # fmt: skip


class Handler(http.server.BaseHTTPRequestHandler):
    """The few addresses of a hub that its library asks for.

    As on the hub, a large file is known by its SHA-256 and leads elsewhere; a small one is known
    by git's sum of it.
    """

    protocol_version = 'HTTP/1.1'

    def do_HEAD(self):
        """What is known of a file."""
        self.answer(with_body=False)

    def do_GET(self):
        """A file, or the list of a repository's files."""
        self.answer(with_body=True)

    def answer(self, *, with_body):
        """One answer; every request is remembered."""
        self.server.asked.append(self.path)
        self.server.tokens.append((self.path, self.headers.get('Authorization')))
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip('/').split('/')
        if self.server.is_portal:
            self.send(b'<html>Please sign in</html>')
            return
        if parts[:2] == ['api', 'models']:
            self.list_files('/'.join(parts[2:4]))
            return
        if parts[0] == 'elsewhere':
            self.send_body('/'.join(parts[1:3]), REPOSITORIES['/'.join(parts[1:3])], parts[3:])
            return
        repo, revision, name = '/'.join(parts[:2]), parts[3], '/'.join(parts[4:])
        if repo == 'org/gated':
            self.fail(403, 'GatedRepo')
        elif repo not in REPOSITORIES:
            self.fail(404, 'RepoNotFound')
        elif revision not in ('main', 'v1', COMMIT, 'refs'):
            self.fail(404, 'RevisionNotFound')
        elif name.removeprefix('pr/1/') not in REPOSITORIES[repo]:
            self.fail(404, 'EntryNotFound')
        elif repo == 'org/busy' and name == 'config.json':
            self.fail(503, 'Busy')
        else:
            self.send_file(repo, name.removeprefix('pr/1/'), with_body=with_body)

    def fail(self, status, code):
        self.send_response(status)
        self.send_header('X-Error-Code', code)
        self.send_header('X-Error-Message', code)
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def send_file(self, repo, name, *, with_body):
        body = REPOSITORIES[repo][name]
        large = name.endswith('.safetensors')
        self.send_response(302 if large else 200)
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{hashlib.sha1(body).hexdigest()}"')
        if large:
            self.send_header('X-Linked-Etag', f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header('X-Linked-Size', str(len(body)))
            host = self.server.url.replace('127.0.0.1', 'localhost')
            self.send_header('Location', f'{host}/elsewhere/{repo}/{name}')
        self.send_header('Content-Length', '0' if large else str(len(body)))
        self.end_headers()
        if with_body and not large:
            self.wfile.write(body)

    def send_body(self, repo, files, name):
        """A large file, from where it lies."""
        body = files['/'.join(name)]
        if repo == 'org/damaged':
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.close_connection = repo == 'org/cut'
        self.send(body, sent=1000 if repo == 'org/cut' else None)

    def send(self, body, sent=None):
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(body[:sent])

    def list_files(self, repo):
        if repo not in REPOSITORIES:
            self.fail(*((403, 'GatedRepo') if repo == 'org/gated' else (401, 'RepoNotFound')))
            return
        files = REPOSITORIES[repo]
        entries = [
            {'type': 'file', 'path': name, 'size': len(body), 'oid': '0' * 40}
            for name, body in files.items()
        ]
        siblings = [{'rfilename': name} for name in files]
        about = {'id': repo, 'sha': COMMIT, 'siblings': siblings}
        body = json.dumps(entries if '/tree/' in self.path else about).encode()
        self.send(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub on this machine, and a cache folder of the test's own."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('HF_HUB_DISABLE_XET', '1')
    for name in ('TLJAX_OFFLINE', 'HF_HUB_OFFLINE', 'HF_TOKEN'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('time.sleep', lambda _seconds: None)  # between the library's attempts
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        httpd.asked, httpd.tokens, httpd.is_portal = [], [], False
        httpd.url = f'http://127.0.0.1:{httpd.server_port}'
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv('HF_ENDPOINT', httpd.url)
        yield httpd
        httpd.shutdown()


@pytest.mark.parametrize(
    ('spec', 'parts'),
    [
        ('hf:timm/resnet50.a1_in1k', ('timm/resnet50.a1_in1k', None, None)),
        ('hf:org/name@main', ('org/name', 'main', None)),
        ('hf:org/name/sub/model.bin', ('org/name', None, 'sub/model.bin')),
        ('hf:org/name@v1.0/model.bin', ('org/name', 'v1.0', 'model.bin')),
        ('hf:org/name@refs/pr/3/sub/model.bin', ('org/name', 'refs/pr/3', 'sub/model.bin')),
    ],
)
def test_a_spec_is_read_part_by_part(spec, parts):
    found = hub_repository.parse(spec)
    assert (found.repo, found.revision, found.file) == parts


@pytest.mark.parametrize(
    'spec',
    [
        *('hf:', 'hf:name', 'hf:a/b@', 'hf:a/b/', 'hf:a b/c', 'hf:/a/b', 'a/b'),
        *('hf:a/b@refs/x', 'hf:a/b//c', 'hf:a/b/../c', 'hf:../b', 'hf:a/b@../c'),
    ],
)
def test_a_spec_of_another_form_is_answered_with_the_form(spec):
    with pytest.raises(InputError, match=r'wanted hf:<owner>/<name>\[@revision\]\[/file\]'):
        hub_repository.parse(spec)


def test_a_repository_gives_a_network_with_all_that_it_says_of_it(server):
    network = tljax.load('hf:org/whole')
    assert network.backbone == ResNetSmall()
    assert network.class_names == ('cat', 'dog', 'owl')
    assert network.origin.licence == 'mit'
    assert network.preprocessing == Preprocessing(
        size_px=32,
        resize_px=36,
        interpolation=Interpolation.BICUBIC,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    wanted = tljax.load(state_dict())
    values = ((n.params, n.stats) for n in (network, wanted))
    jax.tree.map(np.testing.assert_array_equal, *values)


@pytest.mark.parametrize(
    'spec',
    [
        'hf:org/whole@v1',
        'hf:org/whole@v1/model.safetensors',
        f'hf:org/whole@{COMMIT}',
        'hf:org/whole@refs/pr/1',
        'hf:org/bare',
    ],
)
def test_revisions_files_and_a_single_file_are_found(spec, server):
    found = hub.fetch(spec)
    assert found.path.read_bytes() == WEIGHTS
    assert found.revision == COMMIT


def test_what_is_there_is_not_downloaded_again(server):
    for _ in range(2):
        hub.fetch('hf:org/whole')
    assert server.asked.count('/elsewhere/org/whole/model.safetensors') == 1


def test_a_commit_that_is_there_is_not_asked_for(server):
    for _ in range(2):
        before = len(server.asked)
        hub.fetch(f'hf:org/whole@{COMMIT}/model.safetensors')
    assert len(server.asked) == before


def test_what_describes_a_file_lies_in_its_folder(server):
    assert hub.fetch('hf:org/folders').config == CONFIG
    found = hub.fetch('hf:org/folders/b/model.safetensors')
    assert found.config == {'b': 1}
    assert found.preprocessor == {}
    assert found.revision == COMMIT


@pytest.mark.parametrize(
    ('spec', 'reason'),
    [
        ('hf:org/nothing', 'there is no such repository'),
        ('hf:org/gated', 'it is gated'),
        ('hf:org/whole@v9', "it has no revision 'v9'"),
        ('hf:org/whole/other.bin', r"it has no file 'other\.bin' at 'main'"),
        ('hf:org/two', r'append one of its files after a slash: a\.safetensors, b\.safetensors'),
        ('hf:org/parts', r'index\.json: it has no weight_map'),
        ('hf:org/parts/model-00001-of-00002.safetensors', 'one of several parts'),
        ('hf:org/odd', r'config\.json is no JSON'),
        ('hf:org/list', r'config\.json is no JSON.*no fields'),
        ('hf:org/busy', r'config\.json is not in the cache'),
    ],
)
def test_what_cannot_be_had_is_said_in_a_line(spec, reason, server):
    with pytest.raises(InputError, match=reason) as caught:
        tljax.load(spec)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('repo', 'reason'),
    [
        ('org/page', 'it is a web page'),
        ('org/damaged', 'its SHA-256 is .*, but the hub states'),
        ('org/cut', 'could not be downloaded'),
        ('org/odd', 'was deleted'),
    ],
)
def test_a_bad_file_is_refused_each_time_and_left_nowhere(repo, reason, server, tmp_path):
    for _ in range(2):
        with pytest.raises(InputError, match=reason):
            hub.fetch(f'hf:{repo}/model.safetensors')
        blobs = [p for p in (tmp_path / 'cache').rglob('blobs/*') if p.suffix != '.incomplete']
        assert blobs == []


def test_offline_uses_what_is_there_and_asks_for_nothing(server, monkeypatch):
    hub.fetch('hf:org/whole')
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    before = len(server.asked)
    assert hub.fetch('hf:org/whole').path.read_bytes() == WEIGHTS
    for spec in ('hf:org/bare', 'hf:org/whole@v1', 'hf:org/whole/other.bin'):
        with pytest.raises(InputError, match=r'not in the cache.*TLJAX_OFFLINE'):
            hub.fetch(spec)
    assert len(server.asked) == before


@pytest.mark.parametrize('variable', ['TLJAX_OFFLINE', 'HF_HUB_OFFLINE'])
@pytest.mark.parametrize('spec', ['hf:org/whole', 'hf:org/bare', 'hf:org/whole@v1'])
def test_offline_gives_what_online_gave(spec, variable, server, monkeypatch):
    online = hub.fetch(spec)
    monkeypatch.setenv(variable, '1')
    assert hub.fetch(spec) == online


def test_offline_weights_that_another_library_fetched_alone_will_do(server, monkeypatch):
    path = hub.fetch('hf:org/whole').path
    for name in ('config.json', 'preprocessor_config.json', 'README.md'):
        path.with_name(name).unlink()
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    found = hub.fetch('hf:org/whole')
    assert (found.path, found.config, found.card) == (path, {}, {})


@pytest.mark.parametrize('spec', ['hf:org/whole', 'hf:org/bare', f'hf:org/bare@{COMMIT}'])
def test_what_is_there_is_used_while_the_hub_does_not_answer(spec, server, monkeypatch):
    online = hub.fetch(spec)
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    assert hub.fetch(spec) == online


def test_a_file_that_was_damaged_in_the_cache_is_deleted_and_comes_again(server, monkeypatch):
    path = hub.fetch('hf:org/whole').path
    path.resolve().write_bytes(WEIGHTS[:-1] + b'?')
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    with pytest.raises(InputError, match=r'its SHA-256 is .*, but the hub states'):
        hub.fetch('hf:org/whole')
    monkeypatch.delenv('TLJAX_OFFLINE')
    assert hub.fetch('hf:org/whole').path.read_bytes() == WEIGHTS


def share(path):
    """Moves a blob to where newer releases of the library share it between repositories."""
    blob = path.parent / path.readlink()
    shared = path.parents[3] / 'blobs' / 'ab' / ('ab' * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    return shared


def test_a_file_that_repositories_share_is_held_to_its_sum_not_to_its_name(server):
    share(hub.fetch('hf:org/whole').path)
    assert hub.fetch('hf:org/whole').path.read_bytes() == WEIGHTS


def test_a_damaged_file_that_repositories_share_is_deleted_for_all(server):
    shared = share(hub.fetch('hf:org/whole').path)
    shared.write_bytes(WEIGHTS[:-1] + b'?')
    with pytest.raises(InputError, match='its SHA-256 is'):
        hub.fetch('hf:org/whole')
    assert not shared.exists()
    assert hub.fetch('hf:org/whole').path.read_bytes() == WEIGHTS


def test_a_web_page_in_the_place_of_the_hub_is_told(server):
    server.is_portal = True
    for spec in ('hf:org/whole', 'hf:org/whole/model.safetensors'):
        with pytest.raises(InputError, match='hf:org/whole: .*(could not be|does not answer)'):
            hub.fetch(spec)


@pytest.mark.parametrize('own', [True, False])
def test_the_cache_is_shared_with_other_libraries_unless_ours_is_moved(
    own, server, tmp_path, monkeypatch
):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'shared'))
    if not own:
        monkeypatch.delenv('TLJAX_CACHE')
    folder = tmp_path / ('cache/hub' if own else 'shared')
    assert hub.fetch('hf:org/bare').path.is_relative_to(folder)


def test_a_token_is_sent_to_the_hub_but_not_to_where_a_file_lies(server, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_sesame')
    hub.fetch('hf:org/bare')
    sent = {path.split('/')[1]: token for path, token in server.tokens}
    assert sent['org'] == 'Bearer hf_sesame'
    assert sent['elsewhere'] is None


def test_a_hub_that_is_not_there_is_an_error_of_one_line(server, monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(InputError, match='hf:org/whole') as caught:
        tljax.load('hf:org/whole')
    assert '\n' not in str(caught.value)


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(InputError, match=r"pip install 'tljax\[hub\]'"):
        hub.fetch('hf:org/whole')


# --- what configurations say ---


@pytest.mark.parametrize(
    ('config', 'wanted'),
    [
        ({'input_size': [3, 224, 224], 'crop_pct': 0.95, 'interpolation': 'bicubic'}, (224, 235)),
        ({'input_size': [3, 288, 288], 'crop_pct': 1.0, 'interpolation': 'bilinear'}, (288, 288)),
        ({'input_size': [3, 224, 224], 'crop_pct': 0.9, 'crop_mode': 'squash'}, (224, 224)),
        ({'input_size': [3, 256, 256]}, (256, 292)),
    ],
)
def test_timms_crops(config, wanted):
    found = hub_config.preprocessing_of({'pretrained_cfg': config}, {})
    assert found is not None
    assert (found.size_px, found.resize_px) == wanted
    bilinear = config.get('interpolation') == 'bilinear'
    assert found.interpolation is (Interpolation.BILINEAR if bilinear else Interpolation.BICUBIC)


@pytest.mark.parametrize(
    ('fields', 'wanted'),
    [
        ({'size': 224}, (224, 224)),
        ({'size': {'height': 384, 'width': 384}}, (384, 384)),
        ({'size': {'shortest_edge': 224}, 'crop_pct': 0.875}, (224, 256)),
        ({'size': {'shortest_edge': 384}, 'crop_pct': 0.875}, (384, 384)),
        ({'size': {'shortest_edge': 256}, 'do_center_crop': True, 'crop_size': 224}, (224, 256)),
        ({'size': {'shortest_edge': 256}, 'do_center_crop': False, 'crop_size': 224}, (256, 256)),
        ({'size': {'shortest_edge': 200}, 'do_center_crop': True, 'crop_size': 224}, (224, 224)),
    ],
)
def test_transformers_crops(fields, wanted):
    found = hub_config.preprocessing_of({}, {'image_mean': [0.5], 'image_std': [0.5]} | fields)
    assert found is not None
    assert (found.size_px, found.resize_px) == wanted


@pytest.mark.parametrize(
    'fields',
    [
        {'size': {}},
        {'size': 'big'},
        {'size': {'height': 224, 'width': 112}},
        {'size': 224, 'resample': 5},
        {'size': 0},
        {'size': 224, 'image_std': [0.0]},
        {'size': 224, 'image_mean': ['a']},
    ],
)
def test_preprocessing_that_cannot_be_understood_is_an_error(fields):
    with pytest.raises(InputError, match='preprocessing of the repository is invalid'):
        hub_config.preprocessing_of({}, {'image_mean': [0.5], 'image_std': [0.5]} | fields)


@pytest.mark.parametrize(
    'fields',
    [
        {'input_size': [3, 224, 112]},
        {'interpolation': 'nearest'},
        {'input_size': 224},
        {'mean': 0.5},
        {'crop_pct': -1},
    ],
)
def test_a_configuration_of_timm_that_cannot_be_understood_is_an_error(fields):
    with pytest.raises(InputError, match='preprocessing of the repository is invalid'):
        hub_config.preprocessing_of({'pretrained_cfg': fields}, {})


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'image_mean': [0.5], 'image_std': [0.5]},
        {'size': 224},
        {'size': 224, 'image_mean': [0.5]},
        {'size': 224, 'image_mean': [0.5], 'image_std': [0.5], 'do_resize': False},
    ],
)
def test_a_repository_that_says_too_little_leaves_it_to_the_family(fields):
    assert (
        hub_config.preprocessing_of({'architectures': [], 'pretrained_cfg': None}, fields) is None
    )


def test_timms_mean_and_deviation_are_taken():
    fields = {'mean': [0.1, 0.2, 0.3], 'std': [0.4, 0.5, 0.6]}
    found = hub_config.preprocessing_of({'pretrained_cfg': fields}, {'size': 32})
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize('number', [1, 2, 3])
def test_pillows_numbers_are_understood(number):
    fields = {'size': 8, 'image_mean': [0.5], 'image_std': [0.5], 'resample': number}
    wanted = Interpolation.BILINEAR if number == 2 else Interpolation.BICUBIC
    assert hub_config.preprocessing_of({}, fields).interpolation is wanted


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'rescale_factor': 1 / 255},
        {'do_rescale': False, 'image_mean': [127.0, 100, 60], 'image_std': [50.0, 60, 70]},
        {'rescale_factor': 1 / 127.5, 'image_std': [0.5, 0.5, 1]},
        {'rescale_factor': 1 / 127.5, 'rescale_offset': True},
        {'do_normalize': False},
        {'image_mean': 0.5, 'image_std': 0.25},
    ],
)
def test_pixels_become_what_transformers_makes_of_them(fields):
    stated = {'size': 8, 'image_mean': [0.5, 0.4, 0.3], 'image_std': [0.1, 0.2, 0.3]} | fields
    found = hub_config.preprocessing_of({}, stated)
    x = np.arange(12.0).reshape(4, 3) * 20
    ours = (x / 255 - found.mean) / found.std
    if stated.get('do_rescale', True):
        x = x * stated.get('rescale_factor', 1 / 255) - stated.get('rescale_offset', False)
    if stated.get('do_normalize', True):
        x = (x - stated['image_mean']) / stated['image_std']
    np.testing.assert_allclose(ours, x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('config', 'names'),
    [
        (
            {'id2label': {'10': 'k', **{str(i): chr(97 + i) for i in range(10)}}},
            tuple('abcdefghijk'),
        ),
        ({'label_names': ['x', 'y']}, ('x', 'y')),
        ({'id2label': {'0': 'LABEL_0', '1': 'LABEL_1'}}, None),
        ({'id2label': {'0': 'a', '2': 'c'}}, None),
        ({'id2label': {'a': 0}}, None),
        ({'id2label': None, 'label_names': None}, None),
        ({'id2label': {0: 'x', 1: 'LABEL_1'}}, ('x', 'LABEL_1')),
        ({}, None),
    ],
)
def test_class_names_in_the_order_of_their_numbers(config, names):
    assert hub_config.class_names_of(config) == names


@pytest.mark.parametrize(
    ('config', 'card', 'licence'),
    [
        ({}, {'license': 'apache-2.0'}, 'apache-2.0'),
        ({}, {'license': 'other', 'license_name': 'imagenet'}, 'imagenet'),
        ({'pretrained_cfg': {'license': 'mit'}}, {}, 'mit'),
        ({'pretrained_cfg': None, 'license': 'mit'}, {}, 'mit'),
        ({}, {}, None),
    ],
)
def test_the_licence_is_the_cards_or_the_configurations(config, card, licence):
    assert hub_config.licence_of(config, card) == licence


def test_a_repository_that_lies_on_the_disk_is_read_as_one_of_a_hub(tmp_path):
    for name, content in WHOLE.items():
        (tmp_path / name).write_bytes(content)
    network = tljax.load(tmp_path)
    assert network.class_names == ('cat', 'dog', 'owl')
    assert network.preprocessing.size_px == 32
    assert network.origin.licence == 'mit'


def test_a_file_on_the_disk_that_cannot_be_read_is_named_and_left_alone(tmp_path):
    (tmp_path / 'model.safetensors').write_bytes(WEIGHTS)
    (tmp_path / 'config.json').write_text('no json')
    with pytest.raises(InputError, match=r'config\.json is no JSON'):
        tljax.load(tmp_path)
    assert (tmp_path / 'config.json').exists()


def test_weights_in_several_parts_are_downloaded_by_their_index(server):
    halves, whole = (tljax.load(f'hf:org/{name}') for name in ('halves', 'whole'))
    assert halves.origin.format == 'safetensors in 2 parts'
    jax.tree.map(np.testing.assert_array_equal, halves.params, whole.params)
