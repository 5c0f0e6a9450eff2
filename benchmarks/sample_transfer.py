"""What samples of a source are worth to a target of few labels, and what a step with them costs.

    python -m benchmarks.sample_transfer --data=../shared/data --out=sample_transfer.json
    python -m benchmarks.sample_transfer --data=../shared/data --out=sample_transfer.json --table
    python -m benchmarks.sample_transfer --cost

Everything of a ResNet-20 trains on 32 target rows a step, with 32 source rows beside them and
without, on the same target batches: from random weights at 8 px (digits) or 16 px, 100 steps; from
those of the embedded letters' network at 16 px, 60 steps; from weights of CIFAR-10 at 32 px, 40
steps of 16 target rows. Each row, of a pair, a number of labels and a seed, is written as it is
there, so that the command goes on where it was stopped; every seed takes other labelled images, two
fifths of them for validation. The guard's short runs are as long as the run, or 100 steps; what
they say is written beside what becomes of the source when it is kept in any case. Eastern Arabic
digits are drawn in DejaVu Sans, which comes with matplotlib.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import pathlib
import statistics
import string
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import scipy.stats

from tljax import devices
from tljax.augment import Affine, HorizontalFlip
from tljax.config.experiment import Experiment
from tljax.data import subsets
from tljax.data.digits import Digits
from tljax.data.folder import Folder
from tljax.data.glyphs import Glyphs
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.records import writers
from tljax.sample_transfer import Guard, LabelledSource
from tljax.strategies.optimizers import SGD
from tljax.strategies.schedules import Cosine
from tljax.training import compiled_step, jobs, states, step_cost
from tljax.training.batches import train_batches
from tljax.training.compiled_step import CompiledStep
from tljax.training.evaluation import Evaluation
from tljax.training.jobs import Job
from tljax.training.source_guard import guard
from tljax.types import DataSource, Examples, Phase, Preprocessing, Rule

ROWS = 32


@dataclasses.dataclass(slots=True, kw_only=True)
class ForSteps:
    """Everything, for so many steps."""

    steps: int
    pretrained: bool

    def phases(self, params: Any) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=(Rule(pattern='**'),), steps=self.steps),)


@dataclasses.dataclass(slots=True, kw_only=True)
class EasternArabic:
    """The digits of another script, under our names: its 5 looks like a 0, its 6 like a 7."""

    train_per_class: int

    def splits(self) -> Mapping[str, Examples]:
        """See `types.DataSource`."""
        import matplotlib  # an extra, which only this source needs

        font = pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
        results = Glyphs(
            characters='٠١٢٣٤٥٦٧٨٩', font=str(font), train_per_class=self.train_per_class
        ).splits()
        names = tuple(string.digits)
        return {n: dataclasses.replace(split, class_names=names) for n, split in results.items()}


@dataclasses.dataclass(slots=True, kw_only=True)
class HalfOf:
    """One half of the training images of every class, so that two sets share none."""

    data: DataSource
    second: bool

    def splits(self) -> Mapping[str, Examples]:
        """See `types.DataSource`."""
        results = dict(self.data.splits())
        halves = subsets.carve(results['train'].labels, 0.5, 0)
        return results | {'train': results['train'].take(halves[self.second])}


def small(side_px: int) -> Preprocessing:
    """Of the letters' network, but for its size."""
    return Preprocessing(size_px=side_px, resize_px=side_px, mean=(0.3,) * 3, std=(0.35,) * 3)


def targets(data: pathlib.Path) -> dict[str, tuple[dict[str, Any], dict[str, LabelledSource]]]:
    """By target: fields of the experiment, and sources by name."""
    photos = Folder(path=str(data / 'cifar10_jpg'))
    clothing = Folder(path=str(data / 'clothing10'))
    halves = [HalfOf(data=photos, second=second) for second in (False, True)]
    prints = Glyphs(train_per_class=100)
    few: dict[str, Any] = {'guard': Guard.WARN}
    bent = Affine(rotate_degrees=10, shear_degrees=10, scale_factor=1.1, shift_share=0.06)
    handwritten = {'data': Digits(), 'augmentations': (bent,)}
    random: dict[str, Any] = {'backbone': ResNetSmall(depth=20)}
    random['strategy'] = ForSteps(steps=100, pretrained=False)
    letters: dict[str, Any] = {'backbone': ResNetSmall(depth=20, weights='embedded:glyphs')}
    letters['strategy'] = ForSteps(steps=60, pretrained=True)
    printed = LabelledSource(data=prints, share_head=True, **few)
    arabic = LabelledSource(data=EasternArabic(train_per_class=100), share_head=True, **few)
    more = dataclasses.replace(arabic, fraction=0.75)
    same = LabelledSource(data=halves[1], share_head=True, **few)
    weights = str(data / 'weights' / 'cifar10_resnet20-12fca82f.th')
    objects: dict[str, Any] = {'backbone': ResNetSmall(depth=20, weights=weights)}
    objects['strategy'] = ForSteps(steps=40, pretrained=True)
    # Of CIFAR-10's test images, which the weights were not trained on: 60 a class, 400 for testing.
    unseen = Folder(path=str(data / 'cifar10_jpg' / 'test'), test_fraction=0.4)
    far = LabelledSource(data=Glyphs(train_per_class=100, size_px=32), fraction=0.75, **few)
    return {
        'digits': (
            {**handwritten, **random, 'preprocessing': small(8)},
            {'printed digits': printed, 'CIFAR-10': LabelledSource(data=photos, **few)},
        ),
        'digits, from letters': (
            {**handwritten, **letters, 'preprocessing': small(16)},
            {
                'printed digits': printed,
                'CIFAR-10': LabelledSource(data=photos, **few),
                'Eastern Arabic digits': arabic,
                'Eastern Arabic digits, three to one': more,
            },
        ),
        'CIFAR-10': (
            {**random, 'data': halves[0], 'augmentations': (HorizontalFlip(),)}
            | {'preprocessing': small(16)},
            {'its other images': same, 'clothing': LabelledSource(data=clothing, **few)},
        ),
        'CIFAR-10, from its weights': (
            {**objects, 'data': unseen, 'augmentations': (HorizontalFlip(),), 'batch_size': 16},
            {'printed digits, three to one': far},
        ),
    }


