"""Pretrained weights from anywhere: found, checked, recognised, translated.

A `weights` field takes

    None                              random weights
    path/to/file                      .safetensors, torch's .pth, .pt and .th in both forms, .npz
    path/to/workdir                   a run of ours: its best checkpoint
    path/to/folder                    a hub's repository: model.safetensors, config.json, ...
    embedded:<name>                   shipped in this package
    path/to/delta.safetensors         what a run changed of its weights, and which these were
    torchvision:<file name>           e.g. torchvision:resnet50-0676ba61
    hf:<repo>[@revision][/file]       e.g. hf:timm/resnet50.a1_in1k
    https://...                       any of the formats above
    <a file as above>#<dotted path>   one of several networks in it, e.g. file.pth#student

Downloads are kept in the cache folder (`TLJAX_CACHE`, else `~/.cache/tljax`); with
`TLJAX_OFFLINE=1` nothing else is used. What a file is, is told by its content and its names.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax import tree
from tljax.models import port, preprocessing, stages
from tljax.records import runs
from tljax.types import Backbone, InputError
from tljax.weights import (
    contents,
    delta,
    download,
    files,
    hub,
    published,
    recognise,
    stated,
    statements,
)
from tljax.weights.pretrained import (
    Architecture,
    Opened,
    Origin,
    Pretrained,
    architecture_from,
    architecture_text,
    metadata,
    save,
)
from tljax.weights.recognise import Recognised

__all__ = [
    'Architecture',
    'Opened',
    'Origin',
    'Pretrained',
    'Weights',
    'WeightsError',
    'apply_delta',
    'architecture_text',
    'load',
    'locate',
    'metadata',
    'open_',
    'recognised',
    'save',
    'translate',
]

HUB_FILES = '*model*.*'  # a folder that holds one is a repository of a hub's
EMBEDDED = pathlib.Path(__file__).parents[1] / 'embedded'

Weights = str | os.PathLike[str] | Mapping[str, Any] | Opened


class WeightsError(InputError):
    """Weights that cannot be found, trusted or used; the message says which and why."""


def load(
    weights: Weights, backbone: Backbone | None = None, *, allow_nonfinite: bool = False
) -> Pretrained:
    """Weights, verified and translated.

    Args:
        weights: see the head of this file, or a state dict in memory, `{name: array}`.
        backbone: the architecture they must fit, strictly; None to recognise it.
        allow_nonfinite: whether values may be NaN or infinite.

    Raises:
        WeightsError: they cannot be had, are of no network known, or do not fit; every misfit is
            listed.
    """
    opened = open_(weights)
    found = translate(opened, recognised(opened, backbone), allow_nonfinite=allow_nonfinite)
    return found if backbone is None else dataclasses.replace(found, assumed=())


def recognised(opened: Opened, backbone: Backbone | None = None) -> Recognised:
    """What network opened weights are of, and where each entry goes.

    Raises:
        UnknownNetworkError: none that is known.
        WeightsError: they are of another backbone, and say so.
    """
    if opened.architecture is not None:
        return _recognised_own(opened, opened.architecture, backbone)
    if backbone is not None:
        found = recognise.under(backbone, opened.entries)
        stated.check(backbone, _facts(opened), found.naming)
        return found
    found = recognise.recognise(opened.entries)
    own = stated.apply(found.backbone, _facts(opened), found.naming)
    if own == found.backbone:
        return found
    return dataclasses.replace(found, backbone=own, model=stages.build(own, found.num_classes or 1))


def _facts(opened: Opened) -> dict[str, Any]:
    """What stands beside the entries; a config.json before what the file itself says."""
    beside = statements.beside(opened.config)
    return {**opened.stated, **beside, **statements.in_entries(opened.entries)}


def _recognised_own(
    opened: Opened, architecture: Architecture, backbone: Backbone | None
) -> Recognised:
    """What we wrote says of what network it is, with what was cut off and the head put on."""
    own = architecture.backbone
    if backbone is not None and _without_weights(backbone) != _without_weights(own):
        raise WeightsError(
            f'weights {opened.origin.source!r} are of {_without_weights(own)}, '
            f'wanted {_without_weights(backbone)}'
        )
    bias = opened.entries.get(recognise.HEAD_BIAS)
    num_classes = None if bias is None else int(np.size(bias))
    return Recognised(
        backbone=own,
        naming=port.OWN,
        matched=port.own(list(opened.entries)),
        num_classes=num_classes,
        model=architecture.build(num_classes or 1, opened.preprocessing),
    )


def _without_weights(backbone: Any) -> Any:
    return dataclasses.replace(backbone, weights=None)


def translate(opened: Opened, found: Recognised, *, allow_nonfinite: bool = False) -> Pretrained:
    """The leaves of the network, in its own layout, strictly.

    A head of another form than the family's is left out, which the notes say.

    Raises:
        WeightsError: an entry is missing, too much or misshapen, all are listed; or a value is
            NaN or infinite.
    """
    source = opened.origin.source
    found, notes = recognise.without_own_head(found)
    try:
        leaves = port.placed(found.matched, opened.entries, found.wanted())
    except port.PortError as error:
        raise WeightsError(
            f'weights {source!r} do not fit {found.backbone} under the names of '
            f'{found.naming}: {error}\n'
            "Set the backbone's fields to the network they are of, or bring the names to those of "
            f'{" or ".join(found.backbone.port_tables())}; a part of a network is not loaded.'
        ) from error
    integers = [
        f'{path} ({leaf.dtype})' for path, leaf in leaves.items() if leaf.dtype.kind in 'biu'
    ]
    if integers:  # quantised: their scales are elsewhere, and as they are they mean nothing
        raise WeightsError(
            f'weights {source!r} hold integers, wanted floats: {", ".join(integers)}'
        )
    values = {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()}
    bad = [] if allow_nonfinite else [p for p, leaf in values.items() if not is_finite(leaf)]
    if bad:
        more = f' and {len(bad) - 5} more' if len(bad) > 5 else ''
        raise WeightsError(
            f'weights {source!r} hold NaN or infinite values, in {", ".join(bad[:5])}{more} '
            '(allow_nonfinite=True of tljax.load loads them all the same)'
        )
    variables, facts = tree.unflatten(values), _facts(opened)
    usual = found.backbone.preprocessing()
    images = None if opened.architecture else stated.images(opened.preprocessing or usual, facts)
    shown = opened.preprocessing or images
    assumed = stated.assumed(found.backbone, facts)
    return Pretrained(
        architecture=opened.architecture or Architecture(backbone=found.backbone),
        params=variables['params'],
        stats=variables.get('batch_stats', {}),
        preprocessing=shown or usual,
        origin=dataclasses.replace(
            opened.origin,
            naming=found.naming,
            notes=(*opened.origin.notes, *notes),
            preprocessing_is_stated=shown is not None,
        ),
        assumed=() if opened.architecture else assumed,
    )


def is_finite(leaf: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; their sum says so in one pass, unless it overflows."""
    with np.errstate(all='ignore'):
        return bool(np.isfinite(leaf.sum())) or bool(np.isfinite(leaf).all())


