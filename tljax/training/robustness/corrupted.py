"""Accuracy on corrupted test images, and the mean corruption error against a baseline run."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import devices
from tljax.augment.corruptions.corruption import Corruption, corrupt
from tljax.data import pipeline
from tljax.metrics import corruption_error
from tljax.metrics.corruption_error import CorruptionErrors
from tljax.models import views
from tljax.training import labelled_data
from tljax.training.robustness import accuracy
from tljax.training.robustness.subject import Subject, spread
from tljax.types import Examples, InputError


def measure(
    subject: Subject,
    corruptions: Sequence[Corruption],
    severities: Sequence[int],
    *,
    baseline: Subject | None = None,
    images: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The errors of a run under corruption, as JSON.

    Corruptions are applied to the input of the network: the central square of `size_px`.

    Args:
        subject: the run.
        corruptions: one or more.
        severities: one or more, 1 to 5.
        baseline: a run with the same classes, measured on the same images.
        images: the largest number of images; None for all.
        seed: of the corruptions and of the bootstrap.

    Raises:
        InputError: the images cannot be read, or the baseline has other classes.
    """
    split = subject.evaluated_split
    examples = spread(subject.data(split).examples, images)
    clean, corrupted = hits(subject, examples, corruptions, severities, seed)
    baseline_hits = None
    if baseline is not None:
        examples = _for_baseline(subject, baseline, split, images)
        _, baseline_hits = hits(baseline, examples, corruptions, severities, seed)
        count = baseline_hits.shape[-1]
        if count != len(clean):
            raise InputError(f'the baseline read {count} images, and the run {len(clean)}')
    errors = corruption_error.corruption_errors(corrupted, baseline_hits, seed=seed)
    return {
        'split': split,
        'images': len(clean),
        'size_px': subject.network.model.images.size_px,
        'seed': seed,
        'severities': list(severities),
        'clean_accuracy': float(clean.mean()),
        'clean_interval': accuracy.interval(clean),
        'corruptions': _rows(corruptions, corrupted, errors),
        'mean_error': errors.mean._asdict(),
        'baseline': None if baseline is None else str(baseline.folder),
        'mce': errors.mce._asdict() if errors.mce else None,
        'mean_error_minus_baseline': errors.difference._asdict() if errors.difference else None,
    }


def _for_baseline(subject: Subject, baseline: Subject, split: str, images: int | None) -> Examples:
    """The images of the run, decoded for the network of the baseline."""
    data = labelled_data.of_run(baseline.network, subject.experiment, subject.recorded, split)
    return spread(data.examples, images)


def _rows(
    corruptions: Sequence[Corruption], corrupted: np.ndarray, errors: CorruptionErrors
) -> list[dict[str, Any]]:
    """The accuracy at each severity, and the error relative to the baseline, of each corruption."""
    return [
        {
            'name': corruption.name,
            'group': corruption.group,
            'accuracy': (1 - errors.error[index]).tolist(),
            'intervals': [accuracy.interval(row) for row in corrupted[index]],
            'relative_error': _number(errors.relative, index),
        }
        for index, corruption in enumerate(corruptions)
    ]


def _number(values: np.ndarray | None, index: int) -> float | None:
    return None if values is None or np.isnan(values[index]) else float(values[index])


def hits(
    subject: Subject,
    examples: Examples,
    corruptions: Sequence[Corruption],
    severities: Sequence[int],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is classified correctly; ties and NaN count as wrong.

    Every image is decoded once.

    Returns:
        [N] bool for the images without corruption, and [C, L, N] bool for C corruptions at L
        severities.
    """
    model, mesh = subject.network.model, subject.mesh
    rows = max(1, subject.batch_size // mesh.size) * mesh.size
    batches = pipeline.eval_batches(examples, model.preprocessing, batch_size=rows)
    clean, corrupted = [], []
    for batch in batches:
        labels, mask = np.asarray(batch['label']), np.asarray(batch['mask'])
        placed = devices.put_batch(mesh, batch)
        ids = jnp.asarray(placed['id'])
        images = views.centre(jnp.asarray(placed['input']), model.images.size_px)

        def correct(inputs: jax.Array, labels=labels, mask=mask) -> np.ndarray:
            logits = np.asarray(subject.logits_of(*subject.values, inputs))
            right = subject.network.task.right(logits, labels)
            assert right is not None  # `subject.read` refuses numbers
            return right[mask]

        clean.append(correct(images))
        corrupted.append(
            [
                [correct(corrupt(one, images, ids, level, seed)) for level in severities]
                for one in corruptions
            ]
        )
    return np.concatenate(clean), np.concatenate([np.asarray(x) for x in corrupted], -1)
