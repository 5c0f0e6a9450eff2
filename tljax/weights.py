"""Where pretrained weights come from: finding, downloading, hashing and safely reading files.

A `weights` field takes

    None                         random weights
    path/to/file                 .safetensors, or torch's .pth, .pt, .th in both of its forms
    embedded:<name>              shipped in this package
    torchvision:<file name>      e.g. torchvision:resnet50-0676ba61
    https://...                  any of the above formats

Downloads are kept in the cache folder (`TLJAX_CACHE`, else `~/.cache/tljax`).
"""

import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import re
import tempfile
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tljax import model as models
from tljax import port, runtime, torch_file, tree
from tljax.types import Backbone, InputError, Interpolation, Params, Preprocessing, Stats

EMBEDDED = pathlib.Path(__file__).parent / 'embedded'
TORCHVISION_URL = 'https://download.pytorch.org/models/{name}.pth'


class WeightsError(InputError):
    """Weights that cannot be found, trusted or used; the message says which and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Translated weights, as host arrays, with what travels with them."""

    params: Params  # every stage, the source task's head included
    stats: Stats
    preprocessing: Preprocessing
    source: str
    sha256: str


def load(spec: str, backbone: Backbone) -> Pretrained:
    """Weights for a backbone, verified and translated.

    Args:
        spec: see the head of this file.
        backbone: the architecture they must fit, strictly.

    Raises:
        WeightsError: they cannot be had, or do not fit; every misfit is listed.
    """
    path = locate(spec)
    try:
        entries, metadata = read(path)
    except WeightsError:
        if path.parent == _download_folder():
            path.unlink(missing_ok=True)  # or no later run would ask for it again
        raise
    leaves = _translate(spec, entries, backbone)
    preprocessing = backbone.preprocessing()
    if 'preprocessing' in metadata:
        try:
            preprocessing = preprocessing_from_json(metadata['preprocessing'])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f'{path}: its preprocessing cannot be read: {error!r}') from error
    return Pretrained(
        params=leaves['params'],
        stats=leaves.get('batch_stats', {}),
        preprocessing=preprocessing,
        source=spec,
        sha256=file_sha256(path),
    )


def locate(spec: str) -> pathlib.Path:
    """The file behind a spec, downloaded where it has to be.

    Raises:
        WeightsError: there is none.
    """
    kind, _, name = spec.partition(':')
    if kind == 'embedded':
        path = EMBEDDED / f'{name}.safetensors'
        if not path.is_file():
            there = sorted(f'embedded:{file.stem}' for file in EMBEDDED.glob('*.safetensors'))
            raise WeightsError(f'weights {spec!r}: there is no such file; there is {there}')
        return path
    if kind == 'torchvision':
        return download(TORCHVISION_URL.format(name=name))
    if kind in ('http', 'https'):
        return download(spec)
    path = pathlib.Path(spec).expanduser()
    if not path.is_file():
        raise WeightsError(f'weights {spec!r}: there is no file {path.absolute()}')
    return path


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """A file's arrays by their own names, and its metadata (safetensors only).

    The format is told by the content. Wrappers such as `{'state_dict': ...}` are opened, and
    `module.` is cut off names that all carry it, as torch's DataParallel leaves them.

    Raises:
        WeightsError: the file is of no known kind, damaged, or refused as unsafe.
    """
    with path.open('rb') as file:
        start = file.read(16)
    try:
        # A safetensors file begins with the length of its header, whose bytes may be anything.
        if start[8:9] == b'{':
            with safetensors.safe_open(path, framework='numpy') as handle:
                metadata = handle.metadata() or {}
            return safetensors.numpy.load_file(path), metadata
        if start[:2] == b'PK' or start[:1] == b'\x80':
            return _state_dict(torch_file.read(path)), {}
    except (ValueError, safetensors.SafetensorError) as error:
        named = str(path) in str(error)
        raise WeightsError(str(error) if named else f'{path}: {error}') from error
    raise WeightsError(f'{path}: neither a safetensors nor a torch file; it starts with {start!r}')


