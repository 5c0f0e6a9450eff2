"""The rows of `benchmarks.regret`, and the tables that are made of them."""

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
# The tasks whose test accuracies were looked at, with seed 0, while the rules were made.
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
    """The rows of a case, on the disk as they come."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def find(self, **fields: Any) -> dict[str, Any] | None:
        """The row with these values; None where there is none yet."""
        return next((r for r in self.rows if all(r.get(k) == v for k, v in fields.items())), None)

    def add(self, **row: Any) -> None:
        """Keeps one more."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        writers.write_json(self.path, self.rows)
        print(json.dumps({k: v for k, v in row.items() if k not in BULKY}), flush=True)


BULKY = ('gains', 'priors', 'correct', 'answers', 'depths', 'entries', 'dropped')


def of(rows: Sequence[dict[str, Any]], kind: str, **place: int) -> list[dict[str, Any]]:
    """The rows of a kind and a place."""
    return [r for r in rows if r['kind'] == kind and all(r[k] == v for k, v in place.items())]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A task: what each strategy gives on test, what was chosen, and what either cost.

    Attributes:
        case: set and weights.
        labels: images a class, in the mean.
        seen: whether the rules were made with its test accuracies in view.
        correct: by seed, by strategy, [images] bool.
        chosen: by the way of choosing, the strategy of each seed.
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

        A probe of a lower stage that the evidence of some seeds does not offer is left out.
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

    def regret(self, way: str) -> float:
        """In points, the mean over the seeds."""
        pairs = zip(self.correct, self.chosen[way], strict=True)
        got = 100 * np.mean([one[name].mean() for one, name in pairs])
        return self.accuracy[self.best] - float(got)

    def drawn(self, way: str, rng: np.random.Generator, draws: int) -> np.ndarray:
        """Regrets [D] with test images drawn again with replacement, the best taken anew."""
        best, got = 0.0, 0.0
        for one, chosen in zip(self.correct, self.chosen[way], strict=True):
            count = len(one[chosen])
            weights = rng.multinomial(count, np.full(count, 1 / count), draws) / count
            best = best + weights @ np.stack([one[name] for name in self.accuracy]).T
            got = got + weights @ one[chosen]
        return 100 * (np.max(best, 1) - got) / len(self.correct)

    def halved(self, way: str, rng: np.random.Generator, draws: int) -> float:
        """In points, where the best is picked on one half of the test images.

        Both are judged on the other half. Of several strategies that are nearly as good the best
        on all test images is in part the luckiest, by which `regret` is too large.
        """
        lost = []
        for one, chosen in zip(self.correct, self.chosen[way], strict=True):
            names = list(one)
            right = np.stack([one[name] for name in names])
            for _ in range(draws):
                order = rng.permutation(right.shape[1])
                for picks, judges in (halves := np.array_split(order, 2), halves[::-1]):
                    best = right[right[:, picks].mean(1).argmax()]
                    lost.append(best[judges].mean() - one[chosen][judges].mean())
        return 100 * float(np.mean(lost))


def outcomes(out: pathlib.Path, seeds: Sequence[int] = ()) -> list[Outcome]:
    """Every task whose search is done and that advice was given for, with as many seeds.

    Args:
        out: the folder of the banks.
        seeds: no others; all if there are none.
    """
    found = []
    for case in CASES:
        bank, advice_bank = Bank(out / f'{case}.json'), Bank(out / f'{case}.advice.json')
        for per_class in PER_CLASS:
            given = of(advice_bank.rows, 'advice', per_class=per_class)
            given = [row for row in given if not seeds or row['seed'] in seeds]
            if given:
                found.append(outcome(case, per_class, bank.rows, given))
    return found


