"""Reads torch's `.pth` files without torch, and without executing them.

A `.pth` is a pickle, and a pickle is a program: see `torch_pickle`. Both formats are read: the zip
archive that torch writes since release 1.6, and the older stream.
"""

import io
import pathlib
import zipfile
from typing import Any

import numpy as np

from tljax.weights.torch_pickle import DTYPES, Storage, Tensor, UnsafeFileError, load

# torch/serialization.py, the first object of a file in the old form.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read(path: str | pathlib.Path) -> Any:
    """The object that `torch.save` wrote, with NumPy arrays instead of tensors.

    Args:
        path: a `.pth`, `.pt` or `.th` file in either format.

    Raises:
        UnsafeFileError: the pickle names something outside the allow-list; nothing was executed.
        ValueError: the file is damaged or of another kind.
    """
    path = pathlib.Path(path)
    try:
        content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return _arrays(content)
    except UnsafeFileError as error:
        raise UnsafeFileError(f'{path}: refused: {error}') from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f'{path}: not a readable torch file: {error!r:.200}') from error


MAX_EXPANSION = 100  # torch does not compress, and other archives of weights shrink far less


def check_archive(archive: zipfile.ZipFile, path: pathlib.Path) -> None:
    """Checks the table of an archive.

    Raises:
        UnsafeFileError: it unpacks to far more than its own size, or its table may hide entries: a
            damaged length of a comment covers the entries that follow.
    """
    if commented := [entry.filename for entry in archive.infolist() if entry.comment]:
        raise UnsafeFileError(f'the table of its archive is damaged at {commented[0]!r:.80}')
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_EXPANSION * path.stat().st_size:
        raise UnsafeFileError(f'its archive unpacks to {unpacked} bytes')


def _read_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError(f'its archive has {len(pickles)} entries data.pkl, wanted 1')
        main = pickles[0]
        folder = main.removesuffix('data.pkl')
        order = f'{folder}byteorder'
        if order in archive.namelist() and archive.read(order) != b'little':
            raise ValueError('its values are in big-endian order')
        storages: dict[str, Storage] = {}

        def load_storage(pid: tuple[Any, ...]) -> Storage:
            key, dtype = str(pid[2]), np.dtype(DTYPES[pid[1].name])
            if key not in storages:
                values = np.frombuffer(archive.read(f'{folder}data/{key}'), dtype)
                storages[key] = Storage(dtype, values.size, values)
            return storages[key]

        return load(io.BytesIO(archive.read(main)), load_storage)


def _read_legacy(path: pathlib.Path) -> Any:
    storages: dict[str, Storage] = {}

    def load_storage(pid: tuple[Any, ...]) -> Storage:
        _, kind, key, _, numel, *view = pid
        if any(part is not None for part in view):
            raise ValueError('a storage that is a view of another')
        dtype = np.dtype(DTYPES[kind.name])
        return storages.setdefault(str(key), Storage(dtype, int(numel)))

    with path.open('rb') as file:
        if load(file, load_storage) != LEGACY_MAGIC:
            raise ValueError('neither a zip archive nor a torch stream')
        for _ in range(2):  # the protocol's version and the writer's byte sizes
            load(file, load_storage)
        content = load(file, load_storage)
        for key in load(file, load_storage):
            storage = storages[str(key)]
            numel = int(np.frombuffer(file.read(8), '<i8')[0])
            if numel != storage.numel:
                raise ValueError(f'storage {key} holds {numel} values, wanted {storage.numel}')
            if not 0 <= numel * storage.dtype.itemsize <= path.stat().st_size - file.tell():
                raise ValueError(f'storage {key} reaches beyond the end of the file')
            raw = file.read(numel * storage.dtype.itemsize)
            storage.values = np.frombuffer(raw, storage.dtype, count=numel)
    return content


def _arrays(content: Any, done: dict[int, Any] | None = None) -> Any:
    """The content with arrays instead of tensors; shared tensors stay shared."""
    done = {} if done is None else done
    if id(content) in done:
        return done[id(content)]
    result = content
    if isinstance(content, Tensor):
        result = content.array()
    elif isinstance(content, dict):
        result = {key: _arrays(value, done) for key, value in content.items()}
    elif isinstance(content, (list, tuple)):
        result = [_arrays(value, done) for value in content]
    done[id(content)] = result
    return result
