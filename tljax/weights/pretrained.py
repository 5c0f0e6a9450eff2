"""The types of pretrained weights: their origin, architecture and values."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax import tree
from tljax.metrics.tasks.classes import Classes
from tljax.models import preprocessing, stages
from tljax.models.stages import Model
from tljax.types import AnyPreprocessing, Backbone, Head, Params, Stats, Task
from tljax.weights import download


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The source of weights, their licence and the classes of their task.

    Attributes:
        source: the spec that was loaded.
        format: see `files.File`; also `run` or `memory`.
        naming: the library whose names the entries have.
        path: the file; None for a run or memory.
        licence: None if unknown.
        class_names: of the upstream task, in the head's order; None if unknown.
        task: what the head's outputs mean.
        temperature: divides the logits of calibrated probabilities; None if none was fitted.
        preprocessing_is_stated: whether the preprocessing came with the weights; otherwise it is
            the family's.
        notes: the parts of a file that were loaded or left out, a sentence each.
    """

    source: str
    format: str
    naming: str
    path: pathlib.Path | None = None
    licence: str | None = None
    class_names: tuple[str, ...] | None = None
    task: Task = dataclasses.field(default_factory=Classes)
    temperature: float | None = None
    preprocessing_is_stated: bool = False
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def sha256(self) -> str | None:
        """The SHA-256 of the file, in hexadecimal; None without a file."""
        return None if self.path is None else download.file_sha256(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The network of a tljax run: a backbone, its last stage that was kept, and its head.

    `head` is None for the family's usual head.
    """

    backbone: Backbone
    cut_after: str | None = None
    head: Head | None = None

    def build(
        self, num_classes: int, images: AnyPreprocessing | None = None, task: Task | None = None
    ) -> Model:
        """The model of this network; None for a task of classes."""
        return stages.build(
            self.backbone,
            num_classes,
            cut_after=self.cut_after,
            head=self.head,
            preprocessing=images,
            task=task,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Translated weights as host arrays, with their preprocessing and origin.

    Arrays may be views of a mapped file whose axes have another order.
    """

    architecture: Architecture
    params: Params  # of every stage, and the upstream head if there is one
    stats: Stats
    preprocessing: AnyPreprocessing
    origin: Origin
    assumed: tuple[str, ...] = ()  # notes on values that nothing states

    @property
    def num_classes(self) -> int | None:
        """K of the head; None without a head."""
        head = tree.flatten({'params': {stages.HEAD: self.params.get(stages.HEAD, {})}})
        outputs = stages.outputs_of_head({path: leaf.shape for path, leaf in head.items()})
        return outputs and self.origin.task.count(outputs)

    def record(self) -> dict[str, Any]:
        """The JSON fields that a run and an export record of these weights."""
        fields = preprocessing.to_fields(self.preprocessing)
        fields.pop('vocabulary', None)  # that of the network is recorded beside it
        return {
            'source': self.origin.source,
            'sha256': self.origin.sha256,
            'format': self.origin.format,
            'naming': self.origin.naming,
            'licence': self.origin.licence,
            'preprocessing': fields,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """Weights that were read and not yet translated; only tljax's files have `architecture`."""

    entries: Mapping[str, np.ndarray]
    origin: Origin  # with an empty naming
    preprocessing: AnyPreprocessing | None = None
    architecture: Architecture | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # see `options.collect`
