"""The file behind each form of the `weights` field, and what its surroundings say about it."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tljax.records import run_copies, runs
from tljax.storage import addresses, copies
from tljax.weights import download, hub, hub_config, packages, published, tower_config
from tljax.weights.published import Card
from tljax.weights.translation import WeightsError

HUB_FILES = '*model*.*'  # a folder with such a file is a repository of a hub
EMBEDDED = pathlib.Path(__file__).parents[1] / 'embedded'


def split_part(spec: str) -> tuple[str, str | None]:
    """A spec without its last `#`, and the dotted path of a network after it.

    If a file or folder has the `#` in its own name, the whole spec is that name.
    """
    place, mark, part = spec.rpartition('#')
    if not mark or pathlib.Path(spec).expanduser().exists():
        return spec, None
    if not part:
        raise WeightsError(f'weights {spec!r}: wanted the name of a network after #')
    return place, part


def locate(spec: str) -> tuple[pathlib.Path, Card]:
    """The file (or run folder) of a spec, downloaded if necessary, and its card.

    Raises:
        InputError: there is no such file.
    """
    kind, _, name = spec.partition(':')
    if kind == 'embedded':
        return _embedded(spec, name), Card()
    if kind == 'torchvision':
        name = published.full_name(name)
        return download.download(published.url(name)), published.card(name)
    if kind == 'pypi':
        return packages.locate(name)
    if kind == 'hf':
        return _with_card(hub.fetch(spec))
    if kind in ('http', 'https'):
        return download.download(spec), published.card(pathlib.PurePosixPath(spec).stem)
    path = _path_of(spec)
    if not path.exists():
        raise WeightsError(f'weights {spec!r}: there is no file {path.absolute()}')
    if path.is_dir() and not (path / runs.NETWORK_FILE).exists() and any(path.glob(HUB_FILES)):
        return _with_card(hub.in_folder(path))
    return path, _local_card(path)


def _path_of(spec: str) -> pathlib.Path:
    """A local path; of a file or a run in a bucket, its local copy."""
    if not addresses.in_bucket(spec):
        return addresses.local_path(spec)
    copy = copies.file(spec)
    if copy is None:
        return run_copies.folder(spec)
    if problem := download.problem_of(copy):
        raise WeightsError(f'weights {spec!r}: {problem}')
    return copy


def _embedded(spec: str, name: str) -> pathlib.Path:
    path = EMBEDDED / f'{name}.safetensors'
    if not path.is_file():
        names = sorted(f'embedded:{file.stem}' for file in EMBEDDED.glob('*.safetensors'))
        raise WeightsError(f'weights {spec!r}: there is no such file; there is {names}')
    return path


def _with_card(file: hub.HubFile) -> tuple[pathlib.Path, Card]:
    return file.path, Card(
        preprocessing=hub_config.preprocessing_of(file.config, file.preprocessor),
        licence=hub_config.licence_of(file.config, file.card),
        class_names=hub_config.class_names_of(file.config),
        config={**file.preprocessor, **tower_config.options(file.config)},
    )


def _local_card(path: pathlib.Path) -> Card:
    """The card of a file's name; configurations in the same folder override it."""
    known = published.card(path.stem)
    if path.is_dir():
        return known
    config, preprocessor = (
        _configuration(path.with_name(name)) for name in ('config.json', 'preprocessor_config.json')
    )
    if tower_config.prefers_open_clip(path.name, config):
        config = _configuration(path.with_name(tower_config.OPEN_CLIP_FILE)) or config
    return dataclasses.replace(
        known,
        config={**preprocessor, **tower_config.options(config)},
        preprocessing=hub_config.preprocessing_of(config, preprocessor) or known.preprocessing,
        class_names=hub_config.class_names_of(config) or known.class_names,
    )


def _configuration(path: pathlib.Path) -> Mapping[str, Any]:
    """The fields of a JSON file; none if it is absent or the configuration of a tljax run."""
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f'{path}: it cannot be read: {error}') from error
    ours = isinstance(config, dict) and {'backbone', 'strategy', 'data'} <= config.keys()
    return config if isinstance(config, dict) and not ours else {}
