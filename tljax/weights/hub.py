"""Weights in repositories of the Hugging Face hub, with what the repository says of them.

`hf:<repo>[@revision][/file]`, e.g. `hf:timm/resnet50.a1_in1k` or
`hf:microsoft/resnet-50@main/model.safetensors`. A revision is a branch, a tag or a commit without
slashes, or one of the form `refs/pr/3`.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tljax import runtime
from tljax.types import InputError, Interpolation, Preprocessing
from tljax.weights import download

FORM = 'hf:<owner>/<name>[@revision][/file]'
# What is looked for, in this order, where no file is named.
FILES = ('model.safetensors', 'pytorch_model.safetensors', 'pytorch_model.bin', 'model.pth')
_SPEC = re.compile(
    r'hf:(?P<repo>[\w.\-]+/[\w.\-]+)(@(?P<revision>refs/\w+/[\w.\-]+|[\w.\-]+))?(/(?P<file>.+))?'
)
# timm crops so large a share where a configuration does not say.
TIMM_CROP_SHARE = 0.875
# ConvNeXt's processor in transformers crops below this size, and squashes from it on.
SQUASHED_FROM_PX = 384
RESAMPLING = {2: Interpolation.BILINEAR, 3: Interpolation.BICUBIC}  # as Pillow numbers them


class HubError(InputError):
    """A repository or file that cannot be had."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubSpec:
    """A repository, and what of it; None for its main branch and for the usual file."""

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
        config: of config.json.
        preprocessor: of preprocessor_config.json.
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
    if found is None:
        raise HubError(f'weights {spec!r}: wanted {FORM}')
    return HubSpec(repo=found['repo'], revision=found['revision'], file=found['file'])


def fetch(spec: str) -> HubFile:
    """A repository's weights, from the cache or the hub.

    The cache is the hub library's own, shared with other libraries, unless `TLJAX_CACHE` is set.
    A file whose blob is named by its SHA-256, as large ones are, is held to it.

    Raises:
        HubError: the library is missing, or the repository, revision or file cannot be had.
        DownloadError: something else came in the place of the file.
    """
    wanted = parse(spec)
    path = _named(wanted, wanted.file) if wanted.file else _usual(wanted)
    _check(path, spec)
    return HubFile(
        path=path,
        repo=wanted.repo,
        revision=_commit(path),
        config=_json(wanted, 'config.json'),
        preprocessor=_json(wanted, 'preprocessor_config.json'),
        card=_front_matter(_text(wanted, 'README.md')),
    )


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise HubError("hf: needs huggingface_hub: pip install 'tljax[hub]'") from error
    return huggingface_hub


def _download(wanted: HubSpec, file: str) -> pathlib.Path:
    """One file; the hub library's errors are its own."""
    cache = runtime.cache_dir() / 'hub' if os.environ.get('TLJAX_CACHE') else None
    return pathlib.Path(
        _hub().hf_hub_download(
            wanted.repo,
            file,
            revision=wanted.revision,
            cache_dir=cache,
            endpoint=os.environ.get('HF_ENDPOINT'),
            local_files_only=download.offline(),
        )
    )