def experiment(fields: dict[str, Any], labels: int, seed: int) -> Experiment:
    """One without a source."""
    return Experiment(
        optimizer=SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=Cosine(),
        per_class=labels,
        validation_fraction=0.4,
        seed=seed,
        **{'batch_size': ROWS, **fields},
    )


@contextlib.contextmanager
def programs() -> Iterator[None]:
    """One compiled step for all seeds and numbers of labels, which change arrays alone."""
    compile_train_step, held = compiled_step.compile_train_step, {}

    def once(job: Job, phase: Any, *options: Any) -> jax.stages.Compiled:
        source = job.samples and (
            len(job.samples.examples),
            bool(job.samples.head),
            job.samples.rows,
        )
        fields = [
            getattr(job.experiment, n)
            for n in ('strategy', 'augmentations', 'preprocessing', 'batch_size')
        ]
        name = (job.model.num_classes, str(fields), source, options[-1])
        if name not in held:
            held[name] = compile_train_step(job, phase, *options)
        return held[name]

    compiled_step.compile_train_step = once
    try:
        yield
    finally:
        compiled_step.compile_train_step = compile_train_step


def accuracy(job: Job) -> float:
    """On the test images, after training."""
    (phase,) = job.phases
    train_step, state = CompiledStep(job, phase, 1), jobs.first_state(job)
    for batch in train_batches(job, phase.length):
        state, _ = train_step(state, devices.put_batch(job.mesh, batch))
    results = evaluator(job)(states.evaluated(state), state.stats, job.splits['test'])
    return results['accuracy']


@functools.cache
def _evaluator(name: str, job: 'Held') -> Any:
    inner = job.job
    return Evaluation.of(inner.experiment, inner.model, inner.mesh, inner.experiment.test_views)


class Held:
    """A job that is equal to any other: the program of evaluation is that of its network."""

    def __init__(self, job: Job):
        self.job = job

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held)

    def __hash__(self) -> int:
        return 0


def evaluator(job: Job) -> Any:
    """How a network is evaluated, compiled once for each target."""
    return _evaluator(
        str((job.splits['test'].class_names, job.experiment.preprocessing)), Held(job)
    )


def measure(
    data: pathlib.Path, out: pathlib.Path, pairs: list[str], labels: list[int], seeds: list[int]
) -> None:
    """Fills in the rows that are missing; of all pairs, or of those named `target/source`."""
    rows = json.loads(out.read_text()) if out.exists() else []
    done = {(row['target'], row['source'], row['labels'], row['seed']) for row in rows}
    wanted = [(seed, count) for seed in seeds for count in labels]
    for target, (fields, known) in targets(data).items():
        sources = {n: one for n, one in known.items() if not pairs or f'{target}/{n}' in pairs}
        for seed, count in wanted:
            missing = [n for n in sources if (target, n, count, seed) not in done]
            if not missing:
                continue
            most = min(np.bincount(fields['data'].splits()['train'].labels))
            plain = experiment(fields, min(count, int(most)), seed)
            without = accuracy(jobs.setup(plain))
            for name in missing:
                began = time.perf_counter()
                job = jobs.setup(dataclasses.replace(plain, samples=sources[name]))
                assert job.samples is not None
                verdict = guard.compare(job, job.samples)
                results = {'target': target, 'source': name, 'labels': count, 'seed': seed}
                results |= {'taken': plain.per_class, 'with': accuracy(job), 'without': without}
                results |= {'trial': verdict.record(), 'seconds': time.perf_counter() - began}
                rows.append(results)
                writers.write_json(out, rows)
                print(json.dumps(results), flush=True)


