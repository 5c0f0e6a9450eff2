"""ResNet-18 on a folder of images at 96 px: a small experiment for comparing strategies.

tljax frontier --config=resnet18_96px --config.data.path=DIR --train

DIR contains {train,test}/<class>/*.jpg. Differences from configs/resnet50_finetune.py: 18 layers,
images of 96 px (a fifth of the cost), a cosine schedule over 2 epochs, smaller batches, and one
evaluation at the end.

    --config.backbone.weights=FILE               your own file instead of torchvision's

Measured on real photographs: docs/results.md.
"""

import tljax


def get_config() -> tljax.Experiment:
    """The experiment."""
    return tljax.Experiment(
        backbone=tljax.ResNet(depth=18, weights='torchvision:resnet18-f37072fd'),
        preprocessing=tljax.Preprocessing(size_px=96, resize_px=110),
        data=tljax.Folder(path='DIR'),
        strategy=tljax.FreezeBelow(stage='stage4'),
        optimizer=tljax.SGD(learning_rate=1e-2, momentum=0.9, weight_decay=5e-4),
        schedule=tljax.Cosine(warmup_epochs=0.25),
        augmentations=(tljax.RandomCrop(size_px=96), tljax.HorizontalFlip()),
        epochs=2,
        batch_size=20,
        evaluate=('val',),
        evaluate_every_epochs=2,
        baselines=(tljax.SolvedProbe(), tljax.FromScratch()),
    )
