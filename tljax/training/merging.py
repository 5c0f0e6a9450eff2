"""Merges the networks of runs into one file of weights: the work of `tljax merge`."""

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
from tljax.models.averaging import Values
from tljax.records import console, tables
from tljax.training import evaluation, runs_to_merge, step
from tljax.training.batches import eval_batches
from tljax.training.jobs import Job
from tljax.training.runs_to_merge import Ingredient, MergeError
from tljax.weights import own_format
from tljax.weights.pretrained import Pretrained

METHODS = ('wise_ft', 'uniform', 'greedy')
ALPHAS = tuple(np.linspace(0, 1, 11).round(1).tolist())
Scores = dict[str, dict[str, Any]]  # {split: metrics with interval}, of the splits that are shared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """What merges are made and judged with."""

    job: Job  # of the last run: its data and its network
    evaluate: evaluation.Evaluate
    shared: tuple[str, ...]  # splits that are the same images in all runs
    networks: tuple[Values, ...]
    anew: bool  # whether BatchNorm statistics are taken anew

    def scores(self, values: Values) -> Scores:
        """What a network scores on the shared splits."""
        params, stats = devices.put_replicated(self.job.mesh, values)
        return {s: console.with_interval(self.evaluate(params, stats, s)) for s in self.shared}

    def validated(self, values: Values) -> tuple[float, float]:
        """Accuracy, then minus the loss, on the validation images."""
        params, stats = devices.put_replicated(self.job.mesh, values)
        found = self.evaluate(params, stats, 'val')
        return totals.rank(found)

    def finished(self, values: Values) -> Values:
        """A merge, with its statistics taken anew in the stages where the networks differ."""
        stages = runs_to_merge.differing(self.networks)
        if not (self.anew and stages):
            return values
        return batch_norm_statistics.reestimated(
            self.job.model, values, lambda: eval_batches(self.job, 'train'), names=stages
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
    """Merges the networks of runs, says what they score, and writes the merge.

    Args:
        folders: of the runs.
        out: the file to write.
        method: `wise_ft`, `uniform` or `greedy`.
        alphas: of `wise_ft`; None for 0, 0.1, ..., 1.
        statistics: `anew` or `averaged`.
        overwrite: whether a file that is there is replaced.

    Returns:
        The scores of every network and of the merge, the last, by name.

    Raises:
        InputError: the runs do not fit each other or the method, or the file is there.
    """
    if out.exists() and not overwrite:
        raise MergeError(f'{out} is there already; --overwrite replaces it')
    _check_method(len(folders), method, alphas)
    found = [runs_to_merge.read(folder) for folder in folders]
    runs_to_merge.check(found)
    judge, named = _judge(found, anew=statistics == 'anew')
    table = {name: judge.scores(values) for name, values in named.items()}
    if method == 'wise_ft':
        values, title = _wise_ft(judge, table, tuple(alphas or ALPHAS))
    elif method == 'greedy':
        values, title = _greedy(judge, list(named))
    else:
        values = judge.finished(averaging.average(judge.networks))
        title = f'uniform soup of {", ".join(named)}'
    table[title] = judge.scores(values)
    console.console.print(_table(table))
    for split in set(runs_to_merge.SPLITS) - set(judge.shared):
        console.console.print(f'The runs have no {split} images in common, or none at all.')
    _write(out, found[-1].pretrained, values, title, table[title])
    console.console.print(f'Wrote {out}: {title}', soft_wrap=True, markup=False)
    return table


def _check_method(count: int, method: str, alphas: Sequence[float] | None) -> None:
    if alphas is not None and method != 'wise_ft':
        raise MergeError(f'--alpha is of wise_ft, and the method is {method}')
    if method == 'wise_ft' and count > 2:
        raise MergeError(f'wise_ft lies between two networks; there are {count} runs')
    if method != 'wise_ft' and count < 2:
        raise MergeError(f'a {method} soup wants two runs or more')


def _judge(found: Sequence[Ingredient], *, anew: bool) -> tuple[Judge, dict[str, Values]]:
    """What merges of these runs are judged with, and their networks by name."""
    job = runs_to_merge.setup(found[-1], from_start=len(found) == 1)
    named = {one.name: one.values for one in found}
    if len(named) < len(found):
        raise MergeError('a run is named twice')
    if len(found) == 1:
        named = {'the start': runs_to_merge.start(job, found[0]), **named}
    judge = Judge(
        job=job,
        evaluate=evaluation.make_evaluate(job),
        shared=runs_to_merge.shared(job, found),
        networks=tuple(named.values()),
        anew=anew,
    )
    return judge, named


def _wise_ft(
    judge: Judge, table: dict[str, Scores], alphas: tuple[float, ...]
) -> tuple[Values, str]:
    """The curve into the table; the interpolation that validation picks of it."""
    start, end = judge.networks
    if len(alphas) > 1 and 'val' not in judge.shared:
        raise MergeError('the runs have no validation images in common: give one --alpha')
    found = {split: curve(judge.job, start, end, alphas, split) for split in judge.shared}
    for index, alpha in enumerate(alphas):
        table[f'alpha {alpha:g}'] = {split: found[split][index] for split in found}
    chosen = 0
    if len(alphas) > 1:
        ranks = [totals.rank(one) for one in found['val']]
        chosen = ranks.index(max(ranks))
    alpha = alphas[chosen]
    mixed = jax.jit(averaging.interpolate)(start, end, alpha)
    values = Values(*(jax.tree.map(np.asarray, part) for part in mixed))
    values = values if alpha in (0, 1) else judge.finished(values)
    names = list(table)[:2]
    return values, f'wise_ft from {names[0]} to {names[1]}, alpha {alpha:g}'


def curve(
    job: Job, start: Values, end: Values, alphas: Sequence[float], split: str
) -> list[dict[str, Any]]:
    """What the interpolations score on a split, all in one pass over its images.

    Their BatchNorm statistics are interpolated too.

    Args:
        job: the data, the network and the loss.
        start: where alpha is 0.
        end: where it is 1.
        alphas: [A].
        split: of the data.

    Returns:
        Metrics with interval for each alpha.
    """
    if job.splits[split].multi_label:
        return _curve_one_by_one(job, start, end, alphas, split)
    evaluate = step.make_eval_step(job.model, job.experiment.loss)
    whole, rows = devices.replicated(job.mesh), devices.split(job.mesh)

    @functools.partial(jax.jit, in_shardings=(whole,) * 3 + (rows,), out_shardings=whole)
    def along(start: Values, end: Values, alphas: Any, batch: Any) -> totals.Sums:
        return averaging.curve(lambda v: evaluate(v.params, v.stats, batch)[0], start, end, alphas)

    # On CPU several networks at once took 2.4 to 3.8 times as long as one by one (ResNet-18).
    size = 1 if jax.default_backend() == 'cpu' else len(alphas)
    groups = [np.array(alphas[i : i + size]) for i in range(0, len(alphas), size)]
    start, end = devices.put_replicated(job.mesh, (start, end))
    each_batch = []
    for batch in eval_batches(job, split):
        placed = devices.put_batch(job.mesh, batch)
        found = [jax.device_get(along(start, end, group, placed)) for group in groups]
        each_batch.append(jax.tree.map(lambda *sums: np.concatenate(sums), *found))
    total = functools.reduce(totals.add, each_batch)
    each = [{name: sums[i] for name, sums in total.items()} for i in range(len(alphas))]
    return [console.with_interval(totals.summary(sums)) for sums in each]


def _curve_one_by_one(
    job: Job, start: Values, end: Values, alphas: Sequence[float], split: str
) -> list[dict[str, Any]]:
    """The same of several labels, whose mean average precision is no mean over images."""
    evaluate, found = evaluation.make_evaluate(job), []
    for alpha in alphas:
        mixed = jax.jit(averaging.interpolate)(start, end, alpha)
        params, stats = devices.put_replicated(job.mesh, mixed)
        found.append(console.with_interval(evaluate(params, stats, split)))
    return found


def _greedy(judge: Judge, names: Sequence[str]) -> tuple[Values, str]:
    if 'val' not in judge.shared:
        raise MergeError(
            'greedy picks by validation images, and the runs have none in common: another seed '
            'takes other ones out of the training images; give the data a split of its own'
        )
    soup = averaging.greedy(
        judge.networks, judge.validated, lambda values, _: judge.finished(values)
    )
    return soup.values, f'greedy soup of {", ".join(names[i] for i in soup.members)}'


def _write(
    out: pathlib.Path, pretrained: Pretrained, values: Values, title: str, scores: Scores
) -> None:
    """The merge under our own paths, with all that travels with a run's network."""
    # The merged network has no temperature: one of a single run does not fit it.
    origin = dataclasses.replace(pretrained.origin, source=title, temperature=None)
    texts = own_format.metadata(dataclasses.replace(pretrained, origin=origin))
    texts['architecture'] = own_format.architecture_text(pretrained.architecture)
    texts['scores'] = json.dumps(scores)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + '.part')
    own_format.save(part, *values, texts)
    part.replace(out)


def _table(found: dict[str, Scores]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column('network')
    for split in runs_to_merge.SPLITS:
        table.add_column(split, justify='right')
    for name, scores in found.items():
        cells = [
            tables.headline_text(scores[s]) if s in scores else '–' for s in runs_to_merge.SPLITS
        ]
        table.add_row(name, *cells)
    return table
