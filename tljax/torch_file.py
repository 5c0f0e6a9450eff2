"""Reads torch's `.pth` files without torch, and without running what is in them.

A `.pth` is a pickle, and a pickle is a program. This reader resolves an allow-list of names to
inert stand-ins of its own and refuses every other by name, so nothing of the file is executed.
Both forms are read: the zip archive that torch writes since 1.6, and the stream before it.
"""

import collections
import dataclasses
import io
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from tljax.types import InputError

# torch/serialization.py, the first object of a file in the old form.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

DTYPES = {
    'FloatStorage': np.float32,
    'DoubleStorage': np.float64,
    'HalfStorage': np.float16,
    'BFloat16Storage': ml_dtypes.bfloat16,
    'LongStorage': np.int64,
    'IntStorage': np.int32,
    'ShortStorage': np.int16,
    'CharStorage': np.int8,
    'ByteStorage': np.uint8,
    'BoolStorage': np.bool_,
}


class UnsafeFileError(InputError):
    """A pickle that names something a file of weights has no need of."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Dtype:
    """Stands for a storage class, `torch.FloatStorage`."""

    name: str


@dataclasses.dataclass(slots=True)
class _Storage:
    """The values behind tensors; the old form fills them in after the pickle."""

    dtype: np.dtype
    numel: int
    values: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage, made an array once its values are there."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The values, copied out of the storage's bounds never."""
        values = self.storage.values
        assert values is not None
        wanted = self.offset + sum(
            (n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)
        )
        negative = min((self.offset, *self.shape, *self.strides)) < 0
        if negative or (0 not in self.shape and wanted >= values.size):
            raise UnsafeFileError('a tensor reaches beyond its storage')
        strides = [s * values.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides)


def _rebuild_tensor(storage, offset, size, stride, *_ignored) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_parameter(data, *_ignored) -> _Tensor:
    return data


class _Inert:
    """A function without attributes, so that a pickle's BUILD has nothing of it to change."""

    __slots__ = ()
    function: Callable[..., Any]

    def __init_subclass__(cls, function: Callable[..., Any]):
        cls.function = staticmethod(function)

    def __call__(self, *arguments: Any) -> Any:
        return type(self).function(*arguments)


class _RebuildTensor(_Inert, function=_rebuild_tensor):
    __slots__ = ()


class _RebuildParameter(_Inert, function=_rebuild_parameter):
    __slots__ = ()


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor'): _RebuildTensor(),
    ('torch._utils', '_rebuild_tensor_v2'): _RebuildTensor(),
    ('torch._utils', '_rebuild_parameter'): _RebuildParameter(),
    ('torch', 'Size'): tuple,
}


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BufferedIOBase, load_storage: Callable[[tuple[Any, ...]], _Storage]
    ):
        super().__init__(file, encoding='latin1')  # Python 2 wrote some of the old files
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ('torch', 'torch.cuda') and name in DTYPES:
            return _Dtype(name)
        raise UnsafeFileError(f'the file names {module}.{name}, which no file of weights needs')

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[1], _Dtype)):
            raise UnsafeFileError(f'the file names a storage of an unknown kind: {pid!r:.80}')
        return self._load_storage(pid)


def read(path: str | pathlib.Path) -> Any:
    """The object that `torch.save` wrote, with numpy arrays in the place of tensors.

    Args:
        path: a `.pth`, `.pt` or `.th` file in either form.

    Raises:
        UnsafeFileError: the pickle names anything outside the allow-list; nothing of it has run.
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


def _read_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (main,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
        folder = main.removesuffix('data.pkl')
        order = f'{folder}byteorder'
        if order in archive.namelist() and archive.read(order) != b'little':
            raise ValueError('its values are in big-endian order')
        storages: dict[str, _Storage] = {}

        def load_storage(pid: tuple[Any, ...]) -> _Storage:
            key, dtype = str(pid[2]), np.dtype(DTYPES[pid[1].name])
            if key not in storages:
                values = np.frombuffer(archive.read(f'{folder}data/{key}'), dtype)
                storages[key] = _Storage(dtype, values.size, values)
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(main)), load_storage).load()


def _read_legacy(path: pathlib.Path) -> Any:
    storages: dict[str, _Storage] = {}

    def load_storage(pid: tuple[Any, ...]) -> _Storage:
        _, kind, key, _, numel, *view = pid
        if any(part is not None for part in view):
            raise ValueError('a storage that is a view of another')
        dtype = np.dtype(DTYPES[kind.name])
        return storages.setdefault(str(key), _Storage(dtype, int(numel)))

    with path.open('rb') as file:
        if _Unpickler(file, load_storage).load() != LEGACY_MAGIC:
            raise ValueError('neither a zip archive nor a torch stream')
        for _ in range(2):  # the protocol's version and the writer's byte sizes
            _Unpickler(file, load_storage).load()
        content = _Unpickler(file, load_storage).load()
        for key in _Unpickler(file, load_storage).load():
            storage = storages[str(key)]
            numel = int(np.frombuffer(file.read(8), '<i8')[0])
            if numel != storage.numel:
                raise ValueError(f'storage {key} holds {numel} values, wanted {storage.numel}')
            raw = file.read(numel * storage.dtype.itemsize)
            storage.values = np.frombuffer(raw, storage.dtype, count=numel)
    return content


def _arrays(content: Any, done: dict[int, Any] | None = None) -> Any:
    """Arrays in the place of tensors; what a file shares stays shared."""
    done = {} if done is None else done
    if id(content) in done:
        return done[id(content)]
    result = content
    if isinstance(content, _Tensor):
        result = content.array()
    elif isinstance(content, dict):
        result = {key: _arrays(value, done) for key, value in content.items()}
    elif isinstance(content, (list, tuple)):
        result = [_arrays(value, done) for value in content]
    done[id(content)] = result
    return result
