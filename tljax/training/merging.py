"""Merges the networks of runs into one file of weights: the implementation of `tljax merge`."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import rich.box
import rich.table

from tljax import devices
from tljax.metrics import totals
from tljax.models import averaging, batch_norm_statistics
from tljax.models.averaging import NetworkValues
from tljax.records import console, tables
from tljax.training import evaluation, runs_to_merge, step
from tljax.training.batches import eval_batches
from tljax.training.jobs import Job
from tljax.training.runs_to_merge import MergeError, RunToMerge
from tljax.weights import own_format
from tljax.weights.pretrained import Pretrained

ALPHAS = tuple(np.linspace(0, 1, 11).round(1).tolist())
Scores = dict[str, dict[str, Any]]  # {split: metrics with interval}, of the common splits


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeTask:
    """The networks to merge, and the data on which merges are evaluated.

    Attributes:
        job: the data and the network of the last run.
        evaluate: computes the metrics of parameters and statistics on a split.
        splits: the splits with the same images in all runs.
        networks: the networks to merge, by name.
        recompute_statistics: whether a merge gets BatchNorm statistics computed from the training
            images, instead of averaged ones.
    """

    job: Job
    evaluate: evaluation.Evaluate
    splits: tuple[str, ...]
    networks: dict[str, NetworkValues]
    recompute_statistics: bool

    def scores(self, values: NetworkValues) -> Scores:
        """The metrics of a network on the common splits."""
        params, stats = devices.put_replicated(self.job.mesh, values)
        return {s: console.with_interval(self.evaluate(params, stats, s)) for s in self.splits}

    def validation_rank(self, values: NetworkValues) -> tuple[float, float]:
        """The accuracy and minus the loss on the validation images; see `totals.rank`."""
        params, stats = devices.put_replicated(self.job.mesh, values)
        return totals.rank(self.evaluate(params, stats, 'val'))

    def with_statistics(self, merged: NetworkValues) -> NetworkValues:
        """The merge with new BatchNorm statistics in the stages where the networks differ."""
        networks = list(self.networks.values())
        stages = runs_to_merge.stages_with_different_statistics(networks)
        if not (self.recompute_statistics and stages):
            return merged
        return batch_norm_statistics.reestimated(
            self.job.model, merged, lambda: eval_batches(self.job, 'train'), names=stages
        )


def merge(
    folders: Sequence[pathlib.Path],
    out: pathlib.Path,
    *,
    method: str = 'wise_ft',
    alphas: Sequence[float] | None = None,
    statistics: str = 'anew',
    overwrite: bool = False,
) -> dict[str, Scores]:
    """Merges the networks of runs, prints the scores, and writes the merged weights.

    Args:
        folders: the run folders.
        out: the file to write.
        method: `wise_ft`, `uniform` or `greedy`.
        alphas: the interpolation weights for `wise_ft`; None for 0, 0.1, ..., 1.
        statistics: BatchNorm statistics: `anew` computes them from the training images, `averaged`
            averages those of the runs.
        overwrite: whether to replace an existing file.

    Returns:
        The scores of every network by name; the merged network is the last.

    Raises:
        InputError: the runs do not fit each other or the method, or the file exists.
    """
    if out.exists() and not overwrite:
        raise MergeError(f'{out} exists already; --overwrite replaces it')
    _check_method(len(folders), method, alphas)
    merged_runs = [runs_to_merge.read(folder) for folder in folders]
    runs_to_merge.check(merged_runs)
    task = _task(merged_runs, recompute_statistics=statistics == 'anew')
    table = {name: task.scores(values) for name, values in task.networks.items()}
    if method == 'wise_ft':
        values, title = _wise_ft(task, table, tuple(alphas or ALPHAS))
    elif method == 'greedy':
        values, title = _greedy(task)
    else:
        values, title = _uniform(task)
    table[title] = task.scores(values)
    console.console.print(_table(table))
    for split in set(runs_to_merge.SPLITS) - set(task.splits):
        console.console.print(
            f'Not evaluated on {split}: the runs have no {split} images in common.'
        )
    _write(out, merged_runs[-1].pretrained, values, title, table[title])
    console.console.print(f'Wrote {out}: {title}', soft_wrap=True, markup=False)
    return table


def _check_method(count: int, method: str, alphas: Sequence[float] | None) -> None:
    """Raises: MergeError: the method does not fit the number of runs or the flags."""
    if alphas is not None and method != 'wise_ft':
        raise MergeError(f'--alpha needs --method=wise_ft, and the method is {method}')
    if method == 'wise_ft' and count > 2:
        raise MergeError(f'--method=wise_ft interpolates between two networks; got {count} runs')
    if method != 'wise_ft' and count < 2:
        raise MergeError(f'--method={method} needs two runs or more')


def _task(merged_runs: Sequence[RunToMerge], *, recompute_statistics: bool) -> MergeTask:
    """The task of merging these runs; a single run is merged with its starting weights."""
    last = merged_runs[-1]
    job = runs_to_merge.setup(last, with_weights=len(merged_runs) == 1)
    networks = {run.name: run.values for run in merged_runs}
    if len(networks) < len(merged_runs):
        raise MergeError('a run is named twice')
    if len(merged_runs) == 1:
        networks = {'the start': runs_to_merge.start_values(job, last), **networks}
    return MergeTask(
        job=job,
        evaluate=evaluation.make_evaluate(job),
        splits=runs_to_merge.common_splits(job, merged_runs),
        networks=networks,
        recompute_statistics=recompute_statistics,
    )


def _wise_ft(
    task: MergeTask, table: dict[str, Scores], alphas: tuple[float, ...]
) -> tuple[NetworkValues, str]:
    """Interpolates between two networks with the alpha that has the best validation accuracy.

    Adds the scores of every alpha to the table.
    """
    (first, start), (second, end) = task.networks.items()
    if len(alphas) > 1 and 'val' not in task.splits:
        raise MergeError('the runs have no validation images in common, wanted a single --alpha')
    curves = {split: curve(task.job, start, end, alphas, split) for split in task.splits}
    for index, alpha in enumerate(alphas):
        table[f'alpha {alpha:g}'] = {split: points[index] for split, points in curves.items()}
    best = 0
    if len(alphas) > 1:
        ranks = [totals.rank(metrics) for metrics in curves['val']]
        best = ranks.index(max(ranks))
    alpha = alphas[best]
    interpolated = jax.jit(averaging.interpolate)(start, end, alpha)
    values = NetworkValues(*(jax.tree.map(np.asarray, part) for part in interpolated))
    values = values if alpha in (0, 1) else task.with_statistics(values)
    return values, f'wise_ft from {first} to {second}, alpha {alpha:g}'


def curve(
    job: Job, start: NetworkValues, end: NetworkValues, alphas: Sequence[float], split: str
) -> list[dict[str, Any]]:
    """The metrics of interpolated networks on a split, computed in one pass over its images.

    Their BatchNorm statistics are interpolated too.

    Args:
        job: the data, the network and the loss.
        start: the network at alpha 0.
        end: the network at alpha 1.
        alphas: [A].
        split: the split of the data.

    Returns:
        For each alpha, the metrics with intervals.
    """
    if job.model.task.reads_rows:
        return _curve_one_by_one(job, start, end, alphas, split)
    evaluate = step.make_eval_step(job.model, job.experiment.loss)
    replicated, rows = devices.replicated(job.mesh), devices.split(job.mesh)

    @functools.partial(jax.jit, in_shardings=(replicated,) * 3 + (rows,), out_shardings=replicated)
    def sums_of(start: NetworkValues, end: NetworkValues, alphas: Any, batch: Any) -> totals.Sums:
        return averaging.curve(lambda v: evaluate(v.params, v.stats, batch)[0], start, end, alphas)

    # On CPU several networks at once took 2.4 to 3.8 times as long as one by one (ResNet-18).
    size = 1 if jax.default_backend() == 'cpu' else len(alphas)
    groups = [np.array(alphas[i : i + size]) for i in range(0, len(alphas), size)]
    start, end = devices.put_replicated(job.mesh, (start, end))
    batch_sums = []
    for batch in eval_batches(job, split):
        placed = devices.put_batch(job.mesh, batch)
        group_sums = [jax.device_get(sums_of(start, end, group, placed)) for group in groups]
        batch_sums.append(jax.tree.map(lambda *sums: np.concatenate(sums), *group_sums))
    total = functools.reduce(totals.add, batch_sums)
    by_alpha = [{name: sums[i] for name, sums in total.items()} for i in range(len(alphas))]
    return [console.with_interval(totals.summary(job.model.task, sums)) for sums in by_alpha]


def _curve_one_by_one(
    job: Job, start: NetworkValues, end: NetworkValues, alphas: Sequence[float], split: str
) -> list[dict[str, Any]]:
    """`curve` for images with several labels, one evaluation for each alpha.

    The mean average precision is not a mean over images, so sums over batches cannot give it.
    """
    evaluate, points = evaluation.make_evaluate(job), []
    for alpha in alphas:
        interpolated = jax.jit(averaging.interpolate)(start, end, alpha)
        params, stats = devices.put_replicated(job.mesh, interpolated)
        points.append(console.with_interval(evaluate(params, stats, split)))
    return points


def _greedy(task: MergeTask) -> tuple[NetworkValues, str]:
    """The greedy soup of the networks; see `averaging.greedy`."""
    if 'val' not in task.splits:
        raise MergeError(
            '--method=greedy needs validation images that the runs have in common. Runs with '
            'different seeds split them off differently: use data with a validation split'
        )
    names, networks = list(task.networks), list(task.networks.values())
    soup = averaging.greedy(
        networks, task.validation_rank, lambda values, _: task.with_statistics(values)
    )
    return soup.values, f'greedy soup of {", ".join(names[i] for i in soup.members)}'


def _uniform(task: MergeTask) -> tuple[NetworkValues, str]:
    """The mean of all networks."""
    values = task.with_statistics(averaging.average(list(task.networks.values())))
    return values, f'uniform soup of {", ".join(task.networks)}'


def _write(
    out: pathlib.Path, pretrained: Pretrained, values: NetworkValues, title: str, scores: Scores
) -> None:
    """Writes the merged network, with the metadata of a run's network and its scores."""
    # A temperature was fitted to a single run and does not fit the merged network.
    origin = dataclasses.replace(pretrained.origin, source=title, temperature=None)
    metadata = own_format.metadata(dataclasses.replace(pretrained, origin=origin))
    metadata['architecture'] = own_format.architecture_text(pretrained.architecture)
    metadata['scores'] = json.dumps(scores)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + '.part')
    own_format.save(part, *values, metadata)
    part.replace(out)


def _table(scores: dict[str, Scores]) -> rich.table.Table:
    """The headline metric of each network on each split."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column('network')
    for split in runs_to_merge.SPLITS:
        table.add_column(split, justify='right')
    for name, metrics in scores.items():
        cells = [
            tables.headline_text(metrics[split]) if split in metrics else '–'
            for split in runs_to_merge.SPLITS
        ]
        table.add_row(name, *cells)
    return table
