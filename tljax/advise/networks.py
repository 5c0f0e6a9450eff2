"""Candidate networks: the experiment with its own weights, and with each further source."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from tljax.config.experiment import Experiment
from tljax.types import InputError
from tljax.weights import loading
from tljax.weights.pretrained import Pretrained


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateNetwork:
    """An experiment with certain weights, and these weights; None for random ones."""

    experiment: Experiment
    pretrained: Pretrained | None

    @property
    def label(self) -> str:
        """The weights' short name."""
        return short(self.experiment.backbone.weights)


def short(source: str | None) -> str:
    """`resnet50` of `models/resnet50.pth`; what is no path stays as it is."""
    if source is None:
        return 'random weights'
    return source if ':' in source else pathlib.PurePath(source).stem


def of(experiment: Experiment, more: Sequence[str] = ()) -> list[CandidateNetwork]:
    """The experiment's own network, and one for each further source of weights.

    A further one is recognised by its entries. What the experiment says of a network's stages
    (`cut_after`, a head that came with the weights) is put aside for it; its own preprocessing
    counts, at the size that the experiment states where it is of the same family.

    Raises:
        InputError: weights cannot be had, are named twice, or are of no network known.
    """
    named = [experiment.backbone.weights, *more]
    twice = {source for source in named if source is not None and named.count(source) > 1}
    if twice:
        raise InputError(f'--weights: {sorted(twice)} are named twice, or are those of the config')
    own = None
    if experiment.backbone.weights is not None:
        own = loading.load(experiment.backbone.weights, experiment.backbone)
    return [
        CandidateNetwork(experiment=experiment, pretrained=own),
        *(_other(experiment, s) for s in more),
    ]


def _other(experiment: Experiment, source: str) -> CandidateNetwork:
    pretrained = loading.load(source)
    backbone: Any = dataclasses.replace(pretrained.architecture.backbone, weights=source)  # type: ignore[type-var]
    shown = None
    if type(backbone) is type(experiment.backbone) and experiment.preprocessing is not None:
        stated, found = experiment.preprocessing, pretrained.preprocessing
        shown = dataclasses.replace(found, size_px=stated.size_px, resize_px=stated.resize_px)
    before = (experiment.preprocessing or experiment.backbone.preprocessing()).size_px
    after = (shown or pretrained.preprocessing).size_px
    changed = dataclasses.replace(
        experiment,
        backbone=backbone,
        preprocessing=shown,
        cut_after=pretrained.architecture.cut_after,
        head=None if isinstance(experiment.head, str) else experiment.head,
        augmentations=tuple(_resized(one, before, after) for one in experiment.augmentations),
    )
    return CandidateNetwork(experiment=changed, pretrained=pretrained)


def _resized(augmentation: Any, before: int, after: int) -> Any:
    """The augmentation for images of another size, where it states that of the others."""
    if getattr(augmentation, 'size_px', None) != before or before == after:
        return augmentation
    return dataclasses.replace(augmentation, size_px=after)
