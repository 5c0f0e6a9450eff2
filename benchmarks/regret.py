"""How much worse than the best is what `tljax.advise` chooses, over a bank of real tasks?

    python -m benchmarks.regret --data=../shared/data --out=regret --case=digits-glyphs
    python -m benchmarks.regret --data=../shared/data --out=regret --case=digits-glyphs --advise
    python -m benchmarks.regret --out=regret --table

A task is a data set, a number of labelled images per class, and weights. The exhaustive search
trains and tests every strategy of the bank on all labelled images, for the same number of steps. A
seed draws other labelled images. Regret is the test accuracy of the best strategy, averaged over
the seeds, minus that of the chosen one. `advise` chooses by folds of the labelled images, without a
test image, within a third of the steps of the exhaustive search, final training included. It is
compared with fixed rules:

    full fine-tuning    always, at the low rate
    linear probe        always
    BiT's rule          Kolesnikov et al. 2020, "Big Transfer", section 3.3: full fine-tuning,
                        with hyperparameters from the size of the data. Their rate is 0.003 for
                        batches of 512, a fifteenth of a head's here. The size sets resolution and
                        length, which the bank fixes, so only the rate is left: the low one below
                        20 labels per class, else the high one
    best LogME          You et al. 2021: freezes up to the stage with the best LogME; if that is the
                        last one below the head, only the head is trained

Each case writes OUT/CASE.json, row by row; the same command continues an interrupted case. Several
cases can run at the same time. `--table` reads all of them and prints the tables.
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.regret_table import CASES, PER_CLASS, Bank, of, outcomes, table
from tljax.advise import advice, candidates, evidence, folds, networks, rules, tasks, trial_costs
from tljax.advise.candidates import Candidate
from tljax.advise.evidence import Evidence
from tljax.advise.halving import Entry, HalvingSearch
from tljax.advise.held_out import HeldOutPredictions, joined, scores
from tljax.advise.trial_costs import NetworkCost, TrialCost
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
SHARE = 1 / 3  # of the exhaustive search's steps: the budget of `advise`
GLYPHS = 'embedded:glyphs'
WEIGHTS = {
    'resnet18': 'weights/resnet18-ktb-small-f9db5f80.pth',
    'cifar20': 'weights/cifar10_resnet20-12fca82f.th',
    'cifar56': 'weights/cifar10_resnet56-4bfd9763.th',
}


@dataclasses.dataclass(slots=True, kw_only=True)
class Tested:
    """All labelled images as `train`, and the test images as `val`."""

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
    """A source without a validation split."""

    source: DataSource

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`; the validation split replaces a missing test split."""
        parts = dict(self.source.splits())
        if 'test' not in parts:
            parts['test'] = parts.pop('val')
        parts.pop('val', None)
        return parts


def source_of(name: str, data: pathlib.Path) -> DataSource:
    """A data set of the bank."""
    if name == 'digits':
        return Digits()
    return WithoutVal(source=Folder(path=str(data / name)))


def experiment_of(case: str, data: pathlib.Path, per_class: int, seed: int) -> Experiment:
    """The training recipe of a task."""
    name, weights = case.split('-')
    source = source_of(name, data)
    labels = source.splits()['train'].labels
    per_class = min(per_class, int(np.bincount(labels).min()))
    images = per_class * len(np.unique(labels))
    large = weights == 'resnet18'
    batch, steps = (16, 50) if large else (20, 100)
    backbone: Any = ResNet(depth=18) if large else ResNetSmall(depth=56 if '56' in weights else 20)
    backbone.weights = GLYPHS if weights == 'glyphs' else str(data / WEIGHTS[weights])
    preprocessing = loading.load(backbone.weights, backbone).preprocessing
    size, margin = (48, 6) if large else (32, 4)
    if name == 'digits':
        size, margin = (16 if weights == 'glyphs' else 32), 0
    preprocessing = dataclasses.replace(preprocessing, size_px=size, resize_px=size + margin)
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
        preprocessing=preprocessing,
        epochs=steps * batch / images,
        batch_size=min(batch, images),
        seed=seed,
    )


