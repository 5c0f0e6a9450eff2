"""Damaged files of weights are refused, or read as before, unless their format has no checksum.

Bytes are flipped, cut off, duplicated, zeroed and spliced. A longer form with more examples is
marked `slow`.
"""

import functools
import pathlib
import tempfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings

from tests.changed_bytes import changes
from tests.weights.test_torch_file import (  # noqa: F401  (a fixture)
    Tensor,
    _fake_torch,
    write_legacy,
    write_zip,
)
from tljax.types import InputError
from tljax.weights import files, verify

FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ENTRIES = {
    'conv1.weight': np.linspace(-1, 1, 96, dtype=np.float32).reshape(4, 6, 2, 2),
    'conv1.bias': np.arange(1, 5, dtype=np.float32),
    'bn1.num_batches_tracked': np.asarray([7], np.int64),
}
EDGE = 300  # bytes at both ends, where headers and tables are, with a half of the changes
WITH_SUMS = ('torch (zip)', 'npz', 'compressed npz')
WITHOUT_SUMS = ('safetensors', 'torch (legacy)')


def write(kind: str, path: pathlib.Path) -> None:
    """Writes the entries in a format."""
    match kind:
        case 'safetensors':
            safetensors.numpy.save_file(ENTRIES, path, metadata={'licence': 'MIT'})
        case 'npz':
            np.savez(path, **ENTRIES)
        case 'compressed npz':
            np.savez_compressed(path, **ENTRIES)
        case 'torch (zip)':
            write_zip(path, {name: Tensor(array) for name, array in ENTRIES.items()})
        case 'torch (legacy)':
            write_legacy(path, {name: Tensor(array) for name, array in ENTRIES.items()})


def written(kind: str, folder: pathlib.Path) -> pathlib.Path:
    """An intact file of a format."""
    path = folder / 'intact.npz'  # np.savez would add the suffix
    write(kind, path)
    return path


@functools.cache
def content(kind: str) -> bytes:
    """The bytes of a file of a format."""
    with tempfile.TemporaryDirectory() as folder:
        return written(kind, pathlib.Path(folder)).read_bytes()


def is_intact(entries: dict[str, np.ndarray]) -> bool:
    """Whether entries are those of the intact file."""
    return entries.keys() == ENTRIES.keys() and all(
        array.dtype == ENTRIES[name].dtype and np.array_equal(array, ENTRIES[name])
        for name, array in entries.items()
    )


def outcome(data: bytes, path: pathlib.Path) -> str:
    """`refused`, `identical` or `other`: what reading the bytes as a file gives."""
    path.write_bytes(data)
    try:
        entries = {name: np.array(array) for name, array in files.read(path).entries.items()}
    except InputError as error:
        message = str(error)
    else:
        return 'identical' if is_intact(entries) else 'other'
    assert str(path) in message
    assert '\n' not in message
    return 'refused'


def outcomes(kind: str, examples: int, path: pathlib.Path) -> set[str]:
    """The outcomes of random changes of a file of a format."""
    result = set()

    @settings(FIXED, max_examples=examples)
    @given(changes(content(kind), EDGE))
    def read(data):
        result.add(outcome(data, path))

    read()
    return result


EXAMPLES = pytest.mark.parametrize('examples', [120, pytest.param(2000, marks=pytest.mark.slow)])


@EXAMPLES
@pytest.mark.parametrize('kind', WITH_SUMS)
def test_damage_in_a_format_with_checksums_is_refused(kind, examples, tmp_path):
    assert outcomes(kind, examples, tmp_path / 'file') == {'refused', 'identical'}
    assert verify.CHECKED_FORMATS[files.read(written(kind, tmp_path)).format]


@EXAMPLES
@pytest.mark.parametrize('kind', WITHOUT_SUMS)
def test_damage_in_a_format_without_checksums_can_change_values(kind, examples, tmp_path):
    """Which is why `tljax weights` says that such values are not verified."""
    assert outcomes(kind, examples, tmp_path / 'file') == {'refused', 'identical', 'other'}
    assert files.read(written(kind, tmp_path)).format not in verify.CHECKED_FORMATS


@pytest.mark.parametrize('kind', WITH_SUMS)
def test_a_damaged_table_of_an_archive_hides_no_entry(kind, tmp_path):
    data = content(kind)
    for place in range(data.find(b'PK\1\2'), len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        assert outcome(bytes(changed), tmp_path / 'file') != 'other', place
