"""Labelled images for the evaluation of a network, with labels in the order of its logits."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from tljax.config.experiment import Experiment
from tljax.data import inputs, labelled, labelled_texts
from tljax.data.csv_cells import Columns
from tljax.metrics import class_names
from tljax.metrics.tasks import choice
from tljax.records import predictions
from tljax.training import jobs
from tljax.types import BadFiles, Examples, InputError, TextPreprocessing
from tljax.weights import published
from tljax.weights.network import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Labelled images whose labels are indices of a network's logits.

    Attributes:
        name: printed and recorded as the name of the data.
        split: the split of the data; None for data without splits.
        examples: decoded images.
        notes: a sentence for everything that a reader of the result should know.
        class_names: the names of the logits, all different.
        folder: the paths of the images are relative to it.
    """

    name: str
    split: str | None
    examples: Examples
    notes: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    folder: pathlib.Path | None = None

    @property
    def bad(self) -> dict[str, str]:
        """The reason for each skipped file; decoding may add further files."""
        return dict(self.examples.findings.bad) if self.examples.findings else {}


def read(
    loaded: Network,
    path: str,
    split: str | None,
    bad_files: BadFiles,
    recorded: dict[str, Any],
    columns: Columns = Columns(),  # noqa: B008  frozen
) -> Data:
    """Reads the images of a folder, a list or an array file.

    Args:
        loaded: the network.
        path: see `labelled.read`.
        split: see `labelled.read`.
        bad_files: see `labelled.read`.
        recorded: the splits that a run recorded; a note counts the images that it was trained on.
        columns: see `labelled.read`.

    Raises:
        InputError: there are no such images, or their classes are not the network's.
    """
    numbers = class_names.labels(loaded.class_names, loaded.model.num_classes)
    numbers = numbers if loaded.task.numbers else None
    if isinstance(loaded.preprocessing, TextPreprocessing):
        source = labelled_texts.read(path, split, bad_files, columns)
    else:
        source = labelled.read(path, split, bad_files, columns, numbers)
    examples, findings = source.examples, source.examples.findings
    names = examples.class_names if source.named else None
    notes = [f'{note}.' for note in (findings.notes if findings else ())]
    trained = _absolute(recorded.get('train', {}).get('files', ()))
    if count := sum(file in trained for file in _absolute(map(str, examples.encoded or ()))):
        read = loaded.preprocessing.inputs
        notes.append(f'{count} of these {read} are files that the network was trained on.')
    data = Data(
        name=path if source.split is None else f'{path} ({source.split})',
        split=source.split,
        examples=examples,
        notes=tuple(notes),
        folder=predictions.data_folder({'': examples}, path),
    )
    return _matched(loaded, data, names, source.count, 0)


def _absolute(names: Iterable[str]) -> set[pathlib.Path]:
    return {pathlib.Path(name).absolute() for name in names}


def of_run(
    loaded: Network, experiment: Experiment, recorded: dict[str, Any], split: str | None
) -> Data:
    """Reads a split of a run's own data, as its config defines it.

    A note says if the images differ from those that the run recorded.

    Args:
        loaded: the network.
        experiment: the experiment of the run.
        recorded: the splits that the run recorded.
        split: its name; None for `test`, or `val` if there is no test split.

    Raises:
        InputError: the data are missing, or their classes are not the network's.
    """
    splits, read = jobs.read_splits(experiment), loaded.preprocessing.inputs
    if split is None:
        split = 'test' if len(splits.get('test', ())) else 'val'
    examples = splits.get(split)
    if examples is None or not len(examples):
        raise InputError(f'--split={split}: the data of this run have no such {read}')
    data = Data(
        name=f'its own {split} split',
        split=split,
        examples=examples,
        notes=_differences(examples, recorded.get(split, {'ids': [], 'labels': []}), read),
        folder=predictions.data_folder(splits, getattr(experiment.data, 'path', None)),
    )
    names = examples.class_names
    return _matched(loaded, data, names, len(names), experiment.cache_gigabytes)


def _differences(examples: Examples, recorded: dict[str, Any], inputs: str) -> tuple[str, ...]:
    """A note if ids or labels differ from the recorded ones; `inputs` names the examples."""
    current = {
        'ids': examples.ids.tolist(),
        'labels': choice.of(examples).listed(examples.labels),
    }
    if all(recorded[name] == current[name] for name in current):
        return ()
    counts = f'{len(recorded["ids"])} then, {len(current["ids"])} now'
    return (f'These are not the {inputs} that the run had: {counts}, ids or labels differ.',)


def _matched(
    loaded: Network, data: Data, names: tuple[str, ...] | None, count: int, gigabytes: float
) -> Data:
    """Data with the network's labels and decoded images; ImageNet classes also match by id."""
    aliases, total = {}, loaded.model.num_classes
    if loaded.class_names == published.imagenet_classes():
        aliases = {key: index for index, key in enumerate(published.imagenet_ids())}
    match = class_names.match(loaded.class_names, names, count, total, aliases)
    labels, note = data.examples.labels, match.note
    if loaded.task.numbers:
        labels, note = match.reordered(labels, total), note.replace('classes', 'numbers')
    else:
        labels = match.renumbered(labels, total, several=loaded.task.multi_label)
    if names is not None and len(names) < total:
        names = None  # they name only some of the logits
    examples = dataclasses.replace(data.examples, labels=labels, task=loaded.task)
    return dataclasses.replace(
        data,
        examples=inputs.prepared({'': examples}, loaded.preprocessing, gigabytes)[''],
        class_names=class_names.labels(loaded.class_names or names, total),
        notes=(note, *data.notes),
    )