def cuts(evidence: Evidence) -> list[Candidate]:
    """The last stage at the head's rate, the last two at the low one; both with the head."""
    last, second = evidence.job.model.names[-2], evidence.job.model.names[-3]
    wanted = {(last, candidates.HIGH), (second, candidates.LOW)}
    return [one for one in candidates.cuts(evidence) if (one.first, one.scale) in wanted]


FAMILIES = (
    candidates.probes,
    candidates.lp_ft,
    cuts,
    candidates.fine_tuning,
    candidates.l2_sp,
    candidates.from_scratch,
)


def bits(predictions: HeldOutPredictions) -> str:
    """A character per image in the order of ids: `1` if the prediction is correct, else `0`."""
    return ''.join(
        '01'[int(correct)] for correct in predictions.correct[np.argsort(predictions.ids)]
    )


def prepared(
    case: str, data: pathlib.Path, per_class: int, seed: int
) -> tuple[Experiment, tasks.TargetImages, Evidence]:
    """A task with a seed, and its evidence."""
    experiment = experiment_of(case, data, per_class, seed)
    task = tasks.read(experiment)
    (network,) = networks.of(experiment)
    return experiment, task, evidence.collect(task, network.experiment, network.pretrained)


def search(bank: Bank, case: str, data: pathlib.Path, per_class: int, seed: int) -> None:
    """The exhaustive search of a task with a seed."""
    place = {'per_class': per_class, 'seed': seed}
    if bank.find(kind='end', **place):
        return
    experiment, task, collected = prepared(case, data, per_class, seed)
    if not bank.find(kind='evidence', **place):
        labelled = len(task.labels)
        bank.add(kind='evidence', labelled=labelled, **place, **evidence.summary(collected))
    runner = Runner(task)
    for candidate in candidates.propose(collected, FAMILIES):
        if not bank.find(kind='run', name=candidate.name, **place):
            bank.add(kind='run', **place, **tested(runner, candidate, experiment))
    bank.add(kind='end', **place)


def advise(bank: Bank, case: str, data: pathlib.Path, per_class: int, seed: int) -> None:
    """The advice for a task with a seed, after its exhaustive search."""
    place = {'per_class': per_class, 'seed': seed}
    known = Bank(bank.path.parent / f'{case}.json')
    if bank.find(kind='advice', **place) or not known.find(kind='end', **place):
        return
    _, task, collected = prepared(case, data, per_class, seed)
    bank.add(kind='advice', **place, **advised(known, case, place, task, collected))


def tested(runner: Runner, candidate: Candidate, experiment: Experiment) -> dict[str, Any]:
    """The test result of a strategy trained on all labelled images."""
    source: Any = Tested(
        source=experiment.data, per_class=experiment.per_class or 0, seed=experiment.seed
    )
    on_all = dataclasses.replace(
        candidate.experiment, data=source, per_class=None, evaluate=('val',)
    )
    begun = time.process_time()
    trial = runner.train(candidate.name, on_all)
    return {
        'name': candidate.name,
        'family': candidate.family,
        'scale': candidate.scale,
        'first': candidate.first,
        'accuracy': trial.predictions.accuracy,
        'count': len(trial.predictions),
        'correct': bits(trial.predictions),
        'steps': trial.steps,
        'seconds': trial.seconds,
        'compile_seconds': trial.compile_seconds,
        'processor_seconds': time.process_time() - begun,
    }


class MeteredRunner:
    """A runner that counts trials in steps of full fine-tuning, whatever the machine's load."""

    def __init__(self, runner: Runner, cost: NetworkCost):
        self.runner, self.cost, self.spent, self.processor = runner, cost, 0.0, 0.0

    def run(self, candidate: Candidate, *, fold: int, stride: int, deadline: float) -> Trial:
        """See `trials.Runner.run`; the deadline is ignored."""
        begun = time.process_time()
        trial = self.runner.run(candidate, fold=fold, stride=stride)
        self.processor += time.process_time() - begun
        step = self.cost.relative_step(candidate.first)
        self.spent += trial.steps * step
        return dataclasses.replace(
            trial, compile_seconds=0.0, step_seconds=step, seconds=trial.steps * step
        )


