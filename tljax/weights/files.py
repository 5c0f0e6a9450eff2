"""Reads files of weights; their content decides the format."""

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
from tljax.weights import contents, download, options, parts, torch_file


class FileError(InputError):
    """A file of an unknown kind, or one that is damaged or unsafe."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """The content of a file.

    Attributes:
        entries: `{name: array}` with the file's own names; safetensors are read from the disk on
            access.
        metadata: texts (safetensors only).
        format: `safetensors`, `torch (zip)`, `torch (legacy)` or `npz`, and the number of parts.
        notes: a sentence on the chosen network and on every part that was left out.
        options: stored next to the tensors of the network, see `options.collect`.
    """

    entries: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    format: str
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: pathlib.Path, part: str | None = None) -> File:
    """The entries of the network in a file.

    `contents` chooses the network among nested dictionaries and removes the prefix of its names.

    Args:
        path: the file.
        part: the dotted path of the network; None for the one that its authors evaluate.

    Raises:
        FileError: the file is of an unknown kind, damaged or unsafe, or has no network.
    """
    try:
        content, metadata, kind = _content(path)
        chosen = contents.choose(content, part)
        torch = kind.startswith('torch')
        stated = options.collect(content) if torch else options.from_texts(metadata)
    except InputError as error:
        text = str(error).replace('\n', '\\n')  # in names that the file states
        raise FileError(text if str(path) in text else f'{path}: {text}') from error
    except Exception as error:  # a damaged file can raise nearly anything
        text = ' '.join(str(error).split()) or type(error).__name__
        named = str(path) in text
        raise FileError(text if named else f'{path}: not readable: {text:.300}') from error
    return File(
        entries=chosen.entries, metadata=metadata, format=kind, notes=chosen.notes, options=stated
    )


def _content(path: pathlib.Path) -> tuple[Any, Mapping[str, str], str]:
    """The content of a file, its metadata and its format."""
    if not path.is_file():  # a named pipe would wait for a writer
        raise FileError('it is no regular file')
    with path.open('rb') as file:
        start = file.read(512)
    if path.name.endswith(parts.INDEX):
        return _read_parts(path)
    if foreign := foreign_kind(path, start):
        raise FileError(f'it is {foreign}; wanted a safetensors, torch or npz file')
    # A safetensors file begins with the length of its header, which can be any bytes.
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


def _read_parts(index: pathlib.Path) -> tuple[Any, Mapping[str, str], str]:
    """The content of all files of an index, as of one file."""
    wanted = parts.files_of(index)
    entries, found, metadata, kinds = {}, {}, {}, set()
    for name in sorted(set(wanted.values())):
        content, texts, kind = _content(index.with_name(name))
        entries |= content
        found |= dict.fromkeys(content, name)
        metadata |= texts
        kinds.add(kind)
    parts.check(index, wanted, found)
    return entries, metadata, f'{min(kinds)} in {len(set(wanted.values()))} parts'


# The first bytes of files that are not weights and are often mistaken for them.
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
_MAPS = (*range(0x81, 0x90), 0xDE, 0xDF)  # the first byte of a dictionary in MessagePack


def foreign_kind(path: pathlib.Path, start: bytes) -> str | None:
    """The kind of a file that is not weights, by its first bytes; None if it may be weights."""
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
    """Views of the memory-mapped file, which are read on access.

    The safetensors library is used to validate the header only, because it returns copies.
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
    """Every array; arrays of Python objects are refused, because pickle would execute code."""
    with zipfile.ZipFile(path) as archive:
        torch_file.check_archive(archive, path)
        for entry in archive.infolist():
            _check_npy(archive, entry)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check_npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raises a FileError for an array that is larger or smaller than its entry.

    NumPy would reserve memory for a larger one. Of a smaller one it would not read the end, where
    the checksum is compared.
    """
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        size = file.tell() + math.prod(shape) * dtype.itemsize
    if size != entry.file_size and not dtype.hasobject:  # NumPy refuses objects
        raise FileError(
            f'{entry.filename} states the shape {shape}, and has {entry.file_size} bytes'
        )


def as_array(value: Any) -> np.ndarray:
    """A NumPy array from an array or a torch tensor."""
    if hasattr(value, 'detach'):
        value = value.detach().cpu()
        value = value.float() if 'bfloat16' in str(value.dtype) else value  # not in NumPy
    return np.asarray(value)


def size_bytes(entries: Mapping[str, np.ndarray]) -> int:
    """The bytes of all entries."""
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in entries.values())
