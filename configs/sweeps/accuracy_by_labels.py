"""Test accuracy against the number of labels, on handwritten digits.

tljax sweep --config=sweeps/accuracy_by_labels

The quickstart with 2 to 50 labelled digits per class and the same number of steps: with
transfer, with a linear probe and from scratch. 75 runs. Results: docs/results.md.
"""

import tljax
from configs import quickstart

PER_CLASS = (2, 5, 10, 20, 50)


def get_config() -> tljax.Experiment:
    """The quickstart."""
    return quickstart.get_config()


def epochs(per_class: int) -> float:
    """The epochs with as many steps as those of the quickstart."""
    base = get_config()
    return base.epochs * _training_images(base.per_class or 0) / _training_images(per_class)


def _training_images(per_class: int) -> int:
    """The images per class without those of the validation split."""
    share = get_config().validation_fraction
    return per_class - min(round(share * per_class), per_class - 1)


def sweep() -> tljax.Product:
    """The number of labels sets the epochs and the schedule."""
    base = get_config()
    lengths = [epochs(count) for count in PER_CLASS]
    return tljax.Product(
        tljax.Axis(
            'strategy',
            [base.strategy, tljax.LinearProbe(), tljax.FromScratch()],
            baseline=tljax.FromScratch(),
        ),
        tljax.Zip(
            tljax.Axis('per_class', PER_CLASS),
            tljax.Axis('epochs', lengths),
            tljax.Axis('evaluate_every_epochs', [length / 3 for length in lengths]),
            tljax.Axis('schedule', [tljax.Cosine(warmup_epochs=one / 12) for one in lengths]),
        ),
        tljax.Seeds(5),
    )
