"""ResNet-18 on a folder of images at 96 px: a small experiment for comparing strategies.

tljax frontier --config=resnet18_96px --config.data.path=DIR --train

DIR contains {train,test}/<class>/*.jpg. Differences from configs/resnet50_finetune.py: 18 layers,
images of 96 px (a fifth of the cost), a cosine schedule over 2 epochs, smaller batches, and one
evaluation at the end.

    --config.backbone.weights=FILE               your own file instead of torchvision's

Measured on real photographs: docs/results.md.
"""

import dataclasses

from configs import resnet50_finetune
from tljax.augment import HorizontalFlip, RandomCrop
from tljax.config.experiment import Experiment
from tljax.models.backbones.resnet import ResNet
from tljax.strategies.schedules import Cosine
from tljax.types import Preprocessing


def get_config() -> Experiment:
    """The experiment."""
    return dataclasses.replace(
        resnet50_finetune.get_config(),
        backbone=ResNet(depth=18, weights='torchvision:resnet18-f37072fd'),
        preprocessing=Preprocessing(size_px=96, resize_px=110),
        augmentations=(RandomCrop(size_px=96), HorizontalFlip()),
        schedule=Cosine(warmup_epochs=0.25),
        epochs=2,
        batch_size=20,
        evaluate=('val',),
        evaluate_every_epochs=2,
    )
