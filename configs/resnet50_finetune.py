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

import tljax


def get_config() -> tljax.Experiment:
    """The experiment."""
    return tljax.Experiment(
        backbone=tljax.ResNet(depth=50, weights='torchvision:resnet50-0676ba61'),
        data=tljax.Folder(path='DIR'),
        strategy=tljax.FreezeBelow(stage='stage4'),
        optimizer=tljax.SGD(learning_rate=1e-2, momentum=0.9, weight_decay=5e-4),
        schedule=tljax.Step(every_epochs=2, factor=0.1),
        augmentations=(tljax.RandomCrop(size_px=224), tljax.HorizontalFlip()),
        epochs=6,
        batch_size=32,
        evaluate=('val', 'test'),
        baselines=(tljax.SolvedProbe(),),
    )