def _named(wanted: HubSpec, file: str) -> pathlib.Path:
    """One file, or the reason why not in a line.

    Raises:
        HubError: it cannot be had.
    """
    errors, where = _hub().errors, f'hf:{wanted.repo}'
    revision = wanted.revision or 'main'
    try:
        return _download(wanted, file)
    except errors.GatedRepoError as error:
        reason = 'it is gated: accept its terms on the hub, then `hf auth login`'
        raise HubError(f'{where}: {reason}') from error
    except errors.RepositoryNotFoundError as error:
        reason = 'there is no such repository, or it is private and needs `hf auth login`'
        raise HubError(f'{where}: {reason}') from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f'{where}: it has no revision {revision!r}') from error
    except errors.LocalEntryNotFoundError as error:
        reason = 'and the hub does not answer'
        if download.offline():
            reason = 'and TLJAX_OFFLINE or HF_HUB_OFFLINE forbids to download it'
        raise HubError(f'{where}: {file} is not in the cache, {reason}') from error
    except errors.EntryNotFoundError as error:
        raise HubError(f'{where}: it has no file {file!r} at {revision!r}') from error
    except (OSError, ValueError, RuntimeError, *_transport_errors()) as error:
        words = ' '.join(str(error).split())
        raise HubError(f'{where}: {file} could not be downloaded: {words:.300}') from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the library's HTTP client raises: httpx since release 1; before, requests' OSErrors."""
    try:
        import httpx
    except ImportError:
        return ()
    return (httpx.HTTPError,)


def _usual(wanted: HubSpec) -> pathlib.Path:
    """The weights of a repository that names no file.

    Raises:
        HubError: it has none of the usual ones, and not a single safetensors file either.
    """
    if download.offline():
        return _usual_in_cache(wanted)
    _named_or_none(wanted, 'config.json')  # tells a repository that is not there, or is gated
    names = _names(wanted)
    for name in FILES:
        if name in names:
            return _named(wanted, name)
    single = [name for name in names if name.endswith('.safetensors')]
    if len(single) == 1:
        return _named(wanted, single[0])
    parted = any(name.endswith('.index.json') for name in names)
    hint = ' Weights in several parts are not read.' if parted else ''
    there = ', '.join(sorted(names)[:20])
    raise HubError(
        f'hf:{wanted.repo}: it has none of {", ".join(FILES)}; name one of its files behind a '
        f'slash: {there}.{hint}'
    )


def _usual_in_cache(wanted: HubSpec) -> pathlib.Path:
    for name in FILES:
        if path := _named_or_none(wanted, name):
            return path
    return _named(wanted, FILES[0])


def _names(wanted: HubSpec) -> list[str]:
    """The files of a repository."""
    api = _hub().HfApi(endpoint=os.environ.get('HF_ENDPOINT'))
    try:
        return list(api.list_repo_files(wanted.repo, revision=wanted.revision))
    except (OSError, ValueError, RuntimeError, *_transport_errors()) as error:
        words = ' '.join(str(error).split())
        raise HubError(f'hf:{wanted.repo}: its files could not be listed: {words:.300}') from error


def _named_or_none(wanted: HubSpec, file: str) -> pathlib.Path | None:
    """A file that a repository may lack."""
    try:
        return _download(wanted, file)
    except _hub().errors.EntryNotFoundError:
        return None
    except Exception:
        _named(wanted, file)  # says what is wrong
        raise


def _check(path: pathlib.Path, spec: str) -> None:
    """Holds a file to the sum that names its blob; what cannot be trusted is deleted."""
    blob = path.resolve()
    try:
        if problem := download.refusal(path):
            raise HubError(f'{spec}: what came is not the file: {problem}')
        if re.fullmatch('[0-9a-f]{64}', blob.name) and download.file_sha256(path) != blob.name:
            raise HubError(f'{spec}: {path} has not the SHA-256 {blob.name} that the hub states')
    except InputError:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise


def _commit(path: pathlib.Path) -> str:
    """The cache keeps a file under `snapshots/<commit>/`."""
    parts = path.parts
    return parts[parts.index('snapshots') + 1] if 'snapshots' in parts else ''


def _text(wanted: HubSpec, file: str) -> str:
    path = _named_or_none(wanted, file)
    return path.read_text(errors='replace') if path else ''


def _json(wanted: HubSpec, file: str) -> Mapping[str, Any]:
    text = _text(wanted, file)
    try:
        found = json.loads(text or '{}')
    except ValueError as error:
        raise HubError(f'hf:{wanted.repo}: its {file} is no JSON: {error}') from error
    return found if isinstance(found, dict) else {}


def _front_matter(text: str) -> dict[str, str]:
    """The fields of a card that stand on one line."""
    found = re.match(r'---\s*\n(.*?)\n---', text, re.DOTALL)
    lines = found[1].splitlines() if found else []
    pairs = [line.split(':', 1) for line in lines if re.match(r'\w+:\s*\S', line)]
    return {name: value.strip().strip('\'"') for name, value in pairs}


# --- what the files say ---


def licence_of(config: Mapping[str, Any], card: Mapping[str, str]) -> str | None:
    """The licence that a repository states, in its card or in timm's configuration."""
    name = card.get('license')
    if name == 'other':
        name = card.get('license_name', name)
    return name or config.get('pretrained_cfg', {}).get('license') or config.get('license')


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes in the order of the logits, where they have names and not just numbers."""
    if names := config.get('label_names'):
        return tuple(map(str, names))
    labels = {int(index): str(name) for index, name in config.get('id2label', {}).items()}
    if sorted(labels) != list(range(len(labels))) or not labels:
        return None
    names = tuple(labels[index] for index in range(len(labels)))
    return None if all(re.fullmatch(r'LABEL_\d+', name) for name in names) else names


def preprocessing_of(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> Preprocessing | None:
    """What timm's or transformers' configuration says of images; None where neither does.

    Images that are squashed to a square there are resized by their short side and cut here.

    Raises:
        HubError: it says something that cannot be.
    """
    try:
        if 'pretrained_cfg' in config:
            found = _timm(config['pretrained_cfg'])
        elif 'image_mean' in preprocessor or 'size' in preprocessor:
            found = _transformers(preprocessor)
        else:
            return None
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise HubError(f'the preprocessing of the repository is odd: {error!r}') from error
    if problems := found.problems():
        raise HubError(f'the preprocessing of the repository is odd: {"; ".join(problems)}')
    return found


def _timm(fields: Mapping[str, Any]) -> Preprocessing:
    size_px = int(fields.get('input_size', (3, 224, 224))[1])
    share = float(fields.get('crop_pct') or TIMM_CROP_SHARE)
    squashed = fields.get('crop_mode') in ('squash', 'border')
    bilinear = fields.get('interpolation', 'bicubic') == 'bilinear'
    return Preprocessing(
        size_px=size_px,
        resize_px=size_px if squashed else int(size_px / share),
        interpolation=Interpolation.BILINEAR if bilinear else Interpolation.BICUBIC,
        **_mean_and_std(fields.get('mean'), fields.get('std')),
    )


def _transformers(fields: Mapping[str, Any]) -> Preprocessing:
    resize_px = _side(fields.get('size', 224))
    size_px = resize_px
    if share := fields.get('crop_pct'):
        resize_px = int(size_px / float(share)) if size_px < SQUASHED_FROM_PX else size_px
    elif fields.get('do_center_crop') and 'crop_size' in fields:
        size_px = _side(fields['crop_size'])
        resize_px = max(resize_px, size_px)
    resample = fields.get('resample', 2)
    if resample not in RESAMPLING:
        raise ValueError(f'resample is {resample}, wanted 2 (bilinear) or 3 (bicubic)')
    return Preprocessing(
        size_px=size_px,
        resize_px=resize_px,
        interpolation=RESAMPLING[resample],
        **_mean_and_std(fields.get('image_mean'), fields.get('image_std')),
    )


def _side(size: Any) -> int:
    """One side out of a number, or of a dictionary with the short one or with both."""
    if isinstance(size, Mapping):
        return int(size.get('shortest_edge') or size['height'])
    return int(size)


def _mean_and_std(mean: Any, std: Any) -> dict[str, tuple[float, ...]]:
    named = {'mean': mean, 'std': std}
    return {name: tuple(map(float, value)) for name, value in named.items() if value is not None}