def advised(
    bank: Bank, case: str, place: Mapping[str, int], task: tasks.TargetImages, collected: Evidence
) -> dict[str, Any]:
    """The advice for a share of the steps of the exhaustive search."""
    measured = trial_costs.measure(collected.job, collected.last.linear)
    runs = of(bank.rows, 'run', **place)
    exhaustive = sum(row['steps'] * measured.relative_step(row['first']) for row in runs)
    # The forward pass of the pretrained and of random weights is a third of a step for each batch.
    batches = len(task.labels) / task.experiment.batch_size
    passes = 2 * batches / (1 + trial_costs.BACKWARD)
    name = f'{case}-{place["per_class"]}-{place["seed"]}'
    runner = MeteredRunner(Runner(task, bank.path.parent / 'trials' / name), measured)
    considered, dropped = advice.consider([collected], task, FAMILIES)

    def cost(candidate: Candidate) -> TrialCost:
        return dataclasses.replace(
            trial_costs.predict(candidate, measured, task),
            compile_seconds=0.0,
            fixed_seconds=0.0,
            step_seconds=measured.relative_step(candidate.first),
        )

    search = HalvingSearch(
        runner=runner,
        folds=task.folds_used,
        entries=[Entry(candidate=candidate) for candidate in considered],
        cost=cost,
        deadline=SHARE * exhaustive - passes,
        clock=lambda: runner.spent,
    )
    predictions, choice = advice.search_and_choose(search, task)
    return {
        'name': choice.name,
        'gains': {name: [gain.mean, gain.error] for name, gain in choice.gains.items()},
        'within': list(choice.contenders),
        'dropped': [drop.name for drop in dropped],
        'rungs': [dataclasses.asdict(rung) for rung in search.rungs],
        'entries': [entry_numbers(entry) for entry in search.entries],
        'priors': {n: dataclasses.asdict(p) for n, p in rules.priors(considered, task).items()},
        'work': passes + runner.spent,
        'exhaustive_work': exhaustive,
        'processor_seconds': runner.processor,
        'answers': {name: numbers(one) for name, one in predictions.items()},
    }


def entry_numbers(entry: Entry) -> dict[str, Any]:
    """A candidate of a search, with its predictions at every length."""
    return {
        'name': entry.candidate.name,
        'stride': entry.stride,
        'dropped': entry.dropped,
        'trials': {
            stride: {
                'folds': sorted(trials),
                **numbers(joined([trial.predictions for trial in trials.values()])),
            }
            for stride, trials in entry.trials.items()
            if trials
        },
    }


def numbers(predictions: HeldOutPredictions) -> dict[str, Any]:
    """Correctness and score of each image."""
    return {
        'ids': predictions.ids.tolist(),
        'correct': predictions.correct.astype(int).tolist(),
        'merits': np.round(scores(predictions), 4).tolist(),
    }


def main() -> None:
    """Runs a case, or prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--data', type=pathlib.Path, default=pathlib.Path('../shared/data'))
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--case', action='append', choices=CASES, default=[])
    parser.add_argument('--per_class', type=int, action='append', default=[])
    parser.add_argument('--seed', type=int, action='append', default=[])
    parser.add_argument('--advise', action='store_true', help='after the exhaustive search')
    parser.add_argument('--table', action='store_true')
    args = parser.parse_args()
    if args.table:
        table(outcomes(args.out, args.seed))
        return
    for seed in args.seed or SEEDS:
        for case in args.case:
            name = f'{case}.advice.json' if args.advise else f'{case}.json'
            bank = Bank(args.out / name)
            for per_class in args.per_class or PER_CLASS:
                does = advise if args.advise else search
                does(bank, case, args.data, per_class, seed)


if __name__ == '__main__':
    main()
