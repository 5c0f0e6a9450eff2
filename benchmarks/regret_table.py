"""The rows of `benchmarks.regret`, and the tables made of them."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tljax.advise import candidates
from tljax.records import writers

PER_CLASS = (5, 20, 100)
# The tasks whose test accuracies, with seed 0, were known while the rules were made.
SEEN = (
    ('digits-glyphs', 5),
    ('digits-glyphs', 20),
    ('digits-glyphs', 100),
    ('cifar10_jpg-glyphs', 5),
    ('cifar10_jpg-glyphs', 20),
    ('cifar10_jpg-cifar20', 20),
    ('clothing10-cifar20', 20),
    ('clothing10-glyphs', 20),
)
CASES = (
    'digits-glyphs',
    'cifar10_jpg-glyphs',
    'cifar10_jpg-cifar20',
    'clothing10-cifar20',
    'clothing10-glyphs',
    'flowers5-resnet18',
    'clothing10-resnet18',
    'digits-cifar20',
)


class Bank:
    """The rows of a case, written to disk one by one."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def find(self, **fields: Any) -> dict[str, Any] | None:
        """The row with these values; None if there is none yet."""
        return next((r for r in self.rows if all(r.get(k) == v for k, v in fields.items())), None)

    def add(self, **row: Any) -> None:
        """Appends a row and writes the file."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        writers.write_json(self.path, self.rows)
        print(json.dumps({k: v for k, v in row.items() if k not in BULKY}), flush=True)


BULKY = ('gains', 'priors', 'correct', 'answers', 'depths', 'entries', 'dropped')


def of(rows: Sequence[dict[str, Any]], kind: str, **place: int) -> list[dict[str, Any]]:
    """The rows of a kind with these values."""
    return [r for r in rows if r['kind'] == kind and all(r[k] == v for k, v in place.items())]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A task: the test result of each strategy, the choices, and the costs.

    Attributes:
        case: data set and weights.
        labels: images per class, averaged.
        seen: whether its test accuracies were known while the rules were made.
        correct: by seed, by strategy, [images] bool.
        chosen: by method, the strategy chosen with each seed.
        cost: of the exhaustive search and of advising, in steps of full fine-tuning.
    """

    case: str
    labels: float
    seen: bool
    correct: list[dict[str, np.ndarray]]
    chosen: dict[str, list[str]]
    cost: dict[str, float]

    @functools.cached_property
    def accuracy(self) -> dict[str, float]:
        """By strategy, the mean over the seeds, in percent.

        Probes of lower stages that are not candidates with every seed are omitted.
        """
        first, *others = self.correct
        names = [name for name in first if all(name in other for other in others)]
        return {
            name: 100 * float(np.mean([one[name].mean() for one in self.correct])) for name in names
        }

    @property
    def best(self) -> str:
        """The best strategy on test."""
        return max(self.accuracy, key=lambda name: self.accuracy[name])

    def regret(self, method: str) -> float:
        """In points, the mean over the seeds."""
        pairs = zip(self.correct, self.chosen[method], strict=True)
        got = 100 * np.mean([one[name].mean() for one, name in pairs])
        return self.accuracy[self.best] - float(got)

    def bootstrapped(self, method: str, rng: np.random.Generator, draws: int) -> np.ndarray:
        """Regrets [D] for test images drawn with replacement, each with its own best strategy."""
        best, got = 0.0, 0.0
        for one, chosen in zip(self.correct, self.chosen[method], strict=True):
            count = len(one[chosen])
            weights = rng.multinomial(count, np.full(count, 1 / count), draws) / count
            best = best + weights @ np.stack([one[name] for name in self.accuracy]).T
            got = got + weights @ one[chosen]
        return 100 * (np.max(best, 1) - got) / len(self.correct)

    def halved(self, method: str, rng: np.random.Generator, draws: int) -> float:
        """In points, with the best strategy selected on one half of the test images.

        Both strategies are evaluated on the other half. The best of several similar strategies on
        all test images is partly the luckiest, so `regret` is too large.
        """
        lost = []
        for one, chosen in zip(self.correct, self.chosen[method], strict=True):
            names = list(one)
            right = np.stack([one[name] for name in names])
            for _ in range(draws):
                order = rng.permutation(right.shape[1])
                for selection, evaluation in (halves := np.array_split(order, 2), halves[::-1]):
                    best = right[right[:, selection].mean(1).argmax()]
                    lost.append(best[evaluation].mean() - one[chosen][evaluation].mean())
        return 100 * float(np.mean(lost))


def outcomes(out: pathlib.Path, seeds: Sequence[int] = ()) -> list[Outcome]:
    """Every task that has both a finished exhaustive search and an advice.

    Args:
        out: the folder of the banks.
        seeds: that are used; empty for all.
    """
    result = []
    for case in CASES:
        bank, advice_bank = Bank(out / f'{case}.json'), Bank(out / f'{case}.advice.json')
        for per_class in PER_CLASS:
            advised = of(advice_bank.rows, 'advice', per_class=per_class)
            advised = [row for row in advised if not seeds or row['seed'] in seeds]
            if advised:
                result.append(outcome(case, per_class, bank.rows, advised))
    return result


