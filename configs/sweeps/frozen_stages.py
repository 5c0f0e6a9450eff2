"""Which stages to freeze on your photographs, by the number of labels.

tljax sweep --config=sweeps/frozen_stages --config.data.path=DIR --config.backbone.weights=FILE

ResNet-18 at 64 px: a linear probe, stage 4 trained, or all stages trained, with 5, 15 or 40
labelled images per class and the same number of steps. The learning rate is chosen on the
validation split for each strategy, number of labels and seed. DIR has {train,test}/<class>/*.
Results on real photographs: docs/results.md.
"""

import dataclasses

import tljax
from configs import resnet18_96px

PER_CLASS = (5, 15, 40)
SEEN_PER_CLASS = 120  # images of each class, counted as often as they are shown


def get_config() -> tljax.Experiment:
    """The config `resnet18_96px` with smaller images and without augmentation."""
    return dataclasses.replace(
        resnet18_96px.get_config(),
        preprocessing=tljax.Preprocessing(size_px=64, resize_px=64),
        augmentations=(),
        schedule=tljax.Cosine(),
        validation_fraction=0.2,
    )


def sweep() -> tljax.Product:
    """The number of labels sets the epochs."""
    lengths = [SEEN_PER_CLASS / (0.8 * count) for count in PER_CLASS]
    return tljax.Product(
        tljax.Axis(
            'strategy', [tljax.LinearProbe(), tljax.FreezeBelow(stage='stage4'), tljax.FineTune()]
        ),
        tljax.Zip(
            tljax.Axis('per_class', PER_CLASS),
            tljax.Axis('epochs', lengths),
            tljax.Axis('evaluate_every_epochs', [length / 3 for length in lengths]),
        ),
        tljax.Axis('optimizer.learning_rate', [0.01, 0.003, 0.001], role='tuned'),
        tljax.Seeds(5),
    )
