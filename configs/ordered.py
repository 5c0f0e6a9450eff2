"""Ranges of the angle of rotated handwritten digits: ordered classes, with weights from letters.

tljax train --config=ordered

Differences from configs/regression.py: five ranges of the angle instead of the angle, and the loss.
With seed 0, the quadratic-weighted kappa of the test images is 94.8 % (95 % interval 93.9 to 95.5).
"""

import tljax


def get_config() -> tljax.Experiment:
    """The experiment."""
    return tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20, weights='embedded:glyphs'),
        data=tljax.RotatedDigits(groups=5),
        subset=tljax.Subset(fraction=0.3),
        validation_fraction=0.2,
        strategy=tljax.FreezeBelow(stage='stage2'),
        optimizer=tljax.SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=tljax.Cosine(warmup_epochs=5),
        loss=tljax.CORN(),
        augmentations=(tljax.Affine(scale_factor=1.1, shift_share=0.06),),
        epochs=30,
        batch_size=40,
        clip_norm=1.0,
        evaluate_every_epochs=10,
        log_every_steps=20,
    )
