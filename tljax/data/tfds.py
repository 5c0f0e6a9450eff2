"""Data sets prepared by TensorFlow Datasets as array_record, read without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax.data import decode
from tljax.types import BadFiles, Examples, Findings, InputError

FORMAT = 'array_record'  # the only format with random access to records


class TFDSError(InputError):
    """A prepared data set that cannot be used; the message has the folder that was searched."""


@dataclasses.dataclass(slots=True, kw_only=True)
class TFDS:
    """A prepared data set by name, e.g. `oxford_iiit_pet` or `imagenet2012:5.1.0`.

    Splits use the syntax of TensorFlow Datasets, e.g. `train` or `train[:80%]`. Prepare a data set
    once with `tfds build NAME --file_format=array_record`, which needs the extra `tfds-build`.

    Attributes:
        name: of the data set, with or without a version.
        data_dir: the folder of data sets; none for ~/tensorflow_datasets, the default of TFDS.
        train: the training split.
        val: the validation split; none to take it from `train`.
        test: the test split; none for no test split.
        image_key: the feature with the image.
        label_key: the feature with the label.
        bad_files: whether images that cannot be read are an error, or are left out.
    """

    name: str
    data_dir: str | None = None
    train: str = 'train'
    val: str | None = None
    test: str | None = 'test'
    image_key: str = 'image'
    label_key: str = 'label'
    bad_files: BadFiles = BadFiles.ERROR

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if they are configured.

        Raises:
            TFDSError: the data set is not prepared, has another format, or lacks the splits or
                features.
        """
        builder = self._builder()
        class_names = self._class_names(builder)
        findings = Findings(policy=self.bad_files)
        result, first_id = {}, 0
        for split, name in (('train', self.train), ('val', self.val), ('test', self.test)):
            if name is not None:
                records = self._records(builder, name)
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
                f'{self.name} is not prepared: wanted {where}/{self.name.partition(":")[0]}/'
                f'[config/]version, found {_prepared_sets(where)}. To prepare it:\n'
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
        kinds = {key: type(feature).__name__ for key, feature in sorted(features.items())}
        wanted = {self.image_key: 'Image', self.label_key: 'ClassLabel'}
        if {key: kinds.get(key) for key in wanted} != wanted:
            raise TFDSError(
                f'{self.name} has the features {kinds}, wanted {wanted}; '
                'set other keys with image_key and label_key'
            )
        label = features[self.label_key]
        return tuple(label.names or map(str, range(label.num_classes)))

    def _records(self, builder: Any, split: str) -> Any:
        import tensorflow_datasets as tfds

        skip = {self.image_key: tfds.decode.SkipDecoding()}  # returns the encoded bytes
        try:
            return builder.as_data_source(split=split, decoders=skip)
        except ValueError as error:
            sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
            raise TFDSError(
                f'{self.name} has no split {split!r}, found {sizes}; '
                'train, val and test take splits such as "train[:80%]"'
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
    """An image in a record of a prepared data set."""

    records: Any
    index: int
    key: str
    version: str  # of the data set

    def __str__(self) -> str:
        return f'{self.version.partition(" ")[0]} {self.records.split}, record {self.index}'

    def read(self) -> bytes:
        """The bytes of the encoded image."""
        return self.records[self.index][self.key]

    def stamp(self) -> str:
        """The data set, the time of its preparation, and the index."""
        return f'{self.version} {self.index}'


def _prepared_sets(folder: pathlib.Path) -> str:
    if not folder.is_dir():
        return 'no such folder'
    return str(sorted(str(p.parent.relative_to(folder)) for p in folder.rglob('features.json')))


def _check_classes(splits: Mapping[str, Examples], class_names: tuple[str, ...], name: str) -> None:
    """Raises an error for empty splits, missing labels, and classes that `train` lacks."""
    problems = []
    trained = set(splits['train'].labels.tolist())
    for split, examples in splits.items():
        if not len(examples):
            problems.append(f'{split} is empty')
        if examples.labels.min(initial=0) < 0:
            problems.append(f'{split} has no labels: its labels are -1')
        missing = sorted(set(examples.labels[examples.labels >= 0].tolist()) - trained)
        if missing:
            names = [class_names[i] for i in missing]
            problems.append(f'{split} has the classes {names}, train does not')
    if problems:
        raise TFDSError(f'{name}:\n  ' + '\n  '.join(problems))
