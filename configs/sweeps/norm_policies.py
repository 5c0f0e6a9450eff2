"""Norm policies on your photographs, with large and small batches.

tljax sweep --config=sweeps/norm_policies --config.data.path=DIR --config.backbone.weights=FILE

A linear probe and full fine-tuning with every policy for BatchNorm, in batches of 16 and of 4:
ResNet-18 at 64 px, 20 labelled images per class, 10 epochs. DIR has {train,test}/<class>/*.
"""

import dataclasses

import tljax
from configs import resnet18_96px


def get_config() -> tljax.Experiment:
    """The config `resnet18_96px` with smaller images and fewer labels."""
    return dataclasses.replace(
        resnet18_96px.get_config(),
        preprocessing=tljax.Preprocessing(size_px=64, resize_px=72),
        augmentations=(tljax.RandomCrop(size_px=64), tljax.HorizontalFlip()),
        optimizer=tljax.SGD(learning_rate=0.02, momentum=0.9, weight_decay=1e-4),
        per_class=20,
        epochs=10.0,
        evaluate_every_epochs=10.0,
    )


def sweep() -> tljax.Product:
    """Every policy with both strategies and both batch sizes."""
    return tljax.Product(
        tljax.Axis('strategy', [tljax.LinearProbe(), tljax.FineTune(backbone_scale=0.1)]),
        tljax.Axis('batch_size', [16, 4]),
        tljax.Axis('norm', list(tljax.Norm), baseline=tljax.Norm.AUTO),
        tljax.Seeds(2),
    )
