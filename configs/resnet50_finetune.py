"""ResNet-50 on a folder of images: frozen below its last stage, new head.

python -m tljax.main --config=configs/resnet50_finetune.py --config.data.path=DIR

DIR holds {train,test}/<class>/*.jpg. Delta to configs/vgg16_finetune.py: the network, its frozen
lower stages (a third of the training cost), batch normalisation that keeps its statistics there.

    --config.strategy.stage=stage3               trains one stage more
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
