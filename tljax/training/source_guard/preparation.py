"""Before a run with a source of samples: what its examples weigh, and whether it helps at all.

What was found is kept in the run's folder, and a resumed run takes it from there.
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
    LabelledSource,
    clip_to_share,
    effective_sample_size,
)
from tljax.training.jobs import Job
from tljax.training.source_data import Sourced
from tljax.training.source_guard import guard, records
from tljax.training.states import TrainState
from tljax.types import Domains, Examples

PROBE_DECAY = 1e-2  # of the linear probe that tells which source classes the target looks like


def prepare(job: Job, workdir: pathlib.Path) -> Job:
    """The job with its source weighed, or without it, if it was found to hurt.

    Args:
        job: with or without a source.
        workdir: where it is recorded, and read again.

    Raises:
        InputError: the source cannot be weighed so, or is not the one that the run began with.
    """
    if job.source is None:
        return job
    source, clipped = _weighed(job, job.source, workdir)
    job = dataclasses.replace(job, source=source)
    path = workdir / records.FILE
    if path.exists():
        found = json.loads(path.read_text())
    else:
        found = _judged(job, source, clipped)
        writers.write_json(path, found)
        records.draw(workdir, source, source.weights)
    console.console.print(records.text(found))
    return job if found['kept'] else dataclasses.replace(job, source=None)


def finish(job: Job, state: TrainState, workdir: pathlib.Path) -> dict[str, Any] | None:
    """What is recorded at the end of a run: weights that training changed; the source's record."""
    path = workdir / records.FILE
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if job.source is not None and state.source is not None:
        found |= records.end(workdir, job.source, state.source)
        writers.write_json(path, found)
    return found


def _weighed(job: Job, source: Sourced, workdir: pathlib.Path) -> tuple[Sourced, bool]:
    """The source with its weights, and whether they had to be clipped."""
    kept = records.read_weights(workdir)
    if kept is None:
        kept = measure(job, source)
        records.write_weights(workdir, source, *kept)
    weights, clipped = kept
    if len(weights) != len(source.examples):
        raise ConfigError(
            f'{workdir}: the source has {len(source.examples)} images, and had {len(weights)} '
            'when this run began; name another --workdir'
        )
    return dataclasses.replace(source, weights=weights), clipped


def measure(job: Job, source: Sourced) -> tuple[np.ndarray, bool]:
    """The weights of a source's examples [N] float32 of mean 1, and whether they were clipped.

    They are measured on what the head of the starting network reads of the source's images and of
    the target's training images. Images that turn out bad weigh nothing.
    """
    count = len(source.examples)
    config = source.config
    if not isinstance(config, LabelledSource):
        return np.ones(count, np.float32), False
    read = _Read(job, source)
    found = config.weights.measure(
        Domains(
            count=count,
            features=read.both,
            labels=read.labels,
            predictions=read.predictions,
            seed=job.experiment.seed,
        )
    )
    clipped = clip_to_share(found, config.least_share)
    weights = np.zeros(count)
    weights[read.rows] = clipped
    weights *= count / weights.sum()
    return weights.astype(np.float32), not np.allclose(clipped, found)


class _Read:
    """What the starting network makes of source and target, once it is asked for."""

    def __init__(self, job: Job, source: Sourced):
        self._job, self._source = job, source
        self.rows = np.arange(len(source.examples))  # of the source, that could be read

    @functools.cached_property
    def _features(self) -> tuple[features.Features, features.Features]:
        source, target = self._of(self._source.examples), self._of(self._job.splits['train'])
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
        (source, target), classes = self.both(), len(self._source.examples.class_names)
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
            cache_gigabytes=job.experiment.cache_gigabytes,
            batch_size=job.experiment.batch_size,
            threads=job.experiment.data_threads,
        )


def _judged(job: Job, source: Sourced, clipped: bool) -> dict[str, Any]:
    """The record of a source, with what the short run says of it."""
    choice = source.config.guard
    verdict = None if choice is Guard.OFF else guard.compare(job, source)
    hurts = verdict is not None and verdict.hurts
    size = effective_sample_size(source.weights)
    return {
        'examples': len(source.examples),
        'rows_a_step': source.rows,
        'until_step': source.until,
        'effective_sample_size': size,
        'effective_share': size / len(source.examples),
        'clipped': clipped,
        'guard': choice.value,
        'trial': verdict and verdict.record(),
        'kept': not (hurts and choice is Guard.DROP),
        **records.by_class(source, source.weights),
    }
