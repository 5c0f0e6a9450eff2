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

from tljax import torch_file
from tljax.types import InputError


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
    """

    entries: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    format: str


def read(path: pathlib.Path) -> File:
    """A file's arrays by their own names.

    Wrappers such as `{'state_dict': ...}` are opened, and prefixes that all names carry, as torch's
    DataParallel and compile leave them, are cut off.

    Raises:
        FileError: the file is of no known kind, damaged, or refused as unsafe.
    """
    with path.open('rb') as file:
        start = file.read(16)
    try:
        # A safetensors file begins with the length of its header, whose bytes may be anything.
        if start[8:9] == b'{':
            return _read_safetensors(path)
        if start[:2] == b'PK' and _is_npz(path):
            return File(entries=unwrapped(_read_npz(path)), format='npz')
        if start[:2] == b'PK' or start[:1] == b'\x80':
            kind = 'zip' if start[:2] == b'PK' else 'legacy'
            return File(entries=unwrapped(torch_file.read(path)), format=f'torch ({kind})')
    except (ValueError, safetensors.SafetensorError, zipfile.BadZipFile) as error:
        named = str(path) in str(error)
        raise FileError(str(error) if named else f'{path}: {error}') from error
    raise FileError(
        f'{path}: neither a safetensors nor a torch nor an npz file; it starts with {start!r}'
    )


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


def _read_safetensors(path: pathlib.Path) -> File:
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
    return File(entries=unwrapped(entries), metadata=metadata, format='safetensors')


def _is_npz(path: pathlib.Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith('.npy') for name in names)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array; one of Python objects, whose reading would execute a pickle, is refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'state_dict_ema', 'model_ema')
PREFIXES = ('module.', '_orig_mod.', 'model.', 'backbone.', 'net.')


def unwrapped(content: Any) -> dict[str, np.ndarray]:
    """The arrays of a state dict, out of whatever wraps them.

    Raises:
        FileError: there is no dictionary of arrays by name.
    """
    while isinstance(content, Mapping):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    fine = isinstance(content, Mapping) and all(
        isinstance(name, str) and hasattr(value, 'shape') for name, value in content.items()
    )
    if not fine:
        raise FileError('it holds no dictionary of tensors by name')
    names, cut = list(content), ''
    while prefix := next((p for p in PREFIXES if _all_carry(names, cut + p)), ''):
        cut += prefix
    return {name.removeprefix(cut): content[name] for name in names}


def as_array(value: Any) -> np.ndarray:
    """An array out of whatever a state dict in memory holds, torch's tensors among it."""
    if hasattr(value, 'detach'):
        value = value.detach().cpu()
        value = value.float() if 'bfloat16' in str(value.dtype) else value  # which NumPy lacks
    return np.asarray(value)


def _all_carry(names: list[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def size_bytes(entries: Mapping[str, np.ndarray]) -> int:
    """The bytes of all entries."""
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in entries.values())
