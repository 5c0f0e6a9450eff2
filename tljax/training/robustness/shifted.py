"""Shifted test sets with the same classes: accuracy, calibration, and the gap to the run's own."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tljax.metrics import calibration, independent, paired
from tljax.metrics.totals import wilson_interval
from tljax.records.predictions import SplitPredictions
from tljax.training.labelled_data import Data
from tljax.training.robustness.subject import Subject


def measure(subject: Subject, data: Data) -> dict[str, Any]:
    """The accuracy and calibration on a shifted set, and the gap, as JSON."""
    split = subject.predict(data.examples, data.folder, subject.reference_views)
    own = subject.reference
    compared = _rows(own, np.isin(own.labels, np.unique(split.labels)))
    notes = list(data.notes)
    if len(compared) < len(own):
        notes.append(f'Compared with the {len(compared):,} own images of the same classes.')
    return {
        'path': data.name,
        **_accuracy(split),
        'own': _accuracy(compared),
        'gap': _gap(compared, split),
        'calibration': _calibration(split, subject.temperature),
        'own_calibration': _calibration(compared, subject.temperature),
        'temperature': subject.network.temperature,
        'notes': notes,
        'left_out': data.bad,
    }


def _rows(split: SplitPredictions, keep: np.ndarray) -> SplitPredictions:
    """A part of a split, without features."""
    return SplitPredictions(
        split.ids[keep], split.paths[keep], split.labels[keep], split.logits[keep]
    )


def _right(split: SplitPredictions) -> np.ndarray:
    return split.logits.argmax(-1) == split.labels


def _accuracy(split: SplitPredictions) -> dict[str, Any]:
    right = _right(split)
    interval = list(wilson_interval(int(right.sum()), len(right)))
    return {
        'images': len(right),
        'accuracy': float(right.mean()) if len(right) else None,
        'accuracy_interval': interval,
    }


def _calibration(split: SplitPredictions, temperature: float) -> dict[str, Any]:
    return {
        when: calibration.summary(split.logits, split.labels, value)
        for when, value in (('before', 1.0), ('after', temperature))
    }


def _gap(own: SplitPredictions, split: SplitPredictions) -> dict[str, Any]:
    """The own accuracy minus that on the shifted set, with its interval.

    Images are paired if every image of the shifted set has the class and the file name, without
    its suffix, of one own image. The gap is then measured on these images alone.
    """
    places = matching(own, split)
    if places is None:
        counts = (int(_right(own).sum()), len(own), int(_right(split).sum()), len(split))
        found = independent.accuracy_difference(*counts)
        return {**found._asdict(), 'paired': False, 'images': [len(own), len(split)]}
    found = paired.accuracy_difference(_right(own)[places], _right(split))
    return {
        'difference': found.difference,
        'low': found.low,
        'high': found.high,
        'paired': True,
        'images': found.images,
        'p_value': found.p_value,
    }


def matching(own: SplitPredictions, split: SplitPredictions) -> np.ndarray | None:
    """The place in `own` of each image of `split`, [N]; None if they are not the same images."""
    first, second = (_keys(one) for one in (own, split))
    unique = all(len(set(keys)) == len(keys) for keys in (first, second))
    if not unique or not set(second) <= set(first) or '' in {name for _, name in second}:
        return None
    places = {key: place for place, key in enumerate(first)}
    return np.array([places[key] for key in second])


def _keys(split: SplitPredictions) -> Sequence[tuple[int, str]]:
    names = [pathlib.PurePosixPath(path).stem for path in split.paths.tolist()]
    return list(zip(split.labels.tolist(), names, strict=True))
