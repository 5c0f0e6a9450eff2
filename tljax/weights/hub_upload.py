"""Uploads an exported network to a repository of the Hugging Face hub, in one commit."""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tljax import environment
from tljax.weights.hub_config import HubError

SCHEME = 'hub:'
_REPOSITORY = re.compile(r'hub:([\w.\-]+/[\w.\-]+)')
HELPERS = {'.gitattributes', 'README.md'}  # files of a repository that was only created
LOGIN = '`hf auth login`, or set HF_TOKEN to a token with write access'


def parse(place: str) -> str:
    """The repository `USER/NAME` of `hub:USER/NAME`.

    Raises:
        HubError: the text has another form.
    """
    match = _REPOSITORY.fullmatch(place)
    if match is None or {'.', '..'} & set(match[1].split('/')):
        raise HubError(f'--to={place}: wanted hub:USER/NAME')
    return match[1]


def upload(
    repository: str, files: Sequence[pathlib.Path], *, overwrite: bool, private: bool
) -> str:
    """Uploads files into the root of a repository; all of them, or none.

    Args:
        repository: `USER/NAME`; it is created if there is none.
        files: the files.
        overwrite: whether a repository that has other files gets a new commit.
        private: whether a repository that is created is private.

    Returns:
        The address of the commit.

    Raises:
        HubError: the library is missing, the hub does not answer or refuses, or the repository
            exists. The repository then has none of the files, except if the message says so.
    """
    if environment.offline():
        raise HubError(
            f'hub:{repository}: TLJAX_OFFLINE or HF_HUB_OFFLINE forbids the use of the network'
        )
    library = _library()
    endpoint = os.environ.get('HF_ENDPOINT', '').rstrip('/') or library.constants.ENDPOINT
    api = library.HfApi(endpoint=endpoint)
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        present = set(api.list_repo_files(repository))
        if not overwrite and present - HELPERS:
            names = ', '.join(sorted(present - HELPERS)[:5])
            raise HubError(f'hub:{repository} exists and has {names}; --overwrite replaces files')
        commit = api.create_commit(
            repository,
            [
                library.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path))
                for path in files
            ],
            commit_message='Upload by tljax export',
        )
        stored = set(api.list_repo_files(repository, revision=commit.oid))
    except HubError:
        raise
    except Exception as error:  # also those of its HTTP client
        raise HubError(f'hub:{repository}: {_reason(error, endpoint)}') from error
    if missing := sorted({path.name for path in files} - stored):
        raise HubError(f'hub:{repository}: the commit {commit.oid} lacks {", ".join(missing)}')
    return f'{endpoint}/{repository}/commit/{commit.oid}'


def _reason(error: BaseException, endpoint: str) -> str:
    """One line with the reason of a failure and its remedy, without the token."""
    while error.__cause__ is not None and getattr(error, 'response', None) is None:
        error = error.__cause__
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if status == 401 or type(error).__name__ == 'LocalTokenNotFoundError':
        return f'{endpoint} does not know the user: {LOGIN}'
    if status == 403:
        return f'{endpoint} does not let this user write there: {LOGIN}'
    text = ' '.join(str(error).split())
    for secret in _tokens():
        text = text.replace(secret, '***')
    if status is None:
        return f'{endpoint} does not answer as a hub; nothing was uploaded: {text:.300}'
    return f'{endpoint} refuses the upload: {text:.300}'


def _tokens() -> Iterator[str]:
    """The token that the library would send, if any."""
    if token := _library().get_token():
        yield token


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
    except ImportError as error:
        raise HubError("hub: needs huggingface_hub: pip install 'tljax[hub]'") from error
    return huggingface_hub
