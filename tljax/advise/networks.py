"""Candidate networks: the experiment with its configured weights, and with further weights."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from tljax.config.experiment import Experiment
from tljax.types import InputError, images_of
from tljax.weights import loading
from tljax.weights.pretrained import Pretrained


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateNetwork:
    """An experiment with one choice of weights.

    Attributes:
        experiment: the experiment with these weights.
        pretrained: the weights; None for random weights.
    """

    experiment: Experiment
    pretrained: Pretrained | None

    @property
    def label(self) -> str:
        """The short name of the weights."""
        return short(self.experiment.backbone.weights)


def short(source: str | None) -> str:
    """A short name of a weights source: `resnet50` for `models/resnet50.pth`.

    Names such as `torchvision:resnet50` are not shortened.
    """
    if source is None:
        return 'random weights'
    return source if ':' in source else pathlib.PurePath(source).stem


def of(experiment: Experiment, more: Sequence[str] = ()) -> list[CandidateNetwork]:
    """The network of the experiment, and one network for each further weights source.

    The architecture of further weights is recognised from their entries. They are used without the
    `cut_after` and the pretrained head of the experiment. Their preprocessing is used, with the
    image size of the experiment if both networks are of the same family.

    Args:
        experiment: the experiment with its configured weights.
        more: further weights sources.

    Raises:
        InputError: weights cannot be loaded, are named twice, or are of an unknown network.
    """
    sources = [experiment.backbone.weights, *more]
    repeated = {source for source in sources if source is not None and sources.count(source) > 1}
    if repeated:
        raise InputError(
            f'--weights: {", ".join(sorted(repeated))} is named twice, or is in the config already'
        )
    configured = None
    if experiment.backbone.weights is not None:
        configured = loading.load(experiment.backbone.weights, experiment.backbone)
    return [
        CandidateNetwork(experiment=experiment, pretrained=configured),
        *(_with_weights(experiment, source) for source in more),
    ]


def _with_weights(experiment: Experiment, source: str) -> CandidateNetwork:
    """The experiment with other weights, and with the preprocessing and sizes that they need."""
    pretrained = loading.load(source)
    backbone: Any = dataclasses.replace(pretrained.architecture.backbone, weights=source)  # type: ignore[type-var]
    preprocessing, configured = None, experiment.preprocessing
    if type(backbone) is type(experiment.backbone) and configured is not None:
        sizes, usual = images_of(configured), images_of(pretrained.preprocessing)
        preprocessing = dataclasses.replace(usual, size_px=sizes.size_px, resize_px=sizes.resize_px)
    before = images_of(configured or experiment.backbone.preprocessing()).size_px
    after = images_of(preprocessing or pretrained.preprocessing).size_px
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
    """The augmentation with the new image size, if it is configured for the old one."""
    if getattr(augmentation, 'size_px', None) != before or before == after:
        return augmentation
    return dataclasses.replace(augmentation, size_px=after)
