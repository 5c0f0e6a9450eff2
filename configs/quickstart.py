"""Handwritten digits from 10 labelled images per class, with weights from printed letters.

tljax train --config=quickstart

With seed 0, test accuracy is 97.5 % (95 % interval 96.2 to 98.4). From scratch it is 90.7 % (87.7
and 91.6 % with another rounding order), with a linear probe 96.4 %. All three runs take 80 s on 2
CPU cores, compilation included. Results over 5 seeds: docs/results.md.
"""

import tljax


def get_config() -> tljax.Experiment:
    """The quickstart."""
    return tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20, weights='embedded:glyphs'),
        data=tljax.Digits(),
        per_class=10,
        validation_fraction=0.2,
        strategy=tljax.FreezeBelow(stage='stage2'),
        optimizer=tljax.SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=tljax.Cosine(warmup_epochs=5),
        augmentations=(
            tljax.Affine(rotate_degrees=10, shear_degrees=10, scale_factor=1.1, shift_share=0.06),
        ),
        epochs=60,
        batch_size=40,
        evaluate_every_epochs=20,
        log_every_steps=20,
        baselines=(tljax.FromScratch(), tljax.LinearProbe()),
    )
