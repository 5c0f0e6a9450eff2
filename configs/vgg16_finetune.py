"""VGG-16 fine-tuned on a folder of images, as the introductory articles have it.

python -m tljax.main --config=configs/vgg16_finetune.py --config.data.path=DIR

DIR holds {train,test}/<class>/*.jpg. The last layer is replaced and everything trains:
cross-entropy, SGD with momentum and weight decay, learning rate ÷10 every two epochs, trained and
tested every epoch; the checkpoint that is best on validation (a tenth of `train`) gives the result.

    --config.cut_after=stage5                    drops both 4096-wide layers too
    --config.backbone.weights=FILE               a file of your own instead of torchvision's

No result is stated: VGG-16's ImageNet weights could not be had where this was written.
"""

import tljax


def get_config() -> tljax.Experiment:
    """The experiment."""
    return tljax.Experiment(
        backbone=tljax.VGG(depth=16, weights='torchvision:vgg16-397923af'),
        cut_after='fc7',
        data=tljax.Folder(path='DIR'),
        strategy=tljax.FineTune(),
        optimizer=tljax.SGD(learning_rate=1e-3, momentum=0.9, weight_decay=5e-4),
        schedule=tljax.Step(every_epochs=2, factor=0.1),
        augmentations=(tljax.RandomCrop(size_px=224), tljax.HorizontalFlip()),
        epochs=6,
        batch_size=32,
        evaluate=('val', 'test'),
        baselines=(tljax.SolvedProbe(),),
    )
