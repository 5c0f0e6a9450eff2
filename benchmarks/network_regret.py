"""How much worse than the best is the network that the screening of `tljax advise` keeps?

    python -m benchmarks.network_regret --data=../shared/data --out=regret_of_networks
    python -m benchmarks.network_regret --out=regret_of_networks --table

A task is a data set and a number of labelled images per class; a seed draws other images. The
exhaustive search fits a linear probe on all labelled images to the frozen features of every network
and tests it. The screening sees the labelled images only. It is `tljax.advise.screening.screen`,
which gets the features from `benchmarks.network_bank` instead of computing them, and reads the
images of each draw in several orders. Regret is the test accuracy of the best network, averaged
over the seeds, minus that of the chosen one.

The cost is relative to the features of all labelled images and their probes for all networks, in
seconds of the processor. Every image costs what was measured for the network, and probes their own.
"In all" adds what `tljax advise` does next for the network that is left: a pass of all labelled
images, another through the same network with random weights, and the probes of both.
"""

import argparse
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import network_bank
from benchmarks.network_bank import Measured
from benchmarks.regret_table import Bank, of
from tljax.advise import screening, tasks
from tljax.advise.held_out import scores
from tljax.advise.linear_probes import LabelledFolds
from tljax.advise.networks import CandidateNetwork
from tljax.advise.tasks import TargetImages
from tljax.features import probes
from tljax.types import Examples

PER_CLASS = {
    'digits': (10, 20, 50),
    'cifar10_jpg': (10, 20, 50, 100),
    'clothing10': (10, 20, 50),
    'flowers5': (10, 20, 50),
}
SEEDS = (0, 1, 2)
ORDERS = 5  # in which the screening reads the labelled images of each draw


def task_of(
    images: str, data: pathlib.Path, per_class: int, seed: int
) -> tuple[TargetImages, Examples]:
    """The labelled images, and the test images."""
    base = network_bank.experiment_of(images, data)
    task = tasks.read(dataclasses.replace(base, per_class=per_class, seed=seed))
    return task, base.data.splits()['test']


def searched(task: TargetImages, test: Examples, measured: Measured) -> dict[str, Any]:
    """The probe of one network: cross-validated, and fitted to all labelled images and tested."""
    x, labels = measured.of(task.ids), task.labels
    data = LabelledFolds(
        ids=task.ids,
        labels=labels,
        partitions=(task.fold_of,),
        evaluated=np.full(len(labels), True),
        num_classes=task.num_classes,
    )
    begun = time.process_time()
    result = data.cross_validate(x)
    seconds = time.process_time() - begun
    decay = result.decays[
        [int(np.argmin([one.losses_at(1.0).mean() for one in result.predictions]))]
    ]
    fit = probes.logistic(x, labels, decay, num_classes=task.num_classes)
    predicted = np.asarray(fit.linear.logits(measured.of(test.ids)))[0].argmax(-1)
    return {
        'score': float(scores(result.best).mean()),
        'probe_seconds': seconds,
        'correct': ''.join('01'[int(right)] for right in predicted == test.labels),
    }


def screened(
    task: TargetImages,
    networks: Mapping[str, CandidateNetwork],
    bank: Mapping[str, Measured],
    order: int,
) -> dict[str, Any]:
    """The network that the screening keeps, and the images that each network read."""
    names = {id(network): name for name, network in networks.items()}
    experiment = task.experiment
    task = dataclasses.replace(
        task, experiment=dataclasses.replace(experiment, seed=experiment.seed + 1000 * order)
    )

    def features(task: TargetImages, network: CandidateNetwork) -> screening.Features:
        measured, ids = bank[names[id(network)]], task.ids
        return lambda rows: measured.of(ids[rows])

    begun = time.process_time()
    (chosen,), results = screening.screen(task, list(networks.values()), features)
    return {
        'chosen': names[id(chosen)],
        'accuracies': {n: one.accuracies for n, one in zip(networks, results, strict=True)},
        'probe_seconds': time.process_time() - begun,
    }


