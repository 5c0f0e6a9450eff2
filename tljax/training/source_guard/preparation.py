"""Prepares the samples of a run: computes their weights, and whether they help the target.

The results are written into the run's folder, where a resumed run reads them.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np
import scipy.special

from tljax import features
from tljax.config.experiment import ConfigError
from tljax.features import probes
from tljax.models.stages import HEAD
from tljax.records import console, writers
from tljax.sample_transfer import (
    Guard,
    effective_sample_size,
)
from tljax.training.jobs import Job
from tljax.training.source_data import Samples
from tljax.training.source_guard import guard, records
from tljax.training.states import TrainState
from tljax.types import Domains, Examples

PROBE_DECAY = 1e-2  # of the linear probe that predicts source classes of target images


def prepare(job: Job, workdir: pathlib.Path) -> Job:
    """The job with weighted samples, or without samples if they hurt.

    Args:
        job: with or without samples.
        workdir: the folder of the record; an existing record is used.

    Raises:
        InputError: the weights cannot be computed, or the samples differ from those that the run
            began with.
    """
    if job.samples is None:
        return job
    samples, clipped = _weighted(job, job.samples, workdir)
    path = workdir / records.FILE
    if path.exists():
        record = json.loads(path.read_text())
    else:
        record = _record(job, samples, clipped)
        writers.write_json(path, record)
        records.draw(workdir, samples, samples.weights)
    console.console.print(records.text(record))
    return dataclasses.replace(job, samples=samples if record['kept'] else None)


def finish(job: Job, state: TrainState, workdir: pathlib.Path) -> dict[str, Any] | None:
    """Adds weights that training changed to the record of samples, and returns the record."""
    path = workdir / records.FILE
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    if job.samples is not None and state.source is not None:
        record |= records.end(workdir, job.samples, state.source)
        writers.write_json(path, record)
    return record


def _weighted(job: Job, samples: Samples, workdir: pathlib.Path) -> tuple[Samples, bool]:
    """The samples with their weights, and whether the weights were clipped."""
    result = records.read_weights(workdir)
    if result is None:
        result = measure(job, samples)
        records.write_weights(workdir, samples, *result)
    weights, clipped = result
    if len(weights) != len(samples.examples):
        raise ConfigError(
            f'{workdir}: the source has {len(samples.examples)} images, and had {len(weights)} '
            'when this run began; name another --workdir'
        )
    return dataclasses.replace(samples, weights=weights), clipped


def measure(job: Job, samples: Samples) -> tuple[np.ndarray, bool]:
    """The weights of samples [N] float32, with mean 1, and whether they were clipped.

    They are computed from what the head of the starting network reads of the samples and of the
    target's training images. Unreadable images have weight 0.
    """
    count = len(samples.examples)
    domains = _DomainFeatures(job, samples)
    measured, clipped = samples.config.initial_weights(
        Domains(
            count=count,
            features=domains.both,
            labels=domains.labels,
            predictions=domains.predictions,
            seed=job.experiment.seed,
        )
    )
    weights = np.zeros(count)
    weights[domains.rows] = measured
    weights *= count / weights.sum()
    return weights.astype(np.float32), clipped


class _DomainFeatures:
    """Features of samples and target by the starting network, computed when first needed."""

    def __init__(self, job: Job, samples: Samples):
        self._job, self._samples = job, samples
        self.rows = np.arange(len(samples.examples))  # of samples that could be read

    @functools.cached_property
    def _features(self) -> tuple[features.Features, features.Features]:
        source, target = self._of(self._samples.examples), self._of(self._job.splits['train'])
        self.rows = source.ids
        return source, target

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """See `types.Domains.features`."""
        one, other = (np.asarray(x.matrix()[0], np.float32) for x in self._features)
        return one, other

    def labels(self) -> np.ndarray:
        """See `types.Domains.labels`."""
        return self._features[0].labels

    def predictions(self) -> np.ndarray:
        """See `types.Domains.predictions`."""
        (source, target), classes = self.both(), len(self._samples.examples.class_names)
        scaling = probes.scaling(source)
        fit = probes.logistic(
            scaling.apply(source), self.labels(), [PROBE_DECAY], num_classes=classes
        )
        logits = np.asarray(fit.linear.at(0).logits(scaling.apply(target)), np.float64)
        return scipy.special.softmax(logits, 1)

    def _of(self, examples: Examples) -> features.Features:
        job = self._job
        return features.extract(
            job.model,
            job.params,
            job.stats,
            examples,
            cut=HEAD,
            **vars(job.experiment.reading),
        )


def _record(job: Job, samples: Samples, clipped: bool) -> dict[str, Any]:
    """The record of samples, with the verdict of the guard's short runs."""
    choice = samples.config.guard
    verdict = None if choice is Guard.OFF else guard.compare(job, samples)
    hurts = verdict is not None and verdict.hurts
    size = effective_sample_size(samples.weights)
    return {
        'examples': len(samples.examples),
        'rows_a_step': samples.rows,
        'until_step': samples.until,
        'effective_sample_size': size,
        'effective_share': size / len(samples.examples),
        'clipped': clipped,
        'guard': choice.value,
        'trial': verdict and verdict.record(),
        'kept': not (hurts and choice is Guard.DROP),
        **records.by_class(samples, samples.weights),
    }
