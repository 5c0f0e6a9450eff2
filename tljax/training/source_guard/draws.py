"""Which labelled images the guard holds out: other ones in every pair of short runs."""

import dataclasses

import numpy as np

from tljax.data import decoded_images, subsets
from tljax.training.jobs import Job
from tljax.types import Examples

ORDER = 0x64726177  # folded into the seed, so that batches are drawn anew


def make(job: Job, count: int) -> list[Job]:
    """The job as each pair of short runs takes it, the first as the run itself does.

    Every further one holds out other labelled images, as many of each class as the run keeps for
    validation, until all have had their turn, and trains on the rest of them. Where the data has
    validation images of its own, or some labels are made wrong, those that the run holds out judge
    all of them. Batches are drawn anew in any case.

    Args:
        job: whose validation images are the first to be held out.
        count: of pairs.
    """
    rest = [_reseeded(job, turn) for turn in range(1, count)]
    labelled = _labelled(job) if rest else None
    if labelled is None:
        return [job, *rest]
    order = _turns(labelled, job.splits['val'], job.experiment.seed)
    return [job, *(_holding_out(one, labelled, order, turn) for turn, one in enumerate(rest, 1))]


def _reseeded(job: Job, turn: int) -> Job:
    """The job with another order of its batches, from the same start."""
    seed = int(np.random.default_rng([job.experiment.seed, ORDER, turn]).integers(2**31))
    return dataclasses.replace(job, experiment=dataclasses.replace(job.experiment, seed=seed))


def _labelled(job: Job) -> Examples | None:
    """All labelled images, if the validation images were drawn from among them."""
    experiment = job.experiment
    splits = experiment.data.splits()
    if 'val' in splits or (experiment.subset and experiment.subset.label_noise):
        return None
    limits = (experiment.per_class, 0.0, experiment.seed, experiment.subset)
    found = subsets.prepare({'train': splits['train']}, *limits)
    kept = decoded_images.wrap(found, job.model.preprocessing, experiment.cache_gigabytes)
    return kept['train']


def _turns(labelled: Examples, val: Examples, seed: int) -> list[tuple[np.ndarray, int]]:
    """Of each class the images in the order in which they are held out, and how many at a time."""
    first = np.isin(labelled.ids, val.ids)
    found = []
    for label in np.unique(labelled.labels):
        members = np.flatnonzero(labelled.labels == label)
        order = np.random.default_rng([seed, ORDER, int(label)]).permutation(members)
        order = order[np.argsort(~first[order], kind='stable')]
        found.append((order, int(first[members].sum())))
    return found


def _holding_out(
    job: Job, labelled: Examples, order: list[tuple[np.ndarray, int]], turn: int
) -> Job:
    away = [np.take(one, np.arange(turn * n, (turn + 1) * n), mode='wrap') for one, n in order]
    out = np.zeros(len(labelled), bool)
    out[np.concatenate(away)] = True
    train, val = (labelled.take(np.flatnonzero(part)) for part in (~out, out))
    return dataclasses.replace(job, splits={**job.splits, 'train': train, 'val': val})
