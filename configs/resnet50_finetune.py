"""ResNet-50 on a folder of images: frozen below its last stage, with a new head.

tljax train --config=resnet50_finetune --config.data.path=DIR

DIR contains {train,test}/<class>/*.jpg. Differences from configs/vgg16_finetune.py: the network.
Its lower stages are frozen (2.25 times fewer operations than full fine-tuning: docs/strategies.md),
and BatchNorm keeps its running statistics there.

    --config.strategy.stage=stage3               trains one more stage
    --config.strategy.stage=stem                 trains everything
    --config.backbone.depth=18 --config.backbone.weights=FILE

Measured with ResNet-18 on real photographs: docs/results.md.
"""

import dataclasses

from configs import vgg16_finetune
from tljax.config.experiment import Experiment
from tljax.models.backbones.resnet import ResNet
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FreezeBelow


def get_config() -> Experiment:
    """The experiment."""
    return dataclasses.replace(
        vgg16_finetune.get_config(),
        backbone=ResNet(depth=50, weights='torchvision:resnet50-0676ba61'),
        cut_after=None,
        strategy=FreezeBelow(stage='stage4'),
        optimizer=SGD(learning_rate=1e-2, momentum=0.9, weight_decay=5e-4),
    )
