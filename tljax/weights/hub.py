"""Weights in repositories of the Hugging Face hub, with their configuration files.

    hf:timm/resnet50.a1_in1k
    hf:microsoft/resnet-50@main/model.safetensors
    hf:owner/name@refs/pr/3/folder/file.bin

A repository is `owner/name`. A revision is a branch, a tag or a commit, and ends at the next `/`.
Only a revision that begins with `refs/` has three parts; for a branch with a `/` in its name, give
its commit. The rest is the file.

`huggingface_hub` (extra `hub`) downloads into its cache, which other libraries share, or into
`$TLJAX_CACHE/hub`. `HF_ENDPOINT` selects another hub; `HF_TOKEN` gives access to private
repositories.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tljax.weights import download, parts, tower_config
from tljax.weights.hub_config import HubError
from tljax.weights.hub_repository import USUAL_FILE, Repository, parse

# If a spec names no file, the first of these that exists.
FILES = (USUAL_FILE, 'pytorch_model.safetensors', 'pytorch_model.bin', 'model.pth')
PART = re.compile(r'-\d{5}-of-(?!00001)\d{5}\.\w+$')  # one of several parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of weights and its configuration files; a missing file gives an empty mapping.

    Attributes:
        path: the file.
        repo: owner and name.
        revision: the commit.
        config: the fields of config.json in the same folder, or of open_clip_config.json.
        preprocessor: the fields of preprocessor_config.json in the same folder.
        card: the one-line fields in the front matter of README.md.
    """

    path: pathlib.Path
    repo: str
    revision: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    card: Mapping[str, str]


def fetch(spec: str) -> HubFile:
    """A repository's weights, from the cache or the hub.

    If the cache keeps a file under its SHA-256, as it does large ones, each call verifies the
    sum. The configuration files are downloaded before the weights, so a cache with the weights has
    them too.

    Raises:
        HubError: the library, repository, revision or file is missing, or the file is damaged; a
            damaged file is deleted.
    """
    wanted = parse(spec)
    repository = Repository(wanted)
    file = wanted.file or _usual(spec, repository.names())
    if PART.search(file):
        raise HubError(f'{spec}: {file} is one of several parts: name their index, *{parts.INDEX}')
    folder = pathlib.PurePosixPath(file).parent
    config = _json(repository, str(folder / 'config.json'))
    if tower_config.prefers_open_clip(pathlib.PurePosixPath(file).name, config):
        config = _json(repository, str(folder / tower_config.OPEN_CLIP_FILE)) or config
    preprocessor = _json(repository, str(folder / 'preprocessor_config.json'))
    readme = repository.find('README.md')
    path = repository.get(file)
    if file.endswith(parts.INDEX):
        for name in sorted(set(parts.files_of(path).values())):
            _check(repository.get(str(folder / name)), spec)
    else:
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
    """The weights of a repository in a local folder, as `save_pretrained` and `git` write it.

    Raises:
        HubError: there are no weights, or a configuration file cannot be read.
    """
    readme = folder / 'README.md'
    file = _usual(str(folder), [path.name for path in folder.iterdir()])
    config = _fields(folder / 'config.json')
    if tower_config.prefers_open_clip(file, config):
        config = _fields(folder / tower_config.OPEN_CLIP_FILE) or config
    return HubFile(
        path=folder / file,
        repo=folder.name,
        revision='',
        config=config,
        preprocessor=_fields(folder / 'preprocessor_config.json'),
        card=_front_matter(readme.read_text(errors='replace')) if readme.is_file() else {},
    )


def _usual(spec: str, names: list[str]) -> str:
    """The file of weights in a repository when the spec names none.

    Raises:
        HubError: the repository has none of `FILES`, and not exactly one safetensors file.
    """
    usual = [name for name in (*FILES, *parts.INDICES) if name in names]
    single = [name for name in names if name.endswith('.safetensors')]
    if usual or len(single) == 1:
        return (usual or single)[0]
    names_text = ', '.join(sorted(names)[:20]) or 'it is empty'
    raise HubError(
        f'{spec}: it has none of {", ".join(FILES)}; append one of its files after a slash: '
        f'{names_text}.'
    )


def _check(path: pathlib.Path, spec: str) -> None:
    """Verifies the SHA-256 under which the cache keeps a file; a damaged file is deleted.

    The path is a link to `blobs/<sum>`, which may itself be a link to a store that repositories
    share.
    """
    blob = path.readlink().name if path.is_symlink() else ''
    problem = download.refusal(path)
    if problem is None and re.fullmatch('[0-9a-f]{64}', blob):
        digest = download.file_sha256(path)
        if digest != blob:
            problem = f'its SHA-256 is {digest}, but the hub states {blob}'
    if problem:
        _delete(path)
        raise HubError(f'{spec}: {path} is damaged and was deleted: {problem}')


def _delete(path: pathlib.Path) -> None:
    """Deletes a file of the cache and every target of its links."""
    while path.is_symlink():
        link, path = path, path.parent / path.readlink()
        link.unlink()
    path.unlink(missing_ok=True)


def _json(repository: Repository, file: str) -> Mapping[str, Any]:
    path = repository.find(file)
    try:
        return _fields(path)
    except HubError as error:
        assert path is not None
        _delete(path)
        raise HubError(f'{error}; it was deleted') from error


def _fields(path: pathlib.Path | None) -> Mapping[str, Any]:
    """The fields of a JSON file; empty if there is no file."""
    if path is None or not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text())
        if not isinstance(fields, dict):
            raise ValueError('it has no fields')
    except ValueError as error:
        raise HubError(f'{path} is no JSON: {error}') from error
    return fields


def _front_matter(text: str) -> dict[str, str]:
    """The one-line fields in the front matter of a model card."""
    matter = re.match(r'---\s*\n(.*?)\n---', text, re.DOTALL)
    lines = matter[1].splitlines() if matter else []
    pairs = [re.sub(r'\s#.*', '', line).split(':', 1) for line in lines if re.match(r'\w+:', line)]
    fields = {name: value.strip().strip('\'"') for name, value in pairs}
    return {name: value for name, value in fields.items() if value}
