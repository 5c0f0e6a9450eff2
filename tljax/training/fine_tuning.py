"""Training in Python: `tljax.train` and `tljax.fine_tune`."""

import dataclasses
import difflib
import pathlib
import re
from typing import Any

from tljax.augment import HorizontalFlip, RandomCrop
from tljax.config.experiment import ConfigError, Experiment
from tljax.data.arrays import Arrays
from tljax.data.folder import Folder
from tljax.data.manifest import Manifest
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vgg import VGG
from tljax.storage import addresses
from tljax.strategies import strategies
from tljax.strategies.optimizers import SGD, AdamW
from tljax.strategies.schedules import Cosine, Step
from tljax.strategies.strategies import FineTune, FreezeBelow
from tljax.training import baselines
from tljax.training.trained_run import TrainedRun
from tljax.types import Backbone, DataSource, Strategy, images_of
from tljax.weights import loading


def train(experiment: Experiment, workdir: str | pathlib.Path | None = None) -> TrainedRun:
    """Runs an experiment and its baselines, like `tljax train`.

    If the folder contains a finished run of the experiment, the call reads it; if that run was
    stopped, the call resumes it.

    Args:
        experiment: the experiment.
        workdir: the folder of the run, or its address in a bucket; None for
            `runs/<network>_<data>_<strategy>`.

    Returns:
        The run, read from its folder.

    Raises:
        InputError: the experiment cannot run, or the folder belongs to another experiment.
    """
    folder = addresses.path_or_address(workdir or pathlib.Path('runs') / _name(experiment))
    baselines.train_all(experiment, folder)
    return TrainedRun(folder)


def fine_tune(
    data: str | pathlib.Path | DataSource,
    weights: str,
    strategy: Strategy | None = None,
    *,
    epochs: float = 6,
    workdir: str | pathlib.Path | None = None,
    **fields: Any,
) -> TrainedRun:
    """Fine-tunes a pretrained network on labelled images and evaluates it.

    The weights determine the network. The defaults are those of the shipped configs: random crops
    and horizontal flips, batches of 32, validation after every epoch, and for each family

        ResNet     FreezeBelow the last stage, SGD at 0.01, divided by 10 every 2 epochs
        VGG        FineTune, SGD at 0.001, divided by 10 every 2 epochs
        others     FineTune(backbone_scale=0.1), AdamW at 0.001, Cosine with one epoch of warm-up

    SGD has momentum 0.9 and weight decay 5e-4, AdamW has weight decay 0.05. No baselines are run.

    Args:
        data: the path of a folder `{train,test}/<class>/*.jpg`, of a list (`.csv`, `.jsonl`) or of
            an `.npz` file of arrays; or a data source.
        weights: `torchvision:<name>`, `hf:<repo>`, a file or a run's folder; see `load`.
        strategy: the strategy; None for the default of the family.
        epochs: passes over the training images.
        workdir: the folder of the run, or its address in a bucket; None for
            `runs/<network>_<data>_<strategy>`.
        **fields: other fields of `Experiment`.

    Returns:
        The run, read from its folder.

    Raises:
        InputError: the weights cannot be loaded, the data cannot be read, or a field is unknown.
    """
    _check_names(fields)
    pretrained = loading.load(str(weights))
    backbone: Any = dataclasses.replace(pretrained.architecture.backbone, weights=str(weights))  # type: ignore[type-var]
    family_defaults = defaults(backbone, images_of(pretrained.preprocessing).size_px)
    family_defaults['cut_after'] = pretrained.architecture.cut_after
    if strategy is not None:
        family_defaults['strategy'] = strategy
    arguments = {'backbone': backbone, 'data': _source(data), 'epochs': epochs}
    return train(Experiment(**{**family_defaults, **arguments, **fields}), workdir)


def defaults(backbone: Backbone, size_px: int) -> dict[str, Any]:
    """The default fields of `fine_tune` for a backbone and its image size."""
    if isinstance(backbone, ResNet | ResNetSmall):
        last = list(backbone.stages())[-1]
        by_family = {
            'strategy': FreezeBelow(stage=last),
            'optimizer': SGD(learning_rate=1e-2, momentum=0.9, weight_decay=5e-4),
            'schedule': Step(every_epochs=2, factor=0.1),
        }
    elif isinstance(backbone, VGG):
        by_family = {
            'strategy': FineTune(),
            'optimizer': SGD(learning_rate=1e-3, momentum=0.9, weight_decay=5e-4),
            'schedule': Step(every_epochs=2, factor=0.1),
        }
    else:
        by_family = {
            'strategy': FineTune(backbone_scale=0.1),
            'optimizer': AdamW(learning_rate=1e-3, weight_decay=0.05),
            'schedule': Cosine(warmup_epochs=1),
        }
    return {**by_family, 'augmentations': (RandomCrop(size_px=size_px), HorizontalFlip())}


def _check_names(fields: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(Experiment)]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f'; did you mean {near[0]}?' if near else ''
            raise ConfigError(f'an Experiment has no field {name}{hint}')


def _source(data: str | pathlib.Path | DataSource) -> DataSource:
    """The data source for a path; a data source is returned unchanged."""
    if not isinstance(data, str | pathlib.Path):
        return data
    path = pathlib.Path(data).expanduser()
    if path.is_file():
        kind = Arrays if path.suffix.lower() == '.npz' else Manifest
        return kind(path=str(path))
    return Folder(path=str(path))


def _name(experiment: Experiment) -> str:
    """The default folder name of a run, such as `resnet_photos_freeze_below_stage4`."""
    data = getattr(experiment.data, 'path', None) or type(experiment.data).__name__
    parts = (
        type(experiment.backbone).__name__,
        pathlib.Path(str(data)).stem,
        strategies.name_of(experiment.strategy),
    )
    return re.sub(r'[^a-z0-9.]+', '_', '_'.join(parts).lower()).strip('_.') or 'run'