def save(path: pathlib.Path, params: Params, stats: Stats, metadata: Mapping[str, str]) -> None:
    """Writes our own form: safetensors under our own paths, with metadata."""
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    safetensors.numpy.save_file(arrays, path, metadata=dict(metadata))


def preprocessing_to_json(preprocessing: Preprocessing) -> str:
    """For a file's metadata."""
    fields = dataclasses.asdict(preprocessing)
    return json.dumps(fields | {'interpolation': preprocessing.interpolation.value})


def preprocessing_from_json(text: str) -> Preprocessing:
    """The inverse of `preprocessing_to_json`.

    Raises:
        ValueError: a value is of another kind or out of range.
        AttributeError, KeyError, TypeError: the fields are others.
    """
    fields = json.loads(text)
    fields['interpolation'] = Interpolation(fields['interpolation'])
    for name in ('mean', 'std'):
        fields[name] = tuple(float(value) for value in fields[name])
    for name in ('size_px', 'resize_px'):
        if not isinstance(fields[name], int):
            raise TypeError(f'{name} is {fields[name]!r}, wanted a whole number')
    preprocessing = Preprocessing(**fields)
    if problems := preprocessing.problems():
        raise ValueError('; '.join(problems))
    return preprocessing


def file_sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def download(url: str) -> pathlib.Path:
    """The file at `url`, from the cache folder or the network.

    It arrives under a temporary name and takes its own only when whole: its length is what the
    server announced and, where its name ends in `-` and 8 hexadecimal digits, as torchvision's
    do, its SHA-256 begins with them.

    Raises:
        WeightsError: no answer, or not the file that was meant. Nothing of it is left.
    """
    folder = _download_folder()
    name = url.rpartition('/')[2]
    path = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=folder, suffix='.part')
    try:
        with os.fdopen(handle, 'wb') as file:
            _fetch(url, file)
        digest = file_sha256(pathlib.Path(part))
        stated = re.search(r'-([0-9a-f]{8,64})\.\w+$', name)
        if stated and not digest.startswith(stated[1]):
            raise WeightsError(f'{url}: its SHA-256 is {digest}, its name promises {stated[1]}')
        pathlib.Path(part).replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f'{url}: could not be downloaded ({error}); a file can be named by its path instead'
        ) from error
    finally:
        pathlib.Path(part).unlink(missing_ok=True)
    return path


def _download_folder() -> pathlib.Path:
    return runtime.cache_dir() / 'weights'


def _fetch(url: str, file: Any) -> None:
    with urllib.request.urlopen(url, timeout=60) as answer:
        announced = answer.headers.get('Content-Length')
        received = 0
        while chunk := answer.read(1 << 20):
            file.write(chunk)
            received += len(chunk)
    if announced is not None and received != int(announced):
        raise WeightsError(f'{url}: {received} bytes came of {announced} announced')


def _state_dict(content: Any) -> dict[str, np.ndarray]:
    """The arrays of a torch file, out of whatever wraps them."""
    for key in ('state_dict', 'model', 'model_state_dict'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    fine = isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in content.items()
    )
    if not fine:
        raise WeightsError('the torch file holds no dictionary of tensors')
    if content and all(name.startswith('module.') for name in content):
        content = {name.removeprefix('module.'): value for name, value in content.items()}
    return content


def _translate(spec: str, entries: dict[str, np.ndarray], backbone: Backbone) -> dict[str, Any]:
    own = any(name.startswith(('params/', 'batch_stats/')) for name in entries)
    head = f'params/{models.HEAD}/linear/bias'
    rules = backbone.port_rules()
    names = [head] if own else [rule.foreign for rule in rules if rule.ours == head]
    num_classes = next((entries[name].size for name in names if name in entries), 1000)
    params, stats = models.shapes(models.build(backbone, num_classes))
    wanted = tree.flatten({'params': params, 'batch_stats': stats})
    try:
        leaves = port.own(entries, wanted) if own else port.to_ours(entries, rules, wanted)
    except port.PortError as error:
        raise WeightsError(f'weights {spec!r} do not fit {backbone}: {error}') from error
    return tree.unflatten({path: leaf.astype(np.float32) for path, leaf in leaves.items()})
