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
from tljax.metrics.totals import wilson_interval
from tljax.models import views
from tljax.training import labelled_data
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

    Images are corrupted as the network reads them: the central square of `size_px`.

    Args:
        subject: the run.
        corruptions: one or more.
        severities: one or more, 1 to 5.
        baseline: a run with the same classes, measured on the same images.
        images: the number of images at most.
        seed: of the corruptions.

    Raises:
        InputError: the images cannot be read, or the baseline has other classes.
    """
    split = subject.evaluated_split
    examples = spread(subject.data(split).examples, images)
    clean, right = hits(subject, examples, corruptions, severities, seed)
    below = None
    if baseline is not None:
        below_clean, below = hits(
            baseline, _for_baseline(subject, baseline, split, images), corruptions, severities, seed
        )
        both = [len(clean), len(below_clean)]
        if both[0] != both[1]:
            raise InputError(f'the baseline read {both[1]} images, and the run {both[0]}')
    errors = corruption_error.corruption_errors(right, below, seed=seed)
    rows = [
        {
            'name': one.name,
            'group': one.group,
            'accuracy': (1 - errors.error[index]).tolist(),
            'intervals': [_interval(hit) for hit in right[index]],
            'relative_error': _number(errors.relative, index),
        }
        for index, one in enumerate(corruptions)
    ]
    return {
        'split': split,
        'images': len(clean),
        'size_px': subject.network.preprocessing.size_px,
        'seed': seed,
        'severities': list(severities),
        'clean_accuracy': float(clean.mean()),
        'clean_interval': _interval(clean),
        'corruptions': rows,
        'mean_error': errors.mean._asdict(),
        'baseline': None if baseline is None else str(baseline.folder),
        'mce': errors.mce._asdict() if errors.mce else None,
        'mean_error_minus_baseline': errors.difference._asdict() if errors.difference else None,
    }


def _for_baseline(subject: Subject, baseline: Subject, split: str, images: int | None) -> Examples:
    """The images of the run, decoded for the network of the baseline."""
    data = labelled_data.of_run(baseline.network, subject.experiment, subject.recorded, split)
    return spread(data.examples, images)


def _interval(right: np.ndarray) -> list[float]:
    return list(wilson_interval(int(right.sum()), len(right)))


def _number(values: np.ndarray | None, index: int) -> float | None:
    return None if values is None or np.isnan(values[index]) else float(values[index])


def hits(
    subject: Subject,
    examples: Examples,
    corruptions: Sequence[Corruption],
    severities: Sequence[int],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether images are classified right: [N] bool without, and [C, L, N] with corruption.

    Every image is decoded once.
    """
    model, mesh = subject.network.model, subject.mesh
    rows = max(1, subject.batch_size // mesh.size) * mesh.size
    batches = pipeline.eval_batches(examples, model.preprocessing, batch_size=rows)
    clean, corrupted = [], []
    for batch in batches:
        labels, mask = np.asarray(batch['label']), np.asarray(batch['mask'])
        placed = devices.put_batch(mesh, batch)
        ids = jnp.asarray(placed['id'])
        images = views.centre(jnp.asarray(placed['image']), model.preprocessing.size_px)

        def right(shown: jax.Array, labels=labels, mask=mask) -> np.ndarray:
            classes = subject.predicted_classes(*subject.values, shown)
            return (np.asarray(classes) == labels)[mask]

        clean.append(right(images))
        corrupted.append(
            [
                [right(corrupt(one, images, ids, level, seed)) for level in severities]
                for one in corruptions
            ]
        )
    return np.concatenate(clean), np.concatenate([np.asarray(x) for x in corrupted], -1)
