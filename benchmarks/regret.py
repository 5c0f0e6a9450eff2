"""How much worse than the best is what `tljax.advise` chooses, over a bank of real tasks?

    python -m benchmarks.regret --data=../shared/data --out=regret --case=digits-glyphs
    python -m benchmarks.regret --data=../shared/data --out=regret --case=digits-glyphs --advise
    python -m benchmarks.regret --out=regret --table

A task is a set, so many labelled images a class, and weights. By exhaustive search every strategy
of the bank is trained on all labelled images, for the same number of steps, and tested; a seed
draws other labelled images. Regret is the test accuracy of the best strategy, in the mean over the
seeds, less that of the one that was chosen. `advise` chooses by folds of the labelled images,
without a test image, in a third of the seconds that the exhaustive search took, the final training
included. Beside it stand fixed rules:

    full fine-tuning    always, at the low rate
    linear probe        always
    BiT's rule          Kolesnikov et al. 2020, "Big Transfer", section 3.3: full fine-tuning,
                        with hyperparameters from the size of the data. Their rate is 0.003 for
                        batches of 512, a fifteenth of a head's here, and the size sets resolution
                        and length, which the bank fixes; what is left is the rate: below 20 labels
                        a class the low one, else the high one
    best LogME          You et al. 2021: the stage with the best LogME is the last that is frozen;
                        where that is the last below the head, the head alone is trained

Each case writes OUT/CASE.json, row by row; the same command goes on where it stopped. Several cases
can run at the same time. `--table` reads all of them and prints the tables.
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.regret_table import CASES, PER_CLASS, Bank, of, outcomes, table
from tljax.advise import advice, candidates, evidence, folds, networks, price, rules, tasks
from tljax.advise.candidates import Candidate
from tljax.advise.choice import Answers, joined, merits
from tljax.advise.evidence import Look
from tljax.advise.halving import Cost, Entry, Search
from tljax.advise.price import Price
from tljax.advise.trials import Runner, Trial
from tljax.augment import Affine, HorizontalFlip, RandomCrop
from tljax.config.experiment import Experiment
from tljax.data.digits import Digits
from tljax.data.folder import Folder
from tljax.data.subsets import Subset
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.strategies.optimizers import SGD
from tljax.strategies.schedules import Cosine
from tljax.strategies.strategies import LinearProbe
from tljax.types import DataSource, Examples
from tljax.weights import loading

SEEDS = (0, 1)
SHARE = 1 / 3  # of the exhaustive search's steps, that advising may take
GLYPHS = 'embedded:glyphs'
WEIGHTS = {
    'resnet18': 'weights/resnet18-ktb-small-f9db5f80.pth',
    'cifar20': 'weights/cifar10_resnet20-12fca82f.th',
    'cifar56': 'weights/cifar10_resnet56-4bfd9763.th',
}


@dataclasses.dataclass(slots=True, kw_only=True)
class Tested:
    """All labelled images to train on, and the test images in the place of validation."""

    source: DataSource
    per_class: int
    seed: int

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `val`."""
        parts = self.source.splits()
        test = parts['test'] if 'test' in parts else parts['val']
        train = folds.labelled(parts, self.per_class, self.seed, Subset())
        return {'train': train, 'val': test}


