"""The quickstart with adapters on a frozen network: LoRA, scale and shift, or residual.

tljax train --config=quickstart_adapters:lora
tljax train --config=quickstart_adapters:scale_shift
tljax train --config=quickstart_adapters:residual

Differences from configs/quickstart.py: only the adapters and the head are trained, the running
statistics are fixed, and there are no baselines. Test accuracy with seed 0: 97.5, 97.0 and 97.4 %;
docs/adapters.md.
"""

import tljax

ADAPTERS = {
    'lora': tljax.LoRA,
    'scale_shift': tljax.ScaleShift,
    'residual': tljax.ResidualAdapter,
}


def get_config(name: str = 'lora') -> tljax.Experiment:
    """The quickstart with one of the adapters."""
    if name not in ADAPTERS:
        raise tljax.InputError(f'the adapter is {name!r}, wanted one of {list(ADAPTERS)}')
    return tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20, weights='embedded:glyphs'),
        data=tljax.Digits(),
        per_class=10,
        validation_fraction=0.2,
        strategy=tljax.AdaptersOnly(),
        adapters=(ADAPTERS[name](),),
        norm=tljax.Norm.FROZEN,
        optimizer=tljax.SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=tljax.Cosine(warmup_epochs=5),
        augmentations=(
            tljax.Affine(rotate_degrees=10, shear_degrees=10, scale_factor=1.1, shift_share=0.06),
        ),
        epochs=60,
        batch_size=40,
        evaluate_every_epochs=20,
        log_every_steps=20,
    )
