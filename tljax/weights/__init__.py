"""Pretrained weights from anywhere: found, checked, recognised, translated.

A `weights` field takes

    None                              random weights
    path/to/file                      .safetensors, torch's .pth, .pt and .th in both forms, .npz
    path/to/workdir                   a run of ours: its best checkpoint
    embedded:<name>                   shipped in this package
    torchvision:<file name>           e.g. torchvision:resnet50-0676ba61
    hf:<repo>[@revision][/file]       e.g. hf:timm/resnet50.a1_in1k
    https://...                       any of the formats above

Downloads are kept in the cache folder (`TLJAX_CACHE`, else `~/.cache/tljax`); with
`TLJAX_OFFLINE=1` nothing else is used. What a file is, is told by its content and its names.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from tljax import port, preprocessing, runs, tree
from tljax.types import Backbone, InputError, Params, Preprocessing, Stats
from tljax.weights import download, files, published, recognise
from tljax.weights.recognise import Recognised

EMBEDDED = pathlib.Path(__file__).parents[1] / 'embedded'

Weights = str | os.PathLike[str] | Mapping[str, Any]


class WeightsError(InputError):
    """Weights that cannot be found, trusted or used; the message says which and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What travels with weights but for their values and preprocessing.

    Attributes:
        source: as they were asked for.
        format: see `files.File`; `run` or `memory` else.
        naming: who named the entries.
        path: the file, where there is one.
        licence: where it is known.
        class_names: of the source task, in the head's order, where they are known.
        preprocessing_is_stated: whether the preprocessing came with the weights or is the
            family's.
    """

    source: str
    format: str
    naming: str
    path: pathlib.Path | None = None
    licence: str | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing_is_stated: bool = False

    @functools.cached_property
    def sha256(self) -> str | None:
        """Of the file, in hexadecimal."""
        return None if self.path is None else download.file_sha256(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Translated weights, as host arrays, with what travels with them.

    Arrays may be views of a mapped file, in another order of axes.
    """

    backbone: Backbone
    params: Params  # every stage, the source task's head included where it is there
    stats: Stats
    preprocessing: Preprocessing
    origin: Origin

    def record(self) -> dict[str, Any]:
        """What a run and an export say of its weights."""
        return {
            'source': self.origin.source,
            'sha256': self.origin.sha256,
            'format': self.origin.format,
            'naming': self.origin.naming,
            'licence': self.origin.licence,
            'preprocessing': preprocessing.to_fields(self.preprocessing),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """Weights found and read, not yet placed."""

    entries: Mapping[str, np.ndarray]
    origin: Origin  # its naming is still empty
    preprocessing: Preprocessing | None = None
    backbone: Backbone | None = None


def load(weights: Weights, backbone: Backbone | None = None) -> Pretrained:
    """Weights, verified and translated.

    Args:
        weights: see the head of this file, or a state dict in memory, `{name: array}`.
        backbone: the architecture they must fit, strictly; None to recognise it.

    Raises:
        WeightsError: they cannot be had, are of no network known, or do not fit; every misfit is
            listed.
    """
    return translate(opened := open_(weights), recognised(opened, backbone))


def recognised(opened: Opened, backbone: Backbone | None = None) -> Recognised:
    """What network opened weights are of, and where each entry goes.

    Raises:
        UnknownNetworkError: none that is known.
    """
    backbone = backbone or opened.backbone
    if backbone is not None:
        return recognise.under(backbone, opened.entries)
    return recognise.recognise(opened.entries)


def translate(opened: Opened, found: Recognised) -> Pretrained:
    """The leaves of the network, in its own layout, strictly.

    Raises:
        WeightsError: an entry is missing, too much or misshapen; all are listed.
    """
    source = opened.origin.source
    try:
        leaves = port.placed(found.matched, opened.entries, found.wanted())
    except port.PortError as error:
        raise WeightsError(
            f'weights {source!r} do not fit {found.backbone} under the names of '
            f'{found.naming}: {error}\n'
            'Name the backbone they are of, or translate the names first; weights of a part of '
            'a network are not loaded.'
        ) from error
    values = {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()}
    variables = tree.unflatten(values)
    return Pretrained(
        backbone=found.backbone,
        params=variables['params'],
        stats=variables.get('batch_stats', {}),
        preprocessing=opened.preprocessing or found.backbone.preprocessing(),
        origin=dataclasses.replace(opened.origin, naming=found.naming),
    )


def open_(weights: Weights) -> Opened:
    """Finds and reads weights, without looking at what network they are of."""
    if isinstance(weights, Mapping):
        entries = {name: np.asarray(value) for name, value in files.unwrapped(weights).items()}
        return Opened(entries=entries, origin=Origin(source='memory', format='memory', naming=''))
    spec = os.fspath(weights)
    path, card = locate(spec)
    if path.is_dir():
        return _open_run(spec, path)
    try:
        file = files.read(path)
    except files.FileError:
        if path.parent == download.folder():
            path.unlink(missing_ok=True)  # or no later run would ask for it again
        raise
    return _opened(spec, path, file, card)


def locate(spec: str) -> tuple[pathlib.Path, published.Card]:
    """The file (or workdir) behind a spec, downloaded where it has to be, and what is known of it.

    Raises:
        InputError: there is none.
    """
    kind, _, name = spec.partition(':')
    if kind == 'embedded':
        path = EMBEDDED / f'{name}.safetensors'
        if not path.is_file():
            there = sorted(f'embedded:{file.stem}' for file in EMBEDDED.glob('*.safetensors'))
            raise WeightsError(f'weights {spec!r}: there is no such file; there is {there}')
        return path, published.Card()
    if kind == 'torchvision':
        return download.download(published.url(name)), published.card(name)
    if kind == 'hf':
        from tljax.weights import hub

        fetched = hub.fetch(spec)
        return fetched.path, _hub_card(fetched)
    if kind in ('http', 'https'):
        return download.download(spec), published.card(pathlib.PurePosixPath(spec).stem)
    path = pathlib.Path(spec).expanduser()
    if not path.exists():
        raise WeightsError(f'weights {spec!r}: there is no file {path.absolute()}')
    return path, published.card(path.stem)


def _hub_card(fetched: Any) -> published.Card:
    from tljax.weights import hub

    return published.Card(
        preprocessing=hub.preprocessing_of(fetched.config, fetched.preprocessor),
        licence=hub.licence_of(fetched.config, fetched.card),
        class_names=hub.class_names_of(fetched.config),
    )


def _open_run(spec: str, workdir: pathlib.Path) -> Opened:
    run = runs.read(workdir)
    return Opened(
        entries=tree.flatten({'params': run.params, 'batch_stats': run.stats}),
        origin=Origin(
            source=spec,
            format='run',
            naming=port.OWN,
            class_names=run.class_names,
            licence=(run.weights or {}).get('licence'),
            preprocessing_is_stated=True,
        ),
        preprocessing=run.preprocessing,
        backbone=run.experiment.backbone,
    )


def _opened(spec: str, path: pathlib.Path, file: files.File, card: published.Card) -> Opened:
    """A file, with what it says of itself before what is known of its name."""
    stated = card.preprocessing
    if 'preprocessing' in file.metadata:
        try:
            stated = preprocessing.from_fields(json.loads(file.metadata['preprocessing']))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f'{path}: its preprocessing cannot be read: {error!r}') from error
    class_names = card.class_names
    if 'class_names' in file.metadata:
        class_names = tuple(json.loads(file.metadata['class_names']))
    origin = Origin(
        source=spec,
        format=file.format,
        naming='',
        path=path,
        licence=file.metadata.get('licence', card.licence),
        class_names=class_names,
        preprocessing_is_stated=stated is not None,
    )
    return Opened(entries=file.entries, origin=origin, preprocessing=stated)


def save(path: pathlib.Path, params: Params, stats: Stats, metadata: Mapping[str, str]) -> None:
    """Writes our own form: safetensors under our own paths, with metadata."""
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    safetensors.numpy.save_file(arrays, path, metadata=dict(metadata))
