"""ResNet-50 on a folder of images: frozen below its last stage, new head.

python -m tljax.main --config=configs/resnet50_finetune.py --config.data.path=DIR

DIR holds {train,test}/<class>/*.jpg. Delta to configs/vgg16_finetune.py: the network, its frozen
lower stages (a third of the training cost), batch normalisation that keeps its statistics there.

    --config.strategy.stage=stage3               trains one stage more
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