def outcome(
    case: str, per_class: int, rows: Sequence[dict[str, Any]], given: Sequence[dict[str, Any]]
) -> Outcome:
    """One task, by its rows."""
    seeds = [row['seed'] for row in given]
    runs = [of(rows, 'run', per_class=per_class, seed=seed) for seed in seeds]
    looks = [of(rows, 'evidence', per_class=per_class, seed=seed)[0] for seed in seeds]
    correct = [{r['name']: np.array([c == '1' for c in r['correct']]) for r in one} for one in runs]
    classes = {'digits': 10, 'cifar10_jpg': 10, 'clothing10': 10, 'flowers5': 5}
    return Outcome(
        case=case,
        labels=looks[0]['labelled'] / classes[case.split('-')[0]],
        seen=(case, per_class) in SEEN and 0 in seeds,
        correct=correct,
        chosen={
            'advise': [row['name'] for row in given],
            'full fine-tuning': [_named(one, 'full', candidates.LOW) for one in runs],
            'linear probe': ['linear probe'] * len(seeds),
            'BiT': [
                _named(one, 'full', candidates.LOW if per_class < 20 else candidates.HIGH)
                for one in runs
            ],
            'best LogME': [_by_logme(one, look) for one, look in zip(runs, looks, strict=True)],
        },
        cost={
            'exhaustive': sum(row['exhaustive_work'] for row in given),
            'advise': sum(row['work'] for row in given),
        },
    )


def _named(rows: Sequence[dict[str, Any]], family: str, scale: float) -> str:
    return next(r['name'] for r in rows if r['family'] == family and r['scale'] == scale)


def _by_logme(rows: Sequence[dict[str, Any]], look: dict[str, Any]) -> str:
    """The strategy of the bank that freezes up to the stage with the best LogME, or nearly."""
    stages = [depth['stage'] for depth in look['depths']]
    best = max(look['depths'], key=lambda depth: depth['scores']['LogME'])['stage']
    if best == stages[-1]:
        return 'linear probe'
    above = stages[stages.index(best) + 1]
    cuts_there = [r['name'] for r in rows if r['family'] == 'cut' and r['first'] == above]
    return cuts_there[0] if cuts_there else _named(rows, 'full', candidates.LOW)


def table(found: Sequence[Outcome]) -> None:
    """Prints the tasks, then the mean regrets with their intervals, and the costs."""
    ways = list(found[0].chosen)
    columns = ['set and weights', 'labels a class', 'best on test', 'advised', *ways]
    print('| ' + ' | '.join(columns) + ' |')
    print('| --- ' * len(columns) + '|')
    for one in found:
        advised_ = ' / '.join(dict.fromkeys(one.chosen['advise']))
        cells = [one.case, f'{one.labels:.0f}', f'{one.best} ({one.accuracy[one.best]:.1f})']
        cells += [advised_, *(f'{one.regret(way):.1f}' for way in ways)]
        print('| ' + ' | '.join(cells) + ' |')
    parts = {
        'all': list(found),
        'seen while the rules were made': [one for one in found if one.seen],
        'unseen': [one for one in found if not one.seen],
    }
    print('\n| mean regret, points (95 % interval) | tasks | ' + ' | '.join(ways) + ' |')
    print('| --- ' * (2 + len(ways)) + '|')
    for name, some in parts.items():
        if some and (name == 'all' or len(some) < len(found)):
            cells = [_mean_text(some, way) for way in ways]
            print(f'| {name} | {len(some)} | ' + ' | '.join(cells) + ' |')
    rng = np.random.default_rng(0)
    halves = [f'{np.mean([one.halved(way, rng, 100) for one in found]):.2f}' for way in ways]
    print(f'| all, the best picked on other test images | {len(found)} | {" | ".join(halves)} |')
    whole, ours = (sum(one.cost[name] for one in found) for name in ('exhaustive', 'advise'))
    print(f'\nSteps of full fine-tuning: exhaustive {whole:,.0f}, advise {ours:,.0f}: ', end='')
    print(f'{ours / whole:.2f} of it.')


def _mean_text(found: Sequence[Outcome], way: str) -> str:
    """The mean regret, with the interval that drawing tasks and test images again gives."""
    rng = np.random.default_rng(0)
    draws = np.stack([one.drawn(way, rng, 500) for one in found])
    picks = rng.integers(0, len(found), (500, len(found)))
    means = draws[picks, np.arange(500)[:, None]].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = np.mean([one.regret(way) for one in found])
    return f'{mean:.2f} ({low:.1f} to {high:.1f})'
