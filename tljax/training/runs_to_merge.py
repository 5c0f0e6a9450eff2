"""Runs whose networks are to be merged: what they have to share, and where one began."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tljax import tree
from tljax.config.experiment import PRETRAINED, Experiment
from tljax.models import stages
from tljax.models.averaging import Values
from tljax.records import runs
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.types import InputError
from tljax.weights import loading
from tljax.weights.pretrained import Pretrained

SPLITS = ('val', 'test')


class MergeError(InputError):
    """Runs that cannot be merged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A run's network, with what it has to share with the others."""

    name: str
    experiment: Experiment
    pretrained: Pretrained
    splits: dict[str, Any]  # the content of splits.json

    @property
    def values(self) -> Values:
        """Its parameters and statistics."""
        return Values(self.pretrained.params, self.pretrained.stats)


def read(folder: pathlib.Path) -> Ingredient:
    """A run's network.

    Raises:
        InputError: the folder holds no run.
    """
    experiment, splits = runs.records(folder)
    return Ingredient(
        name=str(folder), experiment=experiment, pretrained=loading.load(folder), splits=splits
    )


def check(ingredients: Sequence[Ingredient]) -> None:
    """Whether the networks can be merged: the same leaves, head, classes and preprocessing.

    Raises:
        MergeError: they differ; everything in which they do is listed by name.
    """
    first, problems = ingredients[0], []
    for other in ingredients[1:]:
        lines = _misfits(other, first)
        if lines:
            problems += [f'{other.name} (+) and {first.name} (-):', *(f'  {x}' for x in lines)]
    if problems:
        raise MergeError('these networks cannot be merged:\n' + '\n'.join(problems))


def _misfits(found: Ingredient, wanted: Ingredient) -> list[str]:
    pairs = {}
    for name in ('architecture', 'preprocessing'):
        pairs[name] = (getattr(found.pretrained, name), getattr(wanted.pretrained, name))
    bare = [dataclasses.replace(a.backbone, weights=None) for a in pairs['architecture']]  # type: ignore[type-var]
    pairs['architecture'] = tuple(
        dataclasses.replace(a, backbone=b) for a, b in zip(pairs['architecture'], bare, strict=True)
    )
    lines = [line for one, two in pairs.values() if one != two for line in (f'- {two}', f'+ {one}')]
    ours, theirs = (ingredient.splits['class_names'] for ingredient in (found, wanted))
    if ours != theirs:
        lines += [f'- class {name}' for name in theirs if name not in ours]
        lines += [f'+ class {name}' for name in ours if name not in theirs]
        lines += ['the same classes in another order'] * (set(ours) == set(theirs))
    leaves = [tree.flatten(dict(zip('ps', i.values, strict=True))) for i in (found, wanted)]
    return lines + [
        line.replace(' p/', ' ').replace(' s/', ' ') for line in tree.difference(*leaves)
    ]


def setup(ingredient: Ingredient, *, from_start: bool) -> Job:
    """The run's data and network; its pretrained weights too only where they are needed."""
    experiment = dataclasses.replace(
        ingredient.experiment,
        baselines=(),
        penalties=(),  # of training; some want the weights
        preprocessing=ingredient.pretrained.preprocessing,
    )
    if not from_start:
        bare: Any = dataclasses.replace(experiment.backbone, weights=None)  # type: ignore[type-var]
        head = None if isinstance(experiment.head, str) else experiment.head
        experiment = dataclasses.replace(experiment, backbone=bare, head=head)
    return jobs.setup(experiment)


def start(job: Job, ingredient: Ingredient) -> Values:
    """What a run began with, under its own head where that began with random values."""
    if job.weights is None:
        raise MergeError(f'{ingredient.name} began with random weights: name two runs for wise_ft')
    params = stages.plain(job.model.adapters, job.params)
    values = Values(*jax.tree.map(np.asarray, (params, job.stats)))
    if ingredient.experiment.head == PRETRAINED:
        return values
    head = {'head': ingredient.values.params['head']}
    return Values({**values.params, **head}, values.stats)


def shared(job: Job, ingredients: Sequence[Ingredient]) -> tuple[str, ...]:
    """The splits that are not empty, and the same images in all runs and today."""

    def same(split: str) -> bool:
        ids = job.splits[split].ids.tolist() if split in job.splits else []
        return bool(ids) and all(i.splits.get(split, {}).get('ids') == ids for i in ingredients)

    return tuple(split for split in SPLITS if same(split))


def differing(networks: Sequence[Values]) -> list[str]:
    """The stages in whose BatchNorm statistics the networks are not all the same."""
    first = networks[0].stats

    def differs(stage: str, other: Values) -> bool:
        pairs = zip(*map(jax.tree.leaves, (first[stage], other.stats[stage])), strict=True)
        return not all(np.array_equal(a, b) for a, b in pairs)

    return [stage for stage in first if any(differs(stage, other) for other in networks[1:])]
