"""Files of one repository of a hub, from the cache of `huggingface_hub` or over the network."""

import dataclasses
import os
import pathlib
import re
from typing import Any

from tljax import environment
from tljax.weights import download
from tljax.weights.hub_config import HubError

FORM = 'hf:<owner>/<name>[@revision][/file]'
_SPEC = re.compile(
    r'hf:(?P<repo>[\w.\-]+/[\w.\-]+)(@(?P<revision>refs/\w+/[\w.\-]+|(?!refs/)[\w.\-]+))?'
    r'(/(?P<file>[^/\\]+(/[^/\\]+)*))?'
)
USUAL_FILE = 'model.safetensors'


class AbsentError(HubError):
    """The repository lacks a file, or the cache lacks it when offline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubSpec:
    """A repository, its revision and file; None for the default revision or file."""

    repo: str
    revision: str | None
    file: str | None


def parse(spec: str) -> HubSpec:
    """The repository, revision and file of a spec.

    Raises:
        HubError: the spec has another form.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or {'.', '..'} & set(re.split('[:/@]', spec)):
        raise HubError(f'weights {spec!r}: wanted {FORM}, e.g. hf:timm/resnet50.a1_in1k')
    return HubSpec(repo=match['repo'], revision=match['revision'], file=match['file'])


class Repository:
    """Downloads files; after the hub failed to answer once, uses the cache alone."""

    def __init__(self, spec: HubSpec):
        self._spec, self._library = spec, _library()
        self._revision = spec.revision or 'main'
        self._local = download.offline()
        self._endpoint = os.environ.get('HF_ENDPOINT', '').rstrip('/') or None
        own = environment.cache_dir() / 'hub' if os.environ.get('TLJAX_CACHE') else None
        self._cache = own or pathlib.Path(self._library.constants.HF_HUB_CACHE)

    def get(self, file: str) -> pathlib.Path:
        """The path of one file in the cache.

        Raises:
            HubError: the file is not available; the message gives the reason in one line.
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
            kind = AbsentError if absent else HubError
            raise kind(self._reason(error, file)) from error
        except errors.EntryNotFoundError as error:
            raise AbsentError(self._reason(error, file)) from error
        except Exception as error:  # includes those of its HTTP client, which release 1 changed
            raise HubError(self._reason(error, file)) from error

    def find(self, file: str) -> pathlib.Path | None:
        """The path of a file; None if the repository lacks it.

        Raises:
            HubError: it is unknown whether the repository has the file.
        """
        try:
            return self.get(file)
        except AbsentError:
            return None

    def names(self) -> list[str]:
        """The names of the repository's files; of the cached ones if the hub does not answer.

        Raises:
            HubError: the files cannot be listed.
        """
        if self._local:
            return self._names_in_cache() or [USUAL_FILE]  # `get` reports that it is missing
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
        cached = self._library.try_to_load_from_cache(
            self._spec.repo, file, cache_dir=self._cache, revision=self._revision
        )
        return cached is self._library._CACHED_NO_EXIST

    def _reason(self, error: Exception, file: str) -> str:
        """One line with the reason of a failure and its remedy."""
        errors = self._library.errors
        hub = self._endpoint or self._library.constants.ENDPOINT
        local = f'{file} is not in the cache {self._cache}, and {hub} does not answer as a hub'
        if download.offline():
            local = f'{file} is not in the cache {self._cache}, and TLJAX_OFFLINE or '
            local += 'HF_HUB_OFFLINE forbids downloads'
        login = '`hf auth login`, or set HF_TOKEN'
        reasons = {
            errors.GatedRepoError: f'it is gated: accept its terms on the hub, then {login}',
            errors.RepositoryNotFoundError: 'there is no such repository, or it is private and '
            f'needs {login}',
            errors.RevisionNotFoundError: f'it has no revision {self._revision!r}',
            errors.LocalEntryNotFoundError: local,
            errors.EntryNotFoundError: f'it has no file {file!r} at {self._revision!r}',
        }
        other = f'{file} could not be downloaded from {hub}: {" ".join(str(error).split()):.300}'
        matching = (reason for kind, reason in reasons.items() if isinstance(error, kind))
        return f'hf:{self._spec.repo}: {next(matching, other)}'


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise HubError("hf: needs huggingface_hub: pip install 'tljax[hub]'") from error
    return huggingface_hub
