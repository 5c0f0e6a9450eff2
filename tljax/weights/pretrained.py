"""Pretrained weights as values: of what network, from where, and what travels in files."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from tljax import tree, version
from tljax.config import json_form
from tljax.models import preprocessing, stages
from tljax.models.stages import Model
from tljax.types import Backbone, Head, Params, Preprocessing, Stats
from tljax.weights import download


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
        multi_label: whether an image of the source task has a set of them.
        temperature: that divides the logits of calibrated probabilities; None if none was fitted.
        preprocessing_is_stated: whether the preprocessing came with the weights or is the
            family's.
        notes: what of a file was taken and what was left out, a sentence each.
    """

    source: str
    format: str
    naming: str
    path: pathlib.Path | None = None
    licence: str | None = None
    class_names: tuple[str, ...] | None = None
    multi_label: bool = False
    temperature: float | None = None
    preprocessing_is_stated: bool = False
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def sha256(self) -> str | None:
        """Of the file, in hexadecimal."""
        return None if self.path is None else download.file_sha256(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The network of a run of ours: a backbone, what of it was kept, and the head put on.

    `head` is None for the family's own.
    """

    backbone: Backbone
    cut_after: str | None = None
    head: Head | None = None

    def build(self, num_classes: int, shown: Preprocessing | None = None) -> Model:
        """Its model."""
        return stages.build(
            self.backbone,
            num_classes,
            cut_after=self.cut_after,
            head=self.head,
            preprocessing=shown,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Translated weights, as host arrays, with what travels with them.

    Arrays may be views of a mapped file, in another order of axes.
    """

    architecture: Architecture
    params: Params  # every stage, the source task's head included where it is there
    stats: Stats
    preprocessing: Preprocessing
    origin: Origin
    assumed: tuple[str, ...] = ()  # of the network, where nothing says it

    @property
    def num_classes(self) -> int | None:
        """K of the head; None where there is none."""
        head = self.params.get(stages.HEAD)
        return None if head is None else len(head['linear']['bias'])

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
    """Weights found and read, not yet placed; `architecture` is known of what we wrote."""

    entries: Mapping[str, np.ndarray]
    origin: Origin  # its naming is still empty
    preprocessing: Preprocessing | None = None
    architecture: Architecture | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of config.json
    stated: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # in the file, `statements`


def architecture_from(fields: Mapping[str, Any]) -> Architecture | None:
    """What a file says of its network; None where it names a class that is not tljax's own.

    A file may come from anybody, so nothing else is imported for it.
    """
    if json_form.foreign_modules(fields):
        return None
    decoded = {name: json_form.decode(value, ours_only=True) for name, value in fields.items()}
    return Architecture(**decoded)


def metadata(pretrained: Pretrained) -> dict[str, str]:
    """What travels in a safetensors file beside the values; `load` reads it back."""
    texts = {
        'format': 'pt',  # which the readers of timm and transformers insist on
        'preprocessing': json.dumps(preprocessing.to_fields(pretrained.preprocessing)),
        'source': pretrained.origin.source,
        'tljax': version.__version__,
    }
    if pretrained.origin.class_names:
        texts['class_names'] = json.dumps(pretrained.origin.class_names)
    if pretrained.origin.multi_label:
        texts['multi_label'] = 'true'
    if pretrained.origin.temperature is not None:
        texts['temperature'] = repr(pretrained.origin.temperature)
    if pretrained.origin.licence:
        texts['licence'] = pretrained.origin.licence
    return texts


def architecture_text(architecture: Architecture) -> str:
    """The entry of the metadata that a file under our own paths has besides."""
    fields = dataclasses.asdict(architecture) | {
        name: json_form.encode(getattr(architecture, name)) for name in ('backbone', 'head')
    }
    return json.dumps(fields)


def save(path: pathlib.Path, params: Params, stats: Stats, metadata: Mapping[str, str]) -> None:
    """Writes our own form: safetensors under our own paths, with metadata."""
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    safetensors.numpy.save_file(arrays, path, metadata=dict(metadata))
