"""ResNet-50 on a list of images with several labels each, or none.

tljax train --config=multi_label_finetune --config.data.path=LIST

LIST is CSV, `path,label[,split]` with labels separated by `;`, or JSON lines: docs/data.md.
Differences from configs/resnet50_finetune.py: the data source and the loss. The mean average
precision selects the checkpoint.

    --config.balance=weigh                       gives present and absent labels equal weight

No result is stated, because no photographs with several labels were available.
"""

import tljax


def get_config() -> tljax.Experiment:
    """The experiment."""
    return tljax.Experiment(
        backbone=tljax.ResNet(depth=50, weights='torchvision:resnet50-0676ba61'),
        data=tljax.Manifest(path='LIST'),
        strategy=tljax.FreezeBelow(stage='stage4'),
        optimizer=tljax.SGD(learning_rate=1e-2, momentum=0.9, weight_decay=5e-4),
        schedule=tljax.Step(every_epochs=2, factor=0.1),
        loss=tljax.BinaryCrossEntropy(),
        augmentations=(tljax.RandomCrop(size_px=224), tljax.HorizontalFlip()),
        epochs=6,
        batch_size=32,
        evaluate=('val', 'test'),
        baselines=(tljax.SolvedProbe(),),
    )
