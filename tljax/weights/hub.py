"""Weights in repositories of the Hugging Face hub, with what the repository says of them.

    hf:timm/resnet50.a1_in1k
    hf:microsoft/resnet-50@main/model.safetensors
    hf:owner/name@refs/pr/3/folder/file.bin

A repository is `owner/name`. A revision is a branch, a tag or a commit, and ends at the next `/`;
only one that begins with `refs/` has three parts (a branch with a `/` in its name is named by its
commit). What follows is the file.

`huggingface_hub` fetches (extra `hub`). Its own cache is used, which other libraries share, or
`hub` in the folder that `TLJAX_CACHE` names. `HF_ENDPOINT` names another hub, `HF_TOKEN` opens
repositories that are not public.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tljax import environment
from tljax.weights import download
from tljax.weights.hub_config import HubError, class_names_of, licence_of, preprocessing_of

__all__ = [
    'HubError',
    'HubFile',
    'HubSpec',
    'class_names_of',
    'fetch',
    'in_folder',
    'licence_of',
    'parse',
    'preprocessing_of',
]

FORM = 'hf:<owner>/<name>[@revision][/file]'
# What is looked for, in this order, where no file is named.
FILES = ('model.safetensors', 'pytorch_model.safetensors', 'pytorch_model.bin', 'model.pth')
PART = re.compile(r'\.index\.json$|-\d{5}-of-(?!00001)\d{5}\.\w+$')  # of weights in several files
_SPEC = re.compile(
    r'hf:(?P<repo>[\w.\-]+/[\w.\-]+)(@(?P<revision>refs/\w+/[\w.\-]+|(?!refs/)[\w.\-]+))?'
    r'(/(?P<file>[^/\\]+(/[^/\\]+)*))?'
)


class _AbsentError(HubError):
    """A file that a repository does not have, or when offline the cache does not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubSpec:
    """A repository, and what of it; None for the usual file."""

    repo: str
    revision: str | None
    file: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of weights, and what stands beside it; empty where there is nothing.

    Attributes:
        path: in the cache.
        repo: owner and name.
        revision: the commit.
        config: of the config.json in the same folder.
        preprocessor: likewise, of preprocessor_config.json.
        card: the front matter of README.md, by its simple fields.
    """

    path: pathlib.Path
    repo: str
    revision: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    card: Mapping[str, str]


def parse(spec: str) -> HubSpec:
    """The parts of a spec.

    Raises:
        HubError: it is of another form.
    """
    found = _SPEC.fullmatch(spec)
    if found is None or {'.', '..'} & set(re.split('[:/@]', spec)):
        raise HubError(f'weights {spec!r}: wanted {FORM}, e.g. hf:timm/resnet50.a1_in1k')
    return HubSpec(repo=found['repo'], revision=found['revision'], file=found['file'])


def fetch(spec: str) -> HubFile:
    """A repository's weights, from the cache or the hub.

    A file that the cache keeps under its SHA-256, as it does large ones, is held to it every
    time. What describes the weights comes before them, so that who has the weights in the cache
    has that as well.

    Raises:
        HubError: the library is missing, the repository, revision or file cannot be had, or
            something else came in its place; then it is deleted.
    """
    wanted = parse(spec)
    repository = _Repository(wanted)
    file = wanted.file or _usual(spec, repository.names())
    if PART.search(file):
        raise HubError(f'{spec}: {file} is one of several parts, which are not read')
    beside = pathlib.PurePosixPath(file).parent
    config = _json(repository, str(beside / 'config.json'))
    preprocessor = _json(repository, str(beside / 'preprocessor_config.json'))
    readme = repository.find('README.md')
    path = repository.get(file)
    _check(path, spec)
    return HubFile(
        path=path,
        repo=wanted.repo,
        revision=path.parents[file.count('/')].name,  # .../snapshots/<commit>/<file>
        config=config,
        preprocessor=preprocessor,
        card=_front_matter(readme.read_text(errors='replace')) if readme else {},
    )


def in_folder(folder: pathlib.Path) -> HubFile:
    """The weights of a repository that lies on the disk, as `save_pretrained` and `git` leave it.

    Raises:
        HubError: there are none, or what describes them cannot be read.
    """
    readme = folder / 'README.md'
    return HubFile(
        path=folder / _usual(str(folder), [path.name for path in folder.iterdir()]),
        repo=folder.name,
        revision='',
        config=_fields(folder / 'config.json'),
        preprocessor=_fields(folder / 'preprocessor_config.json'),
        card=_front_matter(readme.read_text(errors='replace')) if readme.is_file() else {},
    )


class _Repository:
    """Asks for files; once the hub has not answered, for those in the cache only."""

    def __init__(self, spec: HubSpec):
        self._spec, self._library = spec, _library()
        self._revision = spec.revision or 'main'
        self._local = download.offline()
        self._endpoint = os.environ.get('HF_ENDPOINT', '').rstrip('/') or None
        own = environment.cache_dir() / 'hub' if os.environ.get('TLJAX_CACHE') else None
        self._cache = own or pathlib.Path(self._library.constants.HF_HUB_CACHE)

    def get(self, file: str) -> pathlib.Path:
        """One file.

        Raises:
            HubError: the reason why not, in a line.
        """
        errors = self._library.errors
        try:
            return pathlib.Path(
                self._library.hf_hub_download(
                    self._spec.repo,
                    file,
                    revision=self._revision,
                    cache_dir=self._cache,
                    endpoint=self._endpoint,
                    local_files_only=self._local,
                )
            )
        except errors.LocalEntryNotFoundError as error:
            self._local = True
            absent = download.offline() or self._is_known_to_lack(file)
            kind = _AbsentError if absent else HubError
            raise kind(self._reason(error, file)) from error
        except errors.EntryNotFoundError as error:
            raise _AbsentError(self._reason(error, file)) from error
        except Exception as error:  # its HTTP client's too, which release 1 changed
            raise HubError(self._reason(error, file)) from error

    def find(self, file: str) -> pathlib.Path | None:
        """A file that a repository may lack.

        Raises:
            HubError: it cannot be told whether it does.
        """
        try:
            return self.get(file)
        except _AbsentError:
            return None

    def names(self) -> list[str]:
        """The files of the repository, or when the hub is out of reach those in the cache.

        Raises:
            HubError: they cannot be listed.
        """
        if self._local:
            return self._names_in_cache() or [FILES[0]]  # `get` will say that it is not there
        api = self._library.HfApi(endpoint=self._endpoint)
        try:
            return list(api.list_repo_files(self._spec.repo, revision=self._revision))
        except Exception as error:
            answered = isinstance(error, self._library.errors.HfHubHTTPError)
            names = [] if answered else self._names_in_cache()
            if not names:
                raise HubError(self._reason(error, 'the list of its files')) from error
            self._local = True
            return names

    def _names_in_cache(self) -> list[str]:
        folder = self._cache / f'models--{self._spec.repo.replace("/", "--")}'
        ref = folder / 'refs' / self._revision
        commit = ref.read_text().strip() if ref.is_file() else self._revision
        snapshot = folder / 'snapshots' / commit
        files = (path for path in snapshot.rglob('*') if path.is_file())
        return sorted(path.relative_to(snapshot).as_posix() for path in files)

    def _is_known_to_lack(self, file: str) -> bool:
        found = self._library.try_to_load_from_cache(
            self._spec.repo, file, cache_dir=self._cache, revision=self._revision
        )
        return found is self._library._CACHED_NO_EXIST

    def _reason(self, error: Exception, file: str) -> str:
        """What is wrong and what to do, in a line."""
        errors = self._library.errors
        hub = self._endpoint or self._library.constants.ENDPOINT
        local = f'{file} is not in the cache {self._cache}, and {hub} does not answer as a hub'
        if download.offline():
            local = f'{file} is not in the cache {self._cache}, and TLJAX_OFFLINE or '
            local += 'HF_HUB_OFFLINE forbids to download it'
        login = '`hf auth login`, or set HF_TOKEN'
        reasons = {
            errors.GatedRepoError: f'it is gated: accept its terms on the hub, then {login}',
            errors.RepositoryNotFoundError: 'there is no such repository, or it is private and '
            f'needs {login}',
            errors.RevisionNotFoundError: f'it has no revision {self._revision!r}',
            errors.LocalEntryNotFoundError: local,
            errors.EntryNotFoundError: f'it has no file {file!r} at {self._revision!r}',
        }
        words = f'{file} could not be downloaded from {hub}: {" ".join(str(error).split()):.300}'
        found = (reason for kind, reason in reasons.items() if isinstance(error, kind))
        return f'hf:{self._spec.repo}: {next(found, words)}'


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise HubError("hf: needs huggingface_hub: pip install 'tljax[hub]'") from error
    return huggingface_hub


def _usual(spec: str, names: list[str]) -> str:
    """The weights of a repository where no file is named.

    Raises:
        HubError: it has none of the usual ones, and not a single safetensors file either.
    """
    found = [name for name in FILES if name in names]
    single = [name for name in names if name.endswith('.safetensors')]
    if found or len(single) == 1:
        return (found or single)[0]
    parts = any(PART.search(name) for name in names)
    hint = ' Weights in several parts are not read.' if parts else ''
    there = ', '.join(sorted(names)[:20]) or 'nothing'
    raise HubError(
        f'{spec}: it has none of {", ".join(FILES)}; name one of its files behind a slash: '
        f'{there}.{hint}'
    )


def _check(path: pathlib.Path, spec: str) -> None:
    """Holds a file to the sum that it is kept under; what cannot be trusted is deleted.

    It is a link to `blobs/<sum>`, which may be a link itself, into what repositories share.
    """
    blob = path.readlink().name if path.is_symlink() else ''
    problem = download.refusal(path)
    if problem is None and re.fullmatch('[0-9a-f]{64}', blob):
        digest = download.file_sha256(path)
        if digest != blob:
            problem = f'its SHA-256 is {digest}, the hub states {blob}'
    if problem:
        _delete(path)
        raise HubError(f'{spec}: {path} was not the file, and is deleted: {problem}')


def _delete(path: pathlib.Path) -> None:
    """A file of the cache, and all that it is a link to."""
    while path.is_symlink():
        link, path = path, path.parent / path.readlink()
        link.unlink()
    path.unlink(missing_ok=True)


def _json(repository: _Repository, file: str) -> Mapping[str, Any]:
    path = repository.find(file)
    try:
        return _fields(path)
    except HubError as error:
        assert path is not None
        _delete(path)
        raise HubError(f'{error}, and is deleted') from error


def _fields(path: pathlib.Path | None) -> Mapping[str, Any]:
    """The fields of a JSON file; none where there is no file."""
    if path is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError('it has no fields')
    except ValueError as error:
        raise HubError(f'{path} is no JSON: {error}') from error
    return found


def _front_matter(text: str) -> dict[str, str]:
    """The fields of a card that stand on one line."""
    found = re.match(r'---\s*\n(.*?)\n---', text, re.DOTALL)
    lines = found[1].splitlines() if found else []
    pairs = [re.sub(r'\s#.*', '', line).split(':', 1) for line in lines if re.match(r'\w+:', line)]
    fields = {name: value.strip().strip('\'"') for name, value in pairs}
    return {name: value for name, value in fields.items() if value}
