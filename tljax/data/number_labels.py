"""Numbers as labels: columns of a list, or arrays; each problem is named with its place."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax.data import csv_cells, files, split_folders, subsets
from tljax.data.array_labels import NAMES, ArraysError
from tljax.data.csv_cells import Columns
from tljax.data.files import FolderError, printable
from tljax.metrics.tasks.values import Values
from tljax.types import BadFiles, Examples, Findings

SHOWN = 20  # problems in one message
Row = tuple[str, str, tuple[float, ...]]  # path, split or '', numbers


def rows(source: pathlib.Path, names: Sequence[str], columns: Columns) -> list[Row]:
    """The rows of a list whose labels are numbers.

    Args:
        source: CSV with a header, or JSON lines.
        names: the columns, or keys, with the numbers.
        columns: those of the path and the split.

    Raises:
        FolderError: the file is not a list, a column is missing, or a row is invalid.
    """
    try:
        text = source.read_text('utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f'{printable(source)}: not a readable list: {error}') from error
    read = _json_lines if source.suffix.lower() in ('.jsonl', '.ndjson') else _csv
    cells, problems = read(text, names, columns)
    result = []
    for number, (path, split, texts) in cells.items():
        numbers, wrong = _numbers(dict(zip(names, texts, strict=True)))
        path, split = csv_cells.stripped(path), csv_cells.clean(split)
        wrong += [] if path else ['the path is empty']
        if split and split not in split_folders.SPLITS:
            wrong.append(f'split is {split!r}, wanted one of {split_folders.SPLITS}')
        problems += [f'line {number}: {problem}' for problem in wrong]
        result.append((path, split, numbers))
    problems += _conflicts(result)
    if not result and not problems:
        problems = [f'no rows, wanted {columns.path},{",".join(names)} in each']
    if problems:
        more = [f'and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        lines = '\n  '.join([*problems[:SHOWN], *more])
        raise FolderError(f'{printable(source)}:\n  {lines}')
    return result


def _csv(
    text: str, names: Sequence[str], columns: Columns
) -> tuple[dict[int, tuple[str, str, list[str]]], list[str]]:
    header, table, problems = csv_cells.table(text)
    places = {name: csv_cells.column(header, name) for name in (columns.path, *names)}
    if missing := [name for name, place in places.items() if place is None]:
        return {}, [f'the first line is {tuple(header)}, wanted the columns {missing}, each once']
    split = csv_cells.column(header, columns.split)
    cells = {
        number: (
            row[places[columns.path]],  # type: ignore[index]
            '' if split is None else row[split],
            [row[places[name]] for name in names],  # type: ignore[index]
        )
        for number, row in table.items()
    }
    return cells, problems


def _json_lines(
    text: str, names: Sequence[str], columns: Columns
) -> tuple[dict[int, tuple[str, str, list[str]]], list[str]]:
    cells, problems = {}, []
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts = [csv_cells.text_of(row.get(name)) for name in names]
            path, split = str(row.get(columns.path) or ''), str(row.get(columns.split) or '')
        except (AttributeError, RecursionError, ValueError) as error:
            problems.append(f'line {number}: not a JSON object: {error}')
            continue
        cells[number] = path, split, texts
    return cells, problems


def _numbers(texts: Mapping[str, str]) -> tuple[tuple[float, ...], list[str]]:
    """The numbers of a row, and messages for cells that are not finite numbers."""
    numbers, problems = [], []
    for name, text in texts.items():
        try:
            value = float(csv_cells.clean(text))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            problems.append(f'{name} is {text!r}, wanted a number')
        numbers.append(value)
    return tuple(numbers), problems


def _conflicts(listed: Sequence[Row]) -> list[str]:
    """Messages for paths and splits that do not fit together."""
    paths, splits = [path for path, *_ in listed], {split for _, split, _ in listed}
    problems = [f'{path} is listed several times' for path in sorted(_repeated(paths))]
    if splits - {''} and '' in splits:
        problems.append(f'{sum(not split for _, split, _ in listed)} rows have no split')
    if splits - {''} and 'train' not in splits:
        problems.append(f'no row is in train, found {sorted(splits)}')
    return problems


def _repeated(paths: Sequence[str]) -> set[str]:
    known: set[str] = set()
    return {path for path in paths if path in known or known.add(path)}


def by_split(listed: Sequence[Row], fraction: float, seed: int) -> dict[str, list[Row]]:
    """The rows of each split; a test split is drawn if the list has none but `train`.

    Raises:
        FolderError: the test split would be empty.
    """
    splits = {name: [row for row in listed if row[1] == name] for name in split_folders.SPLITS}
    splits = {name: part for name, part in splits.items() if part}
    if splits.keys() - {'train'}:
        return splits
    numbers = np.array([row[2] for row in listed])
    train, test = subsets.carve(Values().strata(numbers), fraction, seed)
    if not len(test):
        raise FolderError(f'{len(listed)} files are too few for a test split of {fraction}')
    return {'train': [listed[i] for i in train], 'test': [listed[i] for i in test]}


def examples(
    listed: Mapping[str, Sequence[tuple[pathlib.Path, tuple[float, ...]]]],
    names: Sequence[str],
    findings: Findings,
    task: Values,
) -> dict[str, Examples]:
    """The splits of a list, without bad files.

    Args:
        listed: the files of each split with their numbers.
        names: of the numbers.
        findings: the results of checking all files.
        task: the kind of labels.

    Raises:
        FolderError: a file is bad and the policy is `error`, or `train` has no good image.
    """
    numbered = {
        split: [(path, place) for place, (path, _) in enumerate(part)]
        for split, part in listed.items()
    }
    splits = files.examples(numbered, (), findings)
    if 'train' in splits and not len(splits['train']):
        raise FolderError(f'train has no good image\n{files.bad_files_message(findings.bad)}')
    return {
        name: labelled(split, [numbers for _, numbers in listed[name]], names, task)
        for name, split in splits.items()
    }


def labelled(
    split: Examples, numbers: Sequence[Sequence[float]], names: Sequence[str], task: Values
) -> Examples:
    """Examples with numbers in place of labels that are indices of the numbers' rows."""
    values = np.asarray(numbers, np.float32).reshape(-1, len(names))[split.labels]
    return dataclasses.replace(split, labels=values, class_names=tuple(names), task=task)