@dataclasses.dataclass(slots=True, kw_only=True)
class WithoutVal:
    """A source whose only held-out images are the test split."""

    source: DataSource

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`; validation joins the test images where there are none."""
        parts = dict(self.source.splits())
        if 'test' not in parts:
            parts['test'] = parts.pop('val')
        parts.pop('val', None)
        return parts


def source_of(name: str, data: pathlib.Path) -> DataSource:
    """A set of the bank."""
    if name == 'digits':
        return Digits()
    return WithoutVal(source=Folder(path=str(data / name)))


def experiment_of(case: str, data: pathlib.Path, per_class: int, seed: int) -> Experiment:
    """The base of a task: how whatever trains is trained."""
    name, weights = case.split('-')
    source = source_of(name, data)
    labels = source.splits()['train'].labels
    per_class = min(per_class, int(np.bincount(labels).min()))
    images = per_class * len(np.unique(labels))
    large = weights == 'resnet18'
    batch, steps = (16, 50) if large else (20, 100)
    backbone: Any = ResNet(depth=18) if large else ResNetSmall(depth=56 if '56' in weights else 20)
    backbone.weights = GLYPHS if weights == 'glyphs' else str(data / WEIGHTS[weights])
    shown = loading.load(backbone.weights, backbone).preprocessing
    size, margin = (48, 6) if large else (32, 4)
    if name == 'digits':
        size, margin = (16 if weights == 'glyphs' else 32), 0
    shown = dataclasses.replace(shown, size_px=size, resize_px=size + margin)
    shift: tuple[Any, ...] = (Affine(rotate_degrees=10, scale_factor=1.1, shift_share=0.06),)
    if name != 'digits':
        shift = (RandomCrop(size_px=size), HorizontalFlip())
    return Experiment(
        backbone=backbone,
        data=source,
        per_class=per_class,
        strategy=LinearProbe(),
        optimizer=SGD(
            learning_rate=0.01 if large else 0.05,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
        ),
        schedule=Cosine(),
        augmentations=shift,
        preprocessing=shown,
        epochs=steps * batch / images,
        batch_size=min(batch, images),
        seed=seed,
    )


def cuts(look: Look) -> list[Candidate]:
    """The last stage and the head at the head's rate, the last two at the low one."""
    last, second = look.job.model.names[-2], look.job.model.names[-3]
    wanted = {(last, candidates.HIGH), (second, candidates.LOW)}
    return [one for one in candidates.cuts(look) if (one.first, one.scale) in wanted]


FAMILIES = (
    candidates.probes,
    candidates.lp_ft,
    cuts,
    candidates.fine_tuning,
    candidates.l2_sp,
    candidates.from_scratch,
)


def bits(answers: Answers) -> str:
    """A character for each image, in the order of their ids: `1` where it is right."""
    return ''.join('01'[int(right)] for right in answers.correct[np.argsort(answers.ids)])


def prepared(
    case: str, data: pathlib.Path, per_class: int, seed: int
) -> tuple[Experiment, tasks.Task, Look]:
    """A task with a seed, and its evidence."""
    experiment = experiment_of(case, data, per_class, seed)
    task = tasks.read(experiment)
    (network,) = networks.of(experiment)
    return experiment, task, evidence.look(task, network.experiment, network.pretrained)


def search(bank: Bank, case: str, data: pathlib.Path, per_class: int, seed: int) -> None:
    """The exhaustive search of a task with a seed."""
    place = {'per_class': per_class, 'seed': seed}
    if bank.find(kind='end', **place):
        return
    experiment, task, look = prepared(case, data, per_class, seed)
    if not bank.find(kind='evidence', **place):
        labelled = len(task.labels)
        bank.add(kind='evidence', labelled=labelled, **place, **evidence.summary(look))
    runner = Runner(task)
    for candidate in candidates.propose(look, FAMILIES):
        if not bank.find(kind='run', name=candidate.name, **place):
            bank.add(kind='run', **place, **tested(runner, candidate, experiment))
    bank.add(kind='end', **place)


def advise(bank: Bank, case: str, data: pathlib.Path, per_class: int, seed: int) -> None:
    """What is advised for a task with a seed, once its exhaustive search is done."""
    place = {'per_class': per_class, 'seed': seed}
    known = Bank(bank.path.parent / f'{case}.json')
    if bank.find(kind='advice', **place) or not known.find(kind='end', **place):
        return
    _, task, look = prepared(case, data, per_class, seed)
    bank.add(kind='advice', **place, **advised(known, case, place, task, look))


def tested(runner: Runner, candidate: Candidate, experiment: Experiment) -> dict[str, Any]:
    """A strategy trained on all labelled images, on the test images."""
    source: Any = Tested(
        source=experiment.data, per_class=experiment.per_class or 0, seed=experiment.seed
    )
    whole = dataclasses.replace(
        candidate.experiment, data=source, per_class=None, evaluate=('val',)
    )
    begun = time.process_time()
    trial = runner.train(candidate.name, whole)
    return {
        'name': candidate.name,
        'family': candidate.family,
        'scale': candidate.scale,
        'first': candidate.first,
        'accuracy': trial.answers.accuracy,
        'count': len(trial.answers),
        'correct': bits(trial.answers),
        'steps': trial.steps,
        'seconds': trial.seconds,
        'compile_seconds': trial.compile_seconds,
        'processor_seconds': time.process_time() - begun,
    }


class Metered:
    """A runner whose trials are counted in steps of full fine-tuning, however busy the machine."""

    def __init__(self, runner: Runner, price: Price):
        self.runner, self.price, self.spent, self.processor = runner, price, 0.0, 0.0

    def run(self, candidate: Candidate, *, fold: int, stride: int, deadline: float) -> Trial:
        """See `trials.Runner.run`; the deadline is not looked at."""
        begun = time.process_time()
        trial = self.runner.run(candidate, fold=fold, stride=stride)
        self.processor += time.process_time() - begun
        part = self.price.part(candidate.first)
        self.spent += trial.steps * part
        return dataclasses.replace(
            trial, compile_seconds=0.0, step_seconds=part, seconds=trial.steps * part
        )


def advised(
    bank: Bank, case: str, place: Mapping[str, int], task: tasks.Task, look: Look
) -> dict[str, Any]:
    """What is advised for a share of the steps of the exhaustive search."""
    measured = price.measure(look.job, look.last.linear)
    runs = of(bank.rows, 'run', **place)
    whole = sum(row['steps'] * measured.part(row['first']) for row in runs)
    # The weights' and random weights' pass over the images: a forward pass is a third of a step.
    passes = 2 * len(task.labels) / task.experiment.batch_size / (1 + price.BACKWARD)
    name = f'{case}-{place["per_class"]}-{place["seed"]}'
    runner = Metered(Runner(task, bank.path.parent / 'trials' / name), measured)
    considered, dropped = advice.consider([look], task, FAMILIES)

    def cost(candidate: Candidate) -> Cost:
        found = advice.cost(candidate, {look.source: measured}, task)
        part = measured.part(candidate.first)
        return dataclasses.replace(found, compilation=0.0, each=0.0, step=part)

    search = Search(
        runner=runner,
        folds=task.asked,
        entries=[Entry(candidate=candidate) for candidate in considered],
        cost=cost,
        deadline=SHARE * whole - passes,
        clock=lambda: runner.spent,
    )
    answers, choice = advice.conclude(search, task)
    return {
        'name': choice.name,
        'gains': {name: [gain.mean, gain.error] for name, gain in choice.gains.items()},
        'within': list(choice.within),
        'dropped': [drop.name for drop in dropped],
        'rungs': [dataclasses.asdict(rung) for rung in search.rungs],
        'entries': [entry_numbers(entry) for entry in search.entries],
        'priors': {n: dataclasses.asdict(p) for n, p in rules.priors(considered, task).items()},
        'work': passes + runner.spent,
        'exhaustive_work': whole,
        'processor_seconds': runner.processor,
        'answers': {name: numbers(one) for name, one in answers.items()},
    }


def entry_numbers(entry: Entry) -> dict[str, Any]:
    """A candidate of a search, with its answers at every length."""
    return {
        'name': entry.candidate.name,
        'stride': entry.stride,
        'dropped': entry.dropped,
        'trials': {
            stride: {
                'folds': sorted(found),
                **numbers(joined([trial.answers for trial in found.values()])),
            }
            for stride, found in entry.trials.items()
            if found
        },
    }


def numbers(answers: Answers) -> dict[str, Any]:
    """Answers, image by image."""
    return {
        'ids': answers.ids.tolist(),
        'correct': answers.correct.astype(int).tolist(),
        'merits': np.round(merits(answers), 4).tolist(),
    }


def main() -> None:
    """Runs a case, or prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--data', type=pathlib.Path, default=pathlib.Path('../shared/data'))
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--case', action='append', choices=CASES, default=[])
    parser.add_argument('--per_class', type=int, action='append', default=[])
    parser.add_argument('--seed', type=int, action='append', default=[])
    parser.add_argument('--advise', action='store_true', help='where the search is done')
    parser.add_argument('--table', action='store_true')
    given = parser.parse_args()
    if given.table:
        table(outcomes(given.out, given.seed))
        return
    for seed in given.seed or SEEDS:
        for case in given.case:
            name = f'{case}.advice.json' if given.advise else f'{case}.json'
            bank = Bank(given.out / name)
            for per_class in given.per_class or PER_CLASS:
                does = advise if given.advise else search
                does(bank, case, given.data, per_class, seed)


if __name__ == '__main__':
    main()