def outcome(
    case: str, per_class: int, rows: Sequence[dict[str, Any]], advised: Sequence[dict[str, Any]]
) -> Outcome:
    """One task from its rows."""
    seeds = [row['seed'] for row in advised]
    runs = [of(rows, 'run', per_class=per_class, seed=seed) for seed in seeds]
    evidence = [of(rows, 'evidence', per_class=per_class, seed=seed)[0] for seed in seeds]
    correct = [{r['name']: np.array([c == '1' for c in r['correct']]) for r in one} for one in runs]
    classes = {'digits': 10, 'cifar10_jpg': 10, 'clothing10': 10, 'flowers5': 5}
    return Outcome(
        case=case,
        labels=evidence[0]['labelled'] / classes[case.split('-')[0]],
        seen=(case, per_class) in SEEN and 0 in seeds,
        correct=correct,
        chosen={
            'advise': [row['name'] for row in advised],
            'full fine-tuning': [_named(one, 'full', candidates.LOW) for one in runs],
            'linear probe': ['linear probe'] * len(seeds),
            'BiT': [
                _named(one, 'full', candidates.LOW if per_class < 20 else candidates.HIGH)
                for one in runs
            ],
            'best LogME': [_by_logme(*pair) for pair in zip(runs, evidence, strict=True)],
        },
        cost={
            'exhaustive': sum(row['exhaustive_work'] for row in advised),
            'advise': sum(row['work'] for row in advised),
        },
    )


def _named(rows: Sequence[dict[str, Any]], family: str, scale: float) -> str:
    return next(r['name'] for r in rows if r['family'] == family and r['scale'] == scale)


def _by_logme(rows: Sequence[dict[str, Any]], evidence: dict[str, Any]) -> str:
    """The strategy of the bank that freezes up to the stage with the best LogME."""
    stages = [probe['stage'] for probe in evidence['depths']]
    best = max(evidence['depths'], key=lambda probe: probe['scores']['LogME'])['stage']
    if best == stages[-1]:
        return 'linear probe'
    above = stages[stages.index(best) + 1]
    matching = [r['name'] for r in rows if r['family'] == 'cut' and r['first'] == above]
    return matching[0] if matching else _named(rows, 'full', candidates.LOW)


def table(tasks: Sequence[Outcome]) -> None:
    """Prints the tasks, then the mean regrets with their intervals, and the costs."""
    methods = list(tasks[0].chosen)
    columns = ['data set and weights', 'labels per class', 'best on test', 'advised', *methods]
    print('| ' + ' | '.join(columns) + ' |')
    print('| --- ' * len(columns) + '|')
    for one in tasks:
        advised_ = ' / '.join(dict.fromkeys(one.chosen['advise']))
        cells = [one.case, f'{one.labels:.0f}', f'{one.best} ({one.accuracy[one.best]:.1f})']
        cells += [advised_, *(f'{one.regret(method):.1f}' for method in methods)]
        print('| ' + ' | '.join(cells) + ' |')
    parts = {
        'all': list(tasks),
        'seen while the rules were made': [one for one in tasks if one.seen],
        'unseen': [one for one in tasks if not one.seen],
    }
    print('\n| mean regret, points (95 % interval) | tasks | ' + ' | '.join(methods) + ' |')
    print('| --- ' * (2 + len(methods)) + '|')
    for name, some in parts.items():
        if some and (name == 'all' or len(some) < len(tasks)):
            cells = [_mean_text(some, method) for method in methods]
            print(f'| {name} | {len(some)} | ' + ' | '.join(cells) + ' |')
    rng = np.random.default_rng(0)
    halves = [
        f'{np.mean([one.halved(method, rng, 100) for one in tasks]):.2f}' for method in methods
    ]
    print(f'| all, the best selected on other test images | {len(tasks)} | {" | ".join(halves)} |')
    exhaustive, advised = (
        sum(one.cost[name] for one in tasks) for name in ('exhaustive', 'advise')
    )
    print(
        f'\nSteps of full fine-tuning: exhaustive {exhaustive:,.0f}, advise {advised:,.0f} '
        f'({advised / exhaustive:.2f}).'
    )


def _mean_text(tasks: Sequence[Outcome], method: str) -> str:
    """The mean regret with its bootstrap interval over tasks and test images."""
    rng = np.random.default_rng(0)
    draws = np.stack([one.bootstrapped(method, rng, 500) for one in tasks])
    picks = rng.integers(0, len(tasks), (500, len(tasks)))
    means = draws[picks, np.arange(500)[:, None]].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = np.mean([one.regret(method) for one in tasks])
    return f'{mean:.2f} ({low:.1f} to {high:.1f})'