def checked(paths: Sequence[pathlib.Path], policy: BadFiles, least_px: int) -> Findings:
    """The findings on files, all of which are checked."""
    findings = Findings(policy=policy)
    findings.bad = files.check_files(paths, least_px, findings.deep)
    return findings


def normalised(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arrays whose labels are numbers: labels become [N, K] float64, names `class_names`.

    Args:
        content: arrays by name, as in `Arrays`.
        where: their source, for messages.

    Raises:
        ArraysError: labels are no finite numbers, or shapes do not fit.
    """
    content = dict(content)
    widths = set()
    for name in (name for name in NAMES if name in content):
        values = np.asarray(content[name])
        if values.ndim not in (1, 2) or values.dtype.kind not in 'iuf' or not values.size:
            raise ArraysError(
                f'{where}: {name} is {values.dtype} {values.shape}, wanted numbers [N] or [N, K]'
            )
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
        if bad.size:
            raise ArraysError(
                f'{where}: {name} has {bad.size} values that are not finite, the first at {bad[0]}'
            )
        content[name] = values.reshape(len(values), -1).astype(np.float64)
        widths.add(content[name].shape[1])
    if len(widths) > 1:
        raise ArraysError(f'{where}: labels have {sorted(widths)} numbers, wanted the same number')
    names = [csv_cells.clean(str(name)) for name in np.asarray(content.get('class_names', ()))]
    count = widths.pop() if widths else 0
    names = names or (['value'] if count == 1 else [f'value {i + 1}' for i in range(count)])
    if widths or len(set(names)) != count:
        raise ArraysError(f'{where}: class_names is {names}, wanted {count} different names')
    return {**content, 'class_names': np.asarray(names, str)}