def open_(weights: Weights) -> Opened:
    """Finds and reads weights, without looking at what network they are of; a delta on its base."""
    if isinstance(weights, Opened):
        return weights
    if isinstance(weights, Mapping):
        chosen = contents.choose(weights)
        entries = {n: files.as_array(value) for n, value in chosen.entries.items()}
        origin = Origin(source='memory', format='memory', naming='', notes=chosen.notes)
        return Opened(entries=entries, origin=origin, stated=statements.beside(weights))
    spec = os.fspath(weights)
    place, part = split_part(spec)
    if place.startswith('torchvision:'):  # a run records which file a short name meant
        whole = f'torchvision:{published.full_name(place.removeprefix("torchvision:"))}'
        place, spec = whole, whole + spec.removeprefix(place)
    path, card = locate(place)
    if path.is_dir():
        if part is not None:
            raise WeightsError(f'weights {spec!r}: a run holds one network, #{part} names another')
        return _open_run(spec, path)
    try:
        file = files.read(path, part)
    except files.FileError:
        if path.parent == download.folder():
            path.unlink(missing_ok=True)  # or no later run would ask for it again
        raise
    opened = _opened(spec, path, file, card)
    return _on_base(opened, file.metadata, None) if delta.BASE in file.metadata else opened


def apply_delta(path: str | os.PathLike[str], base: Weights) -> Opened:
    """The network of a delta whose base lies elsewhere than it says; `load` takes it.

    Args:
        path: of the delta.
        base: the same weights, by their SHA-256.

    Raises:
        InputError: it is no delta, or of other weights.
    """
    place, card = locate(os.fspath(path))
    file = files.read(place)
    if delta.BASE not in file.metadata:
        raise WeightsError(f'{place} is no delta: it names no base')
    return _on_base(_opened(os.fspath(path), place, file, card), file.metadata, base)


def _on_base(opened: Opened, texts: Mapping[str, str], base: Weights | None) -> Opened:
    named = delta.base_of_file(texts)
    try:
        below = open_(named.source if base is None else base)
    except InputError as error:
        raise WeightsError(
            f'{opened.origin.source!r} is a delta of {named.source!r}, which cannot be had '
            f'(weights.apply_delta takes it from elsewhere): {error}'
        ) from error
    named.check(below.origin)
    backbone = delta.network_of(opened).backbone
    return delta.on_base(opened, texts, translate(below, recognised(below, backbone)))


