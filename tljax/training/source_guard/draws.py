"""The held-out labelled images of the guard's short runs: different ones in every pair of runs."""

import dataclasses

import numpy as np

from tljax.data import inputs, subsets
from tljax.training.jobs import Job
from tljax.types import Examples

ORDER = 0x64726177  # separates the guard's random draws from others of the same seed


def make(job: Job, count: int) -> list[Job]:
    """The jobs of the pairs of short runs; the first is the job itself.

    Each further job draws other batches and holds out other labelled images: as many of each class
    as the job's validation split, and in turn until all labelled images have been held out. It
    trains on the rest of them. If the data has a validation split of its own, or some labels are
    changed on purpose, all jobs hold out the job's validation split.

    Args:
        job: the experiment.
        count: the number of pairs.
    """
    others = [_reseeded(job, turn) for turn in range(1, count)]
    labelled = _labelled(job) if others else None
    if labelled is None:
        return [job, *others]
    order = _turns(labelled, job.splits['val'], job.experiment.seed)
    return [job, *(_holding_out(one, labelled, order, turn) for turn, one in enumerate(others, 1))]


def _reseeded(job: Job, turn: int) -> Job:
    """The job with another order of its batches and the same starting values."""
    seed = int(np.random.default_rng([job.experiment.seed, ORDER, turn]).integers(2**31))
    return dataclasses.replace(job, experiment=dataclasses.replace(job.experiment, seed=seed))


def _labelled(job: Job) -> Examples | None:
    """All labelled images, if the validation split was drawn from them."""
    experiment = job.experiment
    splits = experiment.data.splits()
    if 'val' in splits or (experiment.subset and experiment.subset.label_noise):
        return None
    limits = (experiment.per_class, 0.0, experiment.image_seed, experiment.subset)
    prepared = subsets.prepare({'train': splits['train']}, *limits)
    preprocessing, gigabytes = job.model.preprocessing, experiment.cache_gigabytes
    return inputs.prepared(prepared, preprocessing, gigabytes)['train']


def _turns(labelled: Examples, val: Examples, seed: int) -> list[tuple[np.ndarray, int]]:
    """For each class, its images in the order of being held out, and the number for each turn."""
    in_val = np.isin(labelled.ids, val.ids)
    turns = []
    for label in np.unique(labelled.labels):
        members = np.flatnonzero(labelled.labels == label)
        order = np.random.default_rng([seed, ORDER, int(label)]).permutation(members)
        order = order[np.argsort(~in_val[order], kind='stable')]
        turns.append((order, int(in_val[members].sum())))
    return turns


def _holding_out(
    job: Job, labelled: Examples, turns: list[tuple[np.ndarray, int]], turn: int
) -> Job:
    chosen = [np.take(one, np.arange(turn * n, (turn + 1) * n), mode='wrap') for one, n in turns]
    held_out = np.zeros(len(labelled), bool)
    held_out[np.concatenate(chosen)] = True
    train, val = (labelled.take(np.flatnonzero(part)) for part in (~held_out, held_out))
    return dataclasses.replace(job, splits={**job.splits, 'train': train, 'val': val})
