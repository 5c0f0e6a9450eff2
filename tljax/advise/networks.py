"""Candidate networks: the experiment with its own weights, and with each further weights source."""

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
        """The short name of the weights."""
        return short(self.experiment.backbone.weights)


def short(source: str | None) -> str:
    """`resnet50` of `models/resnet50.pth`; a name that is not a path stays as it is."""
    if source is None:
        return 'random weights'
    return source if ':' in source else pathlib.PurePath(source).stem


def of(experiment: Experiment, more: Sequence[str] = ()) -> list[CandidateNetwork]:
    """The experiment's own network, and one network for each further weights source.

    The architecture of further weights is recognised from their entries. The experiment's
    `cut_after` and pretrained head do not apply to it. Its own preprocessing is used, at the size
    that the experiment states if both networks are of the same family.

    Args:
        experiment: with its own weights.
        more: further weights sources.

    Raises:
        InputError: weights cannot be loaded, are named twice, or are of an unknown network.
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
        *(_with_weights(experiment, source) for source in more),
    ]


def _with_weights(experiment: Experiment, source: str) -> CandidateNetwork:
    pretrained = loading.load(source)
    backbone: Any = dataclasses.replace(pretrained.architecture.backbone, weights=source)  # type: ignore[type-var]
    preprocessing, stated = None, experiment.preprocessing
    if type(backbone) is type(experiment.backbone) and stated is not None:
        preprocessing = dataclasses.replace(
            pretrained.preprocessing, size_px=stated.size_px, resize_px=stated.resize_px
        )
    before = (stated or experiment.backbone.preprocessing()).size_px
    after = (preprocessing or pretrained.preprocessing).size_px
    changed = dataclasses.replace(
        experiment,
        backbone=backbone,
        preprocessing=preprocessing,
        cut_after=pretrained.architecture.cut_after,
        head=None if isinstance(experiment.head, str) else experiment.head,
        augmentations=tuple(_resized(one, before, after) for one in experiment.augmentations),
    )
    return CandidateNetwork(experiment=changed, pretrained=pretrained)


def _resized(augmentation: Any, before: int, after: int) -> Any:
    """The augmentation with the new image size, if it states the old one."""
    if getattr(augmentation, 'size_px', None) != before or before == after:
        return augmentation
    return dataclasses.replace(augmentation, size_px=after)