def split_part(spec: str) -> tuple[str, str | None]:
    """A spec without what follows its last `#`, and that: the dotted path of a network inside.

    A file or folder whose own name contains the `#` is meant before a part of another.
    """
    place, mark, part = spec.rpartition('#')
    if not mark or pathlib.Path(spec).expanduser().exists():
        return spec, None
    if not part:
        raise WeightsError(f'weights {spec!r}: wanted the name of a network after #')
    return place, part


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
        name = published.full_name(name)
        return download.download(published.url(name)), published.card(name)
    if kind == 'hf':
        fetched = hub.fetch(spec)
        return fetched.path, _hub_card(fetched)
    if kind in ('http', 'https'):
        return download.download(spec), published.card(pathlib.PurePosixPath(spec).stem)
    path = pathlib.Path(spec).expanduser()
    if not path.exists():
        raise WeightsError(f'weights {spec!r}: there is no file {path.absolute()}')
    if path.is_dir() and not (path / runs.NETWORK_FILE).exists() and any(path.glob(HUB_FILES)):
        found = hub.in_folder(path)
        return found.path, _hub_card(found)
    return path, _card_beside(path)


def _card_beside(path: pathlib.Path) -> published.Card:
    """What is known of a file by its name, and by a configuration in its folder before that."""
    known = published.card(path.stem)
    if path.is_dir():
        return known
    config, preprocessor = (
        _json_beside(path, name) for name in ('config.json', 'preprocessor_config.json')
    )
    return dataclasses.replace(
        known,
        config={**preprocessor, **config},
        preprocessing=hub.preprocessing_of(config, preprocessor) or known.preprocessing,
        class_names=hub.class_names_of(config) or known.class_names,
    )


def _json_beside(path: pathlib.Path, name: str) -> Mapping[str, Any]:
    """A configuration in a file's folder; empty where there is none, or that of a run of ours."""
    beside = path.parent / name
    if not beside.is_file():
        return {}
    try:
        config = json.loads(beside.read_text())
    except ValueError as error:
        raise WeightsError(f'{beside}: it cannot be read: {error}') from error
    ours = isinstance(config, dict) and {'backbone', 'strategy', 'data'} <= config.keys()
    return config if isinstance(config, dict) and not ours else {}


def _hub_card(fetched: hub.HubFile) -> published.Card:
    return published.Card(
        preprocessing=hub.preprocessing_of(fetched.config, fetched.preprocessor),
        licence=hub.licence_of(fetched.config, fetched.card),
        class_names=hub.class_names_of(fetched.config),
        config={**fetched.preprocessor, **fetched.config},
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
            multi_label=run.multi_label,
            temperature=_temperature(
                ((run.result or {}).get('calibration') or {}).get('temperature')
            ),
            licence=(run.weights or {}).get('licence'),
            preprocessing_is_stated=True,
            notes=run.notes,
        ),
        preprocessing=run.preprocessing,
        architecture=Architecture(
            backbone=run.backbone,
            cut_after=run.cut_after,
            head=None if isinstance(run.head, str) else run.head,
        ),
    )


def _temperature(value: Any) -> float | None:
    """A temperature as it was recorded.

    Raises:
        ValueError: it is no positive number.
    """
    if value is None:
        return None
    temperature = float(value)
    if not 0 < temperature < float('inf'):
        raise ValueError(f'temperature is {value!r}, wanted a positive number')
    return temperature


def _opened(spec: str, path: pathlib.Path, file: files.File, card: published.Card) -> Opened:
    """A file, with what it says of itself before what is known of its name.

    Raises:
        WeightsError: what it says of itself cannot be read.
    """
    shown, class_names, architecture = card.preprocessing, card.class_names, None
    texts = file.metadata
    try:
        if 'preprocessing' in texts:
            shown = preprocessing.from_fields(json.loads(texts['preprocessing']))
        if 'class_names' in texts:
            class_names = tuple(map(str, json.loads(texts['class_names'])))
        if 'architecture' in texts:
            architecture = architecture_from(json.loads(texts['architecture']))
        temperature = _temperature(texts.get('temperature') if 'tljax' in texts else None)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f'{path}: its metadata cannot be read: {error!r}') from error
    origin = Origin(
        source=spec,
        format=file.format,
        naming='',
        path=path,
        licence=texts.get('licence', card.licence),
        class_names=class_names,
        multi_label=texts.get('multi_label') == 'true',
        temperature=temperature,
        preprocessing_is_stated=shown is not None,
        notes=file.notes,
    )
    return Opened(
        entries=file.entries,
        origin=origin,
        preprocessing=shown,
        architecture=architecture,
        config=card.config,
        stated=file.stated if architecture is None else {},
    )
