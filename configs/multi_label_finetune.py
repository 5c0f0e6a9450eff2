"""ResNet-50 on a list of images with several labels each, or none.

python -m tljax.main --config=configs/multi_label_finetune.py --config.data.path=LIST

LIST is CSV, `path,label[,split]` with labels separated by `;`, or JSON lines: docs/data.md. Delta
to configs/resnet50_finetune.py: the source and the loss; the mean average precision picks the
checkpoint.

    --config.balance=weigh                       what is there weighs as much as what is not

No result is stated: no set of photographs with several labels could be had where this was written.
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
