"""Sets that TensorFlow Datasets has prepared as array_record, read without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax.data import decode
from tljax.types import BadFiles, Examples, Findings, InputError

FORMAT = 'array_record'  # the one that gives any record without reading those before it


class TFDSError(InputError):
    """A prepared set that cannot be used; the message says where it was looked for."""


@dataclasses.dataclass(slots=True, kw_only=True)
class TFDS:
    """A prepared set by its name, as `oxford_iiit_pet` or `imagenet2012:5.1.0`.

    Splits are in TensorFlow Datasets' own words, such as `train` or `train[:80%]`. It is prepared
    once, by `tfds build NAME --file_format=array_record`, which wants the extra `tfds-build`.
    """

    name: str
    data_dir: str | None = None  # None for TensorFlow Datasets' own, ~/tensorflow_datasets
    train: str = 'train'
    val: str | None = None  # None to have it carved out of `train`
    test: str | None = 'test'  # None for none
    image_key: str = 'image'
    label_key: str = 'label'
    bad_files: BadFiles = BadFiles.ERROR

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` where they are asked for.

        Raises:
            TFDSError: the set is not prepared, or not in a form that can be read, or has no such
                splits or features.
        """
        builder = self._builder()
        class_names = self._class_names(builder)
        findings = Findings(policy=self.bad_files)
        result, first_id = {}, 0
        for split, words in (('train', self.train), ('val', self.val), ('test', self.test)):
            if words is not None:
                records = self._records(builder, words)
                result[split] = self._examples(builder, records, first_id, class_names, findings)
                first_id += len(records)
        _check_classes(result, class_names, self.name)
        return result

    def _builder(self) -> Any:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import constants, read_only_builder

        folder = pathlib.Path(self.data_dir).expanduser() if self.data_dir else None
        try:
            builder = read_only_builder.builder_from_files(self.name, data_dir=folder)
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            where = folder or pathlib.Path(constants.DATA_DIR)
            raise TFDSError(
                f'{self.name} is not prepared: looked for {where}/{self.name.partition(":")[0]}/'
                f'[config/]version, found {_found(where)}. To prepare it:\n'
                f"  pip install 'tljax[tfds-build]'\n"
                f'  tfds build {self.name} --data_dir={where} --file_format={FORMAT}'
            ) from error
        stored = getattr(builder.info.file_format, 'value', None)
        if stored != FORMAT:
            raise TFDSError(
                f'{self.name} is prepared in {builder.data_path} as {stored}, wanted {FORMAT}. '
                "To convert it:\n  pip install 'tljax[tfds-build]'\n"
                f'  tfds convert_format --dataset_version_dir={builder.data_path} '
                f'--out_file_format={FORMAT}'
            )
        return builder

    def _class_names(self, builder: Any) -> tuple[str, ...]:
        features = builder.info.features
        there = {key: type(feature).__name__ for key, feature in sorted(features.items())}
        wanted = {self.image_key: 'Image', self.label_key: 'ClassLabel'}
        if {key: there.get(key) for key in wanted} != wanted:
            raise TFDSError(
                f'{self.name} has the features {there}, wanted {wanted}; '
                'image_key and label_key name others'
            )
        label = features[self.label_key]
        return tuple(label.names or map(str, range(label.num_classes)))

    def _records(self, builder: Any, words: str) -> Any:
        import tensorflow_datasets as tfds

        skip = {self.image_key: tfds.decode.SkipDecoding()}  # the bytes as they are
        try:
            return builder.as_data_source(split=words, decoders=skip)
        except ValueError as error:
            there = {name: split.num_examples for name, split in builder.info.splits.items()}
            raise TFDSError(
                f'{self.name} has no split {words!r}, found {there}; '
                'train, val and test take words such as "train[:80%]"'
            ) from error

    def _examples(
        self,
        builder: Any,
        records: Any,
        first_id: int,
        class_names: tuple[str, ...],
        findings: Findings,
    ) -> Examples:
        info = pathlib.Path(builder.data_path) / 'dataset_info.json'
        version = f'{info} {info.stat().st_mtime_ns} {records.split}'
        encoded = [Record(records, i, self.image_key, version) for i in range(len(records))]
        labels = [records[i][self.label_key] for i in range(len(records))]
        return Examples(
            load=decode.loader(encoded),
            labels=np.asarray(labels, np.int32),
            ids=first_id + np.arange(len(records)),
            class_names=class_names,
            encoded=encoded,
            findings=findings,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An image that is one of the records of a prepared set."""

    records: Any
    index: int
    key: str
    version: str  # of the whole set

    def __str__(self) -> str:
        return f'{self.version.partition(" ")[0]} {self.records.split}, record {self.index}'

    def read(self) -> bytes:
        """The encoded image."""
        return self.records[self.index][self.key]

    def stamp(self) -> str:
        """The set, when it was prepared, and the index."""
        return f'{self.version} {self.index}'


def _found(folder: pathlib.Path) -> str:
    if not folder.is_dir():
        return 'no such folder'
    return str(sorted(str(p.parent.relative_to(folder)) for p in folder.rglob('features.json')))


def _check_classes(splits: Mapping[str, Examples], class_names: tuple[str, ...], name: str) -> None:
    problems = []
    seen = set(splits['train'].labels.tolist())
    for split, examples in splits.items():
        if not len(examples):
            problems.append(f'{split} is empty')
        if examples.labels.min(initial=0) < 0:
            problems.append(f'{split} has no labels: they are -1')
        only = sorted(set(examples.labels[examples.labels >= 0].tolist()) - seen)
        if only:
            problems.append(f'{split} has {[class_names[i] for i in only]}, train does not')
    if problems:
        raise TFDSError(f'{name}:\n  ' + '\n  '.join(problems))
