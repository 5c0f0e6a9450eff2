"""Files of weights in every format, told by their content, as arrays by name."""

import dataclasses
import json
import math
import pathlib
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from tljax.types import InputError
from tljax.weights import contents, download, options, torch_file


class FileError(InputError):
    """A file that is of no known kind, damaged, or refused as unsafe."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """What a file holds.

    Attributes:
        entries: `{name: array}` under the file's own names; read from the disk when touched,
            where the format allows it.
        metadata: texts beside them (safetensors only).
        format: `safetensors`, `torch (zip)`, `torch (legacy)` or `npz`.
        notes: which of several networks was taken and what was left out, a sentence each.
        options: stored next to the tensors of the network, see `options.collect`.
    """

    entries: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    format: str
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: pathlib.Path, part: str | None = None) -> File:
    """The arrays of the network in a file, by their own names.

    Dictionaries around it are opened, and a prefix of its names is cut off: see `contents`.

    Args:
        path: the file.
        part: the dotted path of the network inside; None for the one its authors evaluate.

    Raises:
        FileError: the file is of no known kind, damaged, refused as unsafe, or holds no network.
    """
    try:
        content, metadata, kind = _content(path)
        chosen = contents.choose(content, part)
        torch = kind.startswith('torch')
        found = options.collect(content) if torch else options.from_texts(metadata)
    except (ValueError, InputError, safetensors.SafetensorError, zipfile.BadZipFile) as error:
        named = str(path) in str(error)
        raise FileError(str(error) if named else f'{path}: {error}') from error
    return File(
        entries=chosen.entries, metadata=metadata, format=kind, notes=chosen.notes, options=found
    )


def _content(path: pathlib.Path) -> tuple[Any, Mapping[str, str], str]:
    """What a file holds, the texts beside it, and its format."""
    with path.open('rb') as file:
        start = file.read(512)
    if foreign := foreign_kind(path, start):
        raise FileError(f'it is {foreign}; wanted a safetensors, torch or npz file')
    # A safetensors file begins with the length of its header, whose bytes may be anything.
    if start[8:9] == b'{':
        return *_read_safetensors(path), 'safetensors'
    if start[:2] == b'PK' and _is_npz(path):
        return _read_npz(path), {}, 'npz'
    if start[:2] == b'PK' or start[:1] == b'\x80':
        kind = 'zip' if start[:2] == b'PK' else 'legacy'
        return torch_file.read(path), {}, f'torch ({kind})'
    raise FileError(
        f'neither a safetensors nor a torch nor an npz file; it starts with {start[:16]!r}'
    )


# The first bytes of files that are taken for weights.
_BEGINNINGS = {
    b'\x89HDF\r\n\x1a\n': 'an HDF5 file (.h5, as Keras writes)',
    b'\x1f\x8b': 'a gzip archive: unpack it first',
    b'BZh': 'a bzip2 archive: unpack it first',
    b'\xfd7zXZ': 'an xz archive: unpack it first',
    b'7z\xbc\xaf': 'a 7z archive: unpack it first',
    b'GGUF': 'a GGUF file',
    b'\x93NUMPY': 'a single NumPy array (.npy)',
    b'%PDF': 'a PDF document',
}
_MAPS = (*range(0x81, 0x90), 0xDE, 0xDF)  # how MessagePack begins a dictionary


def foreign_kind(path: pathlib.Path, start: bytes) -> str | None:
    """What a file is that is none of weights, by its first bytes; None if it may be one."""
    if start[8:9] == b'{':
        return None
    for beginning, kind in _BEGINNINGS.items():
        if start.startswith(beginning):
            return kind
    if start[:2] == b'PK':
        return _foreign_zip(path)
    if start[257:262] == b'ustar':
        return 'a tar archive: unpack it first, or save a torch file of before 0.1.10 again'
    if start[4:8] == b'TFL3':
        return 'a TensorFlow Lite file'
    if start[:1] == b'\x08' and path.suffix == '.onnx':
        return 'an ONNX file: a compiled graph, whose weights are not read'
    if start[:1] and start[0] in _MAPS and (start[0] != 0x80):
        return 'a MessagePack file, as Flax writes'
    problem = download.refusal(path)
    return None if problem is None else problem.removeprefix('it is ')


def _foreign_zip(path: pathlib.Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return 'a zip archive that is cut short'
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith('/data.pkl') for name in names) or (
        names and all(name.endswith('.npy') for name in names)
    ):
        return None
    if any(name.endswith('.weights.h5') for name in names):
        return 'a Keras file (.keras)'
    more = ', ...' if len(names) > 4 else ''
    return f'a zip archive without weights; it holds {", ".join(names[:4])}{more}'


# safetensors' names of types; bfloat16 and 8-bit floats are not NumPy's own.
DTYPES = {
    'F64': np.float64,
    'F32': np.float32,
    'F16': np.float16,
    'BF16': ml_dtypes.bfloat16,
    'F8_E4M3': ml_dtypes.float8_e4m3fn,
    'F8_E5M2': ml_dtypes.float8_e5m2,
    'I64': np.int64,
    'I32': np.int32,
    'I16': np.int16,
    'I8': np.int8,
    'U8': np.uint8,
    'BOOL': np.bool_,
}


def _read_safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """Views of the mapped file: a value is read when it is touched, and copied never.

    The library opens the file first, which holds its header to the format; what it returns
    itself are copies.
    """
    with safetensors.safe_open(path, framework='numpy') as handle:
        metadata = handle.metadata() or {}
    mapped = np.memmap(path, np.uint8, 'r')
    (length,) = struct.unpack('<Q', mapped[:8].tobytes())
    header = json.loads(mapped[8 : 8 + length].tobytes())
    header.pop('__metadata__', None)
    values, entries = mapped[8 + length :], {}
    for name, entry in header.items():
        if entry['dtype'] not in DTYPES:
            raise FileError(f'{path}: {name} is of type {entry["dtype"]}, wanted {list(DTYPES)}')
        first, last = entry['data_offsets']
        raw = np.asarray(values[first:last])
        aligned = raw if raw.ctypes.data % 8 == 0 or not raw.size else raw.copy()
        entries[name] = aligned.view(DTYPES[entry['dtype']]).reshape(entry['shape'])
    return entries, metadata


def _is_npz(path: pathlib.Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith('.npy') for name in names)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array; one of Python objects, whose reading would execute a pickle, is refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def as_array(value: Any) -> np.ndarray:
    """An array out of whatever a state dict in memory holds, torch's tensors among it."""
    if hasattr(value, 'detach'):
        value = value.detach().cpu()
        value = value.float() if 'bfloat16' in str(value.dtype) else value  # which NumPy lacks
    return np.asarray(value)


def size_bytes(entries: Mapping[str, np.ndarray]) -> int:
    """The bytes of all entries."""
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in entries.values())
