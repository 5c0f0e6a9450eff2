"""Networks are uploaded to a hub on this machine, completely or not at all."""

import base64
import hashlib
import http.server
import json
import re
import threading

import numpy as np
import pytest

import tljax
from tests import small_runs
from tljax.commands import export as command
from tljax.weights import hub_config, hub_upload

# Of httpx, about how huggingface_hub sends bytes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
OID = 'ab' * 20
TOKEN = 'hf_secretsecretsecret'


class Hub(http.server.BaseHTTPRequestHandler):
    """The addresses of a hub that an upload asks for; `server.files` are its repository."""

    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        """Prints nothing."""

    def _answer(self, content, status=200, headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': len(data), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)

    def _body(self):
        return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def _refused(self):
        """Whether the server refuses this request, as a test has asked it to."""
        self.server.asked.append((self.command, self.path))
        if self.headers.get('Authorization') != f'Bearer {TOKEN}':
            self._answer({'error': 'Invalid username or password.'}, 401)
            return True
        for part, status in self.server.refuses.items():
            if part in self.path:
                self._answer({'error': f'no, {TOKEN}'}, status)
                return True
        return False

    def do_GET(self):
        """Lists or sends files."""
        if self._refused():
            return
        if re.match(r'/api/models/ann/net/tree/', self.path):
            entries = [
                {'type': 'file', 'path': name, 'size': len(data), 'oid': OID}
                for name, data in self.server.files.items()
            ]
            self._answer(entries)
        elif self.path.startswith('/api/models/ann/net'):
            siblings = [{'rfilename': name} for name in self.server.files]
            self._answer({'id': 'ann/net', 'sha': OID, 'siblings': siblings})
        elif match := re.fullmatch(r'/ann/net/resolve/[^/]+/(.+)', self.path):
            self._file(match[1])
        else:
            self._answer({'error': 'Not found'}, 404)

    do_HEAD = do_GET  # noqa: N815

    def _file(self, name):
        data = self.server.files.get(name)
        if data is None:
            headers = {'X-Repo-Commit': OID, 'X-Error-Code': 'EntryNotFound'}
            self._answer({'error': 'Entry not found'}, 404, headers)
            return
        etag = hashlib.sha256(data).hexdigest()
        self._answer(data, headers={'X-Repo-Commit': OID, 'ETag': f'"{etag}"'})

    def do_PUT(self):
        """Takes a large file."""
        data = self._body()
        self.server.large[hashlib.sha256(data).hexdigest()] = data
        self._answer(b'')

    def do_POST(self):
        """Creates the repository, says how files are sent, or makes a commit."""
        body = self._body()
        if self.path == '/api/validate-yaml':
            self._answer({'errors': [], 'warnings': []})
            return
        if self._refused():
            return
        if self.path == '/api/repos/create':
            self.server.created.append(json.loads(body))
            exists = len(self.server.created) > 1 or self.server.files
            self._answer({'url': f'{self.server.url}/ann/net'}, 409 if exists else 200)
        elif '/preupload/' in self.path:
            files = json.loads(body)['files']
            modes = [
                {
                    'path': one['path'],
                    'uploadMode': 'lfs' if one['path'].startswith('model') else 'regular',
                    'shouldIgnore': False,
                }
                for one in files
            ]
            self._answer({'files': modes})
        elif self.path.endswith('/info/lfs/objects/batch'):
            objects = [
                {
                    'oid': one['oid'],
                    'size': one['size'],
                    'actions': {'upload': {'href': f'{self.server.url}/put/{one["oid"]}'}},
                }
                for one in json.loads(body)['objects']
            ]
            self._answer({'transfer': 'basic', 'objects': objects})
        elif '/commit/' in self.path:
            self._commit(body)
        else:
            self._answer({'error': 'Not found'}, 404)

    def _commit(self, body):
        for line in map(json.loads, body.splitlines()):
            value = line['value']
            if line['key'] == 'file':
                self.server.files[value['path']] = base64.b64decode(value['content'])
            elif line['key'] == 'lfsFile' and not self.server.loses_large:
                self.server.files[value['path']] = self.server.large[value['oid']]
        url = f'{self.server.url}/ann/net/commit/{OID}'
        self._answer({'success': True, 'commitOid': OID, 'commitUrl': url, 'pullRequestUrl': None})


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A hub on this machine with an empty repository, which knows one token."""
    monkeypatch.setattr('time.sleep', lambda _seconds: None)  # between the library's attempts
    for name in ('TLJAX_OFFLINE', 'HF_HUB_OFFLINE'):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as httpd:
        httpd.url = f'http://127.0.0.1:{httpd.server_port}'
        httpd.files, httpd.large, httpd.refuses = {}, {}, {}
        httpd.asked, httpd.created, httpd.loses_large = [], [], False
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv('HF_ENDPOINT', httpd.url)
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        monkeypatch.setenv('HF_HUB_DISABLE_XET', '1')
        monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
        yield httpd
        httpd.shutdown()


@pytest.fixture
def files(tmp_path):
    """A small file and a large one."""
    (tmp_path / 'README.md').write_text('# a card')
    (tmp_path / 'model.safetensors').write_bytes(bytes(range(200)))
    return [tmp_path / 'model.safetensors', tmp_path / 'README.md']


def failure(files, **options):
    """The message of an upload that fails; it is one line without the token."""
    with pytest.raises(hub_config.HubError) as caught:
        hub_upload.upload('ann/net', files, **{'overwrite': False, 'private': False, **options})
    message = str(caught.value)
    assert '\n' not in message
    assert TOKEN not in message
    return message


def test_a_run_that_was_uploaded_is_loaded_from_the_hub(server, probe_run, capsys):
    assert command.main([str(probe_run), '--to=hub:ann/net', '--private']) == 0
    assert f'{server.url}/ann/net/commit/{OID}' in capsys.readouterr().out
    asked = server.created[0]
    assert asked.get('private') or asked.get('visibility') == 'private'  # by release
    names = {'README.md', 'model.safetensors', 'experiment.json', 'result.json'}
    assert set(server.files) == names
    assert server.files['experiment.json'] == (probe_run / 'config.json').read_bytes()
    split = small_runs.Blobs().splits()['test']
    images = [split.load(i) for i in range(5)]
    wanted = tljax.load(probe_run).predict(images)
    np.testing.assert_array_equal(tljax.load('hf:ann/net').predict(images), wanted)


def test_all_files_come_in_one_commit(server, files):
    address = hub_upload.upload('ann/net', files, overwrite=False, private=False)
    assert address == f'{server.url}/ann/net/commit/{OID}'
    assert server.files == {path.name: path.read_bytes() for path in files}
    assert len([path for _, path in server.asked if '/commit/' in path]) == 1


def test_a_repository_with_other_files_is_replaced_only_on_request(server, files):
    server.files['model.safetensors'] = b'former'
    assert 'exists and has model.safetensors; --overwrite' in failure(files)
    assert server.files == {'model.safetensors': b'former'}
    hub_upload.upload('ann/net', files, overwrite=True, private=False)
    assert server.files['model.safetensors'] == files[0].read_bytes()


def test_a_repository_that_was_only_created_is_filled(server, files):
    server.files['.gitattributes'] = b''
    hub_upload.upload('ann/net', files, overwrite=False, private=False)
    assert 'README.md' in server.files


@pytest.mark.parametrize(
    ('part', 'status', 'reason'),
    [
        ('/api/', 401, 'does not know the user: `hf auth login`, or set HF_TOKEN'),
        ('/api/', 403, 'does not let this user write there'),
        ('/commit/', 403, 'does not let this user write there'),
        ('/commit/', 400, 'refuses the upload'),
        ('/info/lfs/objects/batch', 400, 'refuses the upload'),
    ],
)
def test_a_refusal_is_a_line_and_leaves_no_file(part, status, reason, server, files):
    server.refuses[part] = status
    assert reason in failure(files)
    assert server.files == {}


def test_a_wrong_token_is_not_repeated(server, files, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_another')
    assert 'hf_another' not in failure(files)


def test_a_file_that_the_hub_lost_is_not_called_uploaded(server, files):
    server.loses_large = True
    assert f'the commit {OID} lacks model.safetensors' in failure(files)


def test_a_hub_that_does_not_answer_is_a_line(server, files, monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    assert 'does not answer as a hub; nothing was uploaded' in failure(files)


def test_nothing_is_uploaded_offline(server, files, monkeypatch):
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    assert 'TLJAX_OFFLINE' in failure(files)
    assert server.asked == []


@pytest.mark.parametrize('place', ['ann/net', 'hub:net', 'hub:a/b/c', 'hub:../b', 'hub:a b/c'])
def test_another_form_of_the_repository_is_refused(place, probe_run, capsys):
    assert command.main([str(probe_run), f'--to={place}']) == 2
    assert 'wanted hub:USER/NAME' in capsys.readouterr().err


@pytest.mark.parametrize(
    'flags',
    [[], ['--out=a', '--to=hub:a/b'], ['--out=a', '--private'], ['--to=hub:a/b', '--delta']],
)
def test_flags_that_do_not_fit_together_are_refused(flags, probe_run, capsys):
    assert command.main([str(probe_run), *flags]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