def table(rows: list[dict[str, Any]]) -> None:
    """Prints means over seeds, in percent, ± half of a 95 % interval of the paired difference."""
    names = ('target', 'source', 'labels a class', 'without', 'with', 'difference')
    print('| ' + ' | '.join((*names, 'guard says', 'with guard')) + ' |')
    print('| --- ' * (len(names) + 2) + '|')
    keys = dict.fromkeys((row['target'], row['source'], row['labels']) for row in rows)
    for target, source, labels in sorted(keys):
        chosen = [
            r for r in rows if (r['target'], r['source'], r['labels']) == (target, source, labels)
        ]
        hurts = [row['trial']['says'] == 'hurts' for row in chosen]
        kept = [r['without'] if hurt else r['with'] for r, hurt in zip(chosen, hurts, strict=True)]
        said = [row['trial']['says'] for row in chosen]
        guard_says = ', '.join(
            f'{said.count(s)} {s}' for s in ('helps', 'unclear', 'hurts') if s in said
        )
        columns = [[100 * row[name] for row in chosen] for name in ('without', 'with')]
        paired = [b - a for a, b in zip(*columns, strict=True)]
        means = [f'{statistics.mean(column):.1f}' for column in columns]
        print(
            f'| {target} | {source} | {chosen[0]["taken"]} | {means[0]} | {means[1]} | '
            f'{with_half(paired)} | {guard_says} | {100 * statistics.mean(kept):.1f} |'
        )


def with_half(values: list[float]) -> str:
    """`+3.1 ± 1.2`, by Student's t."""
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return f'{mean:+.1f}'
    error = statistics.stdev(values) / math.sqrt(count)
    return f'{mean:+.1f} ± {scipy.stats.t.ppf(0.975, count - 1) * error:.1f}'


def cost(repeats: int) -> None:
    """Prints the seconds of a step of 32 + 32 rows, of one of 64 and of one of 32, in turns."""
    fields, _ = targets(pathlib.Path())['digits, from letters']
    whole = ForSteps(steps=repeats + 1, pretrained=True)  # so that the source does not end before
    plain = experiment(fields | {'augmentations': (), 'strategy': whole}, 20, 0)
    double = dataclasses.replace(plain, batch_size=2 * ROWS)
    source = LabelledSource(data=Glyphs(), guard=Guard.OFF)
    experiments = {
        '32 + 32': dataclasses.replace(plain, samples=source),
        '64': double,
        '32': plain,
    }
    steps = []
    for job in map(jobs.setup, experiments.values()):
        (phase,) = job.phases
        compiled = compiled_step.compile_train_step(
            job, phase, with_samples=job.samples is not None
        )
        steps.append(
            (
                job,
                compiled,
                jobs.train_key(job),
                jobs.first_state(job),
                step_cost.of(job, phase, compiled),
            )
        )
    taken = in_turns(steps, repeats)
    for name, (*_, own), seconds in zip(experiments, steps, taken, strict=True):
        print(
            f'{name:>8} rows: {1e3 * statistics.median(seconds):.0f} ms, {own.flops:.3g} operations'
        )
    with_samples, together, alone = map(np.array, taken)
    for name, other in (('one step of 64', together), ('two steps of 32', 2 * alone)):
        low, middle, high = np.quantile(with_samples / other, (0.25, 0.5, 0.75))
        print(f'with a source over {name}: {middle:.2f} (quartiles {low:.2f} and {high:.2f})')


def in_turns(steps: list[tuple[Any, ...]], repeats: int) -> list[list[float]]:
    """The seconds of each step, after a warm-up; batches are there before, made by no thread."""
    taken: list[list[float]] = [[] for _ in steps]
    states_of = [step[3] for step in steps]
    batches = [list(train_batches(job, repeats + 1)) for job, *_ in steps]
    for turn in range(repeats + 1):
        for index, (job, compiled, key, _, _) in enumerate(steps):
            batch = jax.block_until_ready(devices.put_batch(job.mesh, batches[index][turn]))
            began = time.perf_counter()
            states_of[index], _ = jax.block_until_ready(compiled(key, states_of[index], batch))
            if turn:
                taken[index].append(time.perf_counter() - began)
    return taken


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--data', type=pathlib.Path, help='the folder of the real sets')
    parser.add_argument('--out', type=pathlib.Path, help='a JSON file of rows, which may be there')
    parser.add_argument('--pairs', nargs='+', default=[], help='TARGET/SOURCE, as in the table')
    parser.add_argument('--labels', type=int, nargs='+', default=[5, 20, 100])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--table', action='store_true', help='prints what is in the file, no more')
    parser.add_argument('--cost', action='store_true', help='times a step with a source')
    parser.add_argument('--repeats', type=int, default=20, help='steps that are timed')
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments.repeats)
        return
    if arguments.out is None or arguments.data is None:
        parser.error('--data and --out are needed, or --cost')
    if not arguments.table:
        with programs():
            measure(
                arguments.data,
                arguments.out,
                arguments.pairs,
                arguments.labels,
                arguments.seeds,
            )
    table(json.loads(arguments.out.read_text()))


if __name__ == '__main__':
    main()
