"""Runs whose networks are merged: reading them, and checking that they fit each other."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tljax import tree
from tljax.config.experiment import PRETRAINED, Experiment
from tljax.models import stages
from tljax.models.averaging import NetworkValues
from tljax.records import runs
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.types import AnyPreprocessing, InputError, TextPreprocessing
from tljax.weights import loading
from tljax.weights.pretrained import Pretrained

SPLITS = ('val', 'test')
SHOWN = 12  # classes or tokens in a message


class MergeError(InputError):
    """Runs that cannot be merged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunToMerge:
    """A run whose network is merged with others.

    Attributes:
        name: the run's folder.
        experiment: the configuration of the run.
        pretrained: the trained network.
        splits: the content of splits.json.
    """

    name: str
    experiment: Experiment
    pretrained: Pretrained
    splits: dict[str, Any]

    @property
    def values(self) -> NetworkValues:
        """The trained parameters and statistics."""
        return NetworkValues(self.pretrained.params, self.pretrained.stats)


def read(folder: pathlib.Path) -> RunToMerge:
    """Reads a run.

    Raises:
        InputError: the folder is not a run.
    """
    experiment, splits = runs.records(folder)
    return RunToMerge(
        name=str(folder), experiment=experiment, pretrained=loading.load(folder), splits=splits
    )


def check(runs_to_merge: Sequence[RunToMerge]) -> None:
    """Checks that the networks can be merged.

    They need the same parameters, architecture, head, classes and preprocessing.

    Raises:
        MergeError: they differ; the message lists every difference.
    """
    first, problems = runs_to_merge[0], []
    for other in runs_to_merge[1:]:
        lines = _differences(other, first)
        if lines:
            problems += [f'{other.name} (+) and {first.name} (-):', *(f'  {x}' for x in lines)]
    if problems:
        raise MergeError('these networks cannot be merged:\n' + '\n'.join(problems))


def _differences(other: RunToMerge, first: RunToMerge) -> list[str]:
    """What differs, one line each: `+` for `other`, `-` for `first`."""
    pairs = [
        (_architecture(other.pretrained), _architecture(first.pretrained)),
        _preprocessing(other.pretrained.preprocessing, first.pretrained.preprocessing),
    ]
    return [
        *(line for one, two in pairs if one != two for line in (f'- {two}', f'+ {one}')),
        *_class_differences(other.splits['class_names'], first.splits['class_names']),
        *_leaf_differences(other.values, first.values),
    ]


def _architecture(pretrained: Pretrained) -> Any:
    """The architecture without the source of its starting weights, which may differ."""
    architecture = pretrained.architecture
    backbone: Any = dataclasses.replace(architecture.backbone, weights=None)  # type: ignore[type-var]
    return dataclasses.replace(architecture, backbone=backbone)


def _preprocessing(other: AnyPreprocessing, first: AnyPreprocessing) -> tuple[Any, Any]:
    """Both, with what their vocabularies do not share instead of thousands of tokens."""
    if not (isinstance(other, TextPreprocessing) and isinstance(first, TextPreprocessing)):
        return other, first

    def shown(one: TextPreprocessing, two: TextPreprocessing) -> str:
        shared = set(two.vocabulary)
        own = [token for token in one.vocabulary if token not in shared]
        rest = f'{one.most_tokens} tokens of a text, {"backward" if one.backward else "forward"}'
        if one.vocabulary == two.vocabulary:
            return rest
        few = ', '.join(own[:SHOWN]) or 'none, but another order'
        return f'{rest}; {len(own):,} tokens that the other lacks: {few}'

    return shown(other, first), shown(first, other)


def _class_differences(other: Sequence[str], first: Sequence[str]) -> list[str]:
    if other == first:
        return []
    if set(other) == set(first):
        return ['the same classes in another order']
    lines = [
        *(f'- class {name}' for name in first if name not in other),
        *(f'+ class {name}' for name in other if name not in first),
    ]
    more = [f'and {len(lines) - SHOWN:,} more classes'] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]


def _leaf_differences(other: NetworkValues, first: NetworkValues) -> list[str]:
    """Parameters and statistics that only one network has, or that differ in shape."""
    leaves = [tree.flatten({'p': values.params, 's': values.stats}) for values in (other, first)]
    lines = tree.difference(*leaves)
    return [line.replace(' p/', ' ').replace(' s/', ' ') for line in lines]


def setup(run: RunToMerge, *, with_weights: bool) -> Job:
    """Sets up the run's data and network.

    Args:
        run: the run.
        with_weights: whether to load the weights that the run started from.
    """
    experiment = dataclasses.replace(
        run.experiment,
        baselines=(),
        penalties=(),  # only for training, and some of them need the weights
        preprocessing=run.pretrained.preprocessing,
    )
    if not with_weights:
        backbone: Any = dataclasses.replace(experiment.backbone, weights=None)  # type: ignore[type-var]
        head = None if isinstance(experiment.head, str) else experiment.head
        experiment = dataclasses.replace(experiment, backbone=backbone, head=head)
    return jobs.setup(experiment)


def start_values(job: Job, run: RunToMerge) -> NetworkValues:
    """The values that a run started from; with the run's trained head if it started from a new one.

    Raises:
        MergeError: the run started from random weights.
    """
    if job.weights is None:
        raise MergeError(f'{run.name} started from random weights; wise_ft needs a second run')
    params = stages.plain(job.model.adapters, job.params)
    values = NetworkValues(*jax.tree.map(np.asarray, (params, job.stats)))
    if run.experiment.head == PRETRAINED:
        return values
    head = {'head': run.values.params['head']}
    return NetworkValues({**values.params, **head}, values.stats)


def common_splits(job: Job, runs_to_merge: Sequence[RunToMerge]) -> tuple[str, ...]:
    """The non-empty splits that contain the same images in all runs and in the data today."""

    def is_common(split: str) -> bool:
        ids = job.splits[split].ids.tolist() if split in job.splits else []
        recorded = [run.splits.get(split, {}).get('ids') for run in runs_to_merge]
        return bool(ids) and all(one == ids for one in recorded)

    return tuple(split for split in SPLITS if is_common(split))


def stages_with_different_statistics(networks: Sequence[NetworkValues]) -> list[str]:
    """The stages whose BatchNorm statistics are not the same in all networks."""
    first = networks[0].stats

    def differs(stage: str, other: NetworkValues) -> bool:
        pairs = zip(*map(jax.tree.leaves, (first[stage], other.stats[stage])), strict=True)
        return not all(np.array_equal(a, b) for a, b in pairs)

    return [stage for stage in first if any(differs(stage, other) for other in networks[1:])]
