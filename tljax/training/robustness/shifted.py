"""Shifted test sets: accuracy, calibration, and the gap to the accuracy on the run's test set."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tljax.metrics import calibration, independent_accuracy, paired_accuracy
from tljax.records.predictions import SplitPredictions
from tljax.training.labelled_data import Data
from tljax.training.robustness import accuracy
from tljax.training.robustness.subject import Subject


def measure(subject: Subject, data: Data) -> dict[str, Any]:
    """The accuracy and calibration on a shifted set, and the gap to the run's test set, as JSON."""
    split = subject.predict(data.examples, data.folder, subject.reference_views)
    reference = subject.reference
    compared = _rows(reference, np.isin(reference.labels, np.unique(split.labels)))
    notes = list(data.notes)
    if len(compared) < len(reference):
        notes.append(f'Compared with {len(compared):,} images of the run in the same classes.')
    return {
        'path': data.name,
        **accuracy.summary(split),
        'own': accuracy.summary(compared),
        'gap': _gap(compared, split),
        'calibration': _calibration(split, subject.temperature),
        'own_calibration': _calibration(compared, subject.temperature),
        'temperature': subject.network.temperature,
        'notes': notes,
        'left_out': data.bad,
    }


def _rows(split: SplitPredictions, mask: np.ndarray) -> SplitPredictions:
    """The images of a split where a mask [N] is true, without features."""
    kept = {name: getattr(split, name)[mask] for name in ('ids', 'paths', 'labels', 'logits')}
    return dataclasses.replace(split, **kept, features=None)


def _calibration(split: SplitPredictions, temperature: float) -> dict[str, Any]:
    logits = split.task.class_logits(split.logits)
    return {
        when: calibration.summary(logits, split.labels, value)
        for when, value in (('before', 1.0), ('after', temperature))
    }


def _gap(reference: SplitPredictions, split: SplitPredictions) -> dict[str, Any]:
    """The accuracy on the run's images minus that on the shifted set, with its interval.

    Images are paired if every image of the shifted set has the class and the file name, without
    its suffix, of one image of the run. The gap is then measured on these images alone.
    """
    first, second = accuracy.correct(reference), accuracy.correct(split)
    places = matching(reference, split)
    if places is None:
        counts = (int(first.sum()), len(first), int(second.sum()), len(second))
        gap = independent_accuracy.accuracy_difference(*counts)
        return {**gap._asdict(), 'paired': False, 'images': [len(first), len(second)]}
    gap = paired_accuracy.accuracy_difference(first[places], second)
    return {
        'difference': gap.difference,
        'low': gap.low,
        'high': gap.high,
        'paired': True,
        'images': gap.images,
        'p_value': gap.p_value,
    }


def matching(reference: SplitPredictions, split: SplitPredictions) -> np.ndarray | None:
    """The index in `reference` of each image of `split`, [N]; None if the images differ."""
    first, second = (_keys(one) for one in (reference, split))
    unique = all(len(set(keys)) == len(keys) for keys in (first, second))
    if not unique or not set(second) <= set(first) or '' in {name for _, name in second}:
        return None
    indices = {key: index for index, key in enumerate(first)}
    return np.array([indices[key] for key in second])


def _keys(split: SplitPredictions) -> Sequence[tuple[int, str]]:
    names = [pathlib.PurePosixPath(path).stem for path in split.paths.tolist()]
    return list(zip(split.labels.tolist(), names, strict=True))
