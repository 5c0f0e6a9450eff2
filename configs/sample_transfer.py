"""Real handwritten digits from 5 labelled images a class, with printed ones trained beside them.

python -m tljax.main --config=configs/sample_transfer.py

Test accuracy 87.6 % (95 % interval 85.1 to 89.7) with seed 0, without the printed digits 71.6 %;
from random weights, 52 s on 2 cores, compilation included, 37 s when it is there. Over 5 seeds,
otherwise trained: docs/sample_transfer.md.
"""

import tljax

SMALL = tljax.Preprocessing(
    size_px=16, resize_px=16, mean=(0.3, 0.3, 0.3), std=(0.35, 0.35, 0.35)
)  # of the letters that the quickstart's network was pretrained on


def get_config() -> tljax.Experiment:
    """Digits beside glyphs of the same ten classes, which share one head."""
    return tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20),
        preprocessing=SMALL,
        data=tljax.Digits(),
        source=tljax.LabelledSource(
            data=tljax.Glyphs(train_per_class=100),
            share_head=True,
            fraction=0.5,
            until_epochs=80,
            trial_steps=10,  # of 80, for a quick look; a verdict that is worth it takes them all
        ),
        per_class=5,
        validation_fraction=0.4,
        strategy=tljax.FromScratch(),
        optimizer=tljax.SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=tljax.Cosine(warmup_epochs=10),
        augmentations=(
            tljax.Affine(rotate_degrees=10, shear_degrees=10, scale_factor=1.1, shift_share=0.06),
        ),
        epochs=80,
        batch_size=30,
        evaluate_every_epochs=40,
        log_every_steps=40,
        baselines=(tljax.WithoutSource(),),
    )