def run(images: str, data: pathlib.Path, out: pathlib.Path) -> None:
    """The tasks of a data set; rows of an earlier call are kept."""
    networks = network_bank.candidates(network_bank.experiment_of(images, data), data)
    bank = network_bank.bank(images, data, out)
    found, screenings = Bank(out / f'{images}.json'), Bank(out / f'{images}.screening.json')
    for per_class, seed in itertools.product(PER_CLASS[images], SEEDS):
        place = {'per_class': per_class, 'seed': seed}
        task, test = task_of(images, data, per_class, seed)
        for name, measured in bank.items():
            if not found.find(kind='probe', network=name, **place):
                row = searched(task, test, measured)
                found.add(kind='probe', network=name, labelled=len(task.labels), **place, **row)
        for order in range(ORDERS):
            if not screenings.find(kind='screening', order=order, **place):
                row = screened(task, networks, bank, order)
                screenings.add(kind='screening', order=order, **place, **row)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """A task with one draw of the labelled images.

    Attributes:
        accuracies: on the test images in percent, by network.
        scores: of the cross-validated probes, by network.
        chosen: by the screening.
        whole: seconds of the features of all labelled images and of the probes, by network.
        spent: seconds of the screening.
    """

    accuracies: dict[str, float]
    scores: dict[str, float]
    chosen: str
    whole: dict[str, float]
    spent: float

    @property
    def by_score(self) -> str:
        """The best by the probe's score, of all."""
        return max(self.scores, key=lambda name: self.scores[name])

    @property
    def exhaustive_seconds(self) -> float:
        """Of the exhaustive search."""
        return sum(self.whole.values())

    @property
    def cost(self) -> float:
        """Of the choice, as a share of the exhaustive search."""
        return self.spent / self.exhaustive_seconds

    @property
    def cost_in_all(self) -> float:
        """With the passes of `advise` over all images, with pretrained and with random weights."""
        return (self.spent + 2 * self.whole[self.chosen]) / self.exhaustive_seconds


def drawn(
    out: pathlib.Path, images: str, per_class: int, seconds: Mapping[str, float]
) -> list[Drawn]:
    """The draws of a task."""
    found, screenings = Bank(out / f'{images}.json'), Bank(out / f'{images}.screening.json')
    result = []
    for screening_row in of(screenings.rows, 'screening', per_class=per_class):
        rows = of(found.rows, 'probe', per_class=per_class, seed=screening_row['seed'])
        by = {row['network']: row for row in rows}
        read = {name: rounds[-1][0] for name, rounds in screening_row['accuracies'].items()}
        result.append(
            Drawn(
                accuracies={
                    n: 100 * row['correct'].count('1') / len(row['correct'])
                    for n, row in by.items()
                },
                scores={n: row['score'] for n, row in by.items()},
                chosen=screening_row['chosen'],
                whole={
                    n: row['labelled'] * seconds[n] + row['probe_seconds'] for n, row in by.items()
                },
                spent=sum(count * seconds[n] for n, count in read.items())
                + screening_row['probe_seconds'],
            )
        )
    return result


COLUMNS = (
    'images', 'per class', 'best network', 'its accuracy, %', 'regret, points', 'without screening',
    'cost', 'cost in all',
)  # fmt: skip


def row_of(draws: Sequence[Drawn]) -> tuple[str, list[float]]:
    """The best network of a task, and its numbers: from its accuracy to the cost in all."""
    means = {n: float(np.mean([one.accuracies[n] for one in draws])) for n in draws[0].accuracies}
    best = max(means, key=lambda name: means[name])

    def mean(value: Callable[[Drawn], float]) -> float:
        return float(np.mean([value(one) for one in draws]))

    return best, [
        means[best],
        means[best] - mean(lambda one: one.accuracies[one.chosen]),
        means[best] - mean(lambda one: one.accuracies[one.by_score]),
        mean(lambda one: one.cost),
        mean(lambda one: one.cost_in_all),
    ]


def table(out: pathlib.Path) -> None:
    """Prints the tasks and their mean."""
    seconds = network_bank.seconds(out)
    print('| ' + ' | '.join(COLUMNS) + ' |\n' + '| --- ' * len(COLUMNS) + '|')
    numbers, everything = [], []
    for images, counts in PER_CLASS.items():
        for per_class in counts:
            draws = drawn(out, images, per_class, seconds)
            if draws:
                best, row = row_of(draws)
                numbers.append(row)
                everything += draws
                print(_line(images, str(per_class), best, row))
    print(_line('mean', '', '', np.mean(numbers, 0).tolist()))
    chosen, all_seconds = (
        sum(value(one) for one in everything)
        for value in (lambda one: one.spent, lambda one: one.exhaustive_seconds)
    )
    print(f'All tasks together: {chosen:.0f} of {all_seconds:.0f} s, {chosen / all_seconds:.2f}')


def _line(images: str, per_class: str, best: str, row: Sequence[float]) -> str:
    accuracy, *others = row
    cells = [
        images,
        per_class,
        best,
        f'{accuracy:.1f}',
        *(f'{x:.2f}' for x in others),
    ]
    return '| ' + ' | '.join(cells) + ' |'


def main() -> None:
    """Runs the tasks, or prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--data', type=pathlib.Path, default=pathlib.Path('../shared/data'))
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--images', choices=PER_CLASS, nargs='+', default=list(PER_CLASS))
    parser.add_argument('--table', action='store_true')
    arguments = parser.parse_args()
    if not arguments.table:
        for images in arguments.images:
            run(images, arguments.data, arguments.out)
    table(arguments.out)


if __name__ == '__main__':
    main()
