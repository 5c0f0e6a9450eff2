"""Reads torch's `.pth` files without torch, and without running what is in them.

A `.pth` is a pickle, and a pickle is a program. This reader imports nothing that a file names.
Tensors and dictionaries are rebuilt by functions of its own; any other class (`torch.device`, the
options of a training) becomes a stand-in without content; functions of Python itself are refused.
Both forms are read: the zip archive that torch writes since 1.6, and the stream before it.
"""

import collections
import dataclasses
import io
import os
import pathlib
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable
from typing import IO, Any

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


class StandIn:
    """Takes the place of an object whose class is unknown here.

    Of what a pickle gives it, it keeps the plain fields, as those of an `argparse.Namespace` or of
    a kind of dictionary, and ignores all else. Each class that a file names gets a subclass, whose
    `name` says what it stands for.
    """

    __slots__ = ('fields',)
    name = ''
    fields: dict[str, Any]

    def __new__(cls, *_arguments, **_named):
        found = super().__new__(cls)
        found.fields = {}
        return found

    def __init__(self, *_arguments, **_named):
        pass

    def _ignore(*_arguments, **_named) -> None:
        return None

    # BUILD and SETITEM(S) may call these on the class as well, with other arguments.
    def __setstate__(*arguments: Any) -> None:
        for state in arguments[1:]:
            if isinstance(arguments[0], StandIn) and type(state) is dict:
                arguments[0].fields.update((k, v) for k, v in state.items() if isinstance(k, str))

    def __setitem__(*arguments: Any) -> None:
        if len(arguments) == 3 and isinstance(arguments[0], StandIn):
            StandIn.__setstate__(arguments[0], dict([arguments[1:]]))

    # What the opcodes REDUCE, APPEND(S) and ADDITEMS call.
    __call__ = append = extend = add = _ignore

    def __repr__(self) -> str:
        return f'<{self.name}>'


MAX_UNKNOWN_NAMES = 10_000  # a class is made for each

# Data types of Python's own library that stand beside weights; all else of the library is refused.
_HARMLESS = {
    '_codecs': {'encode'},  # how protocol 2 writes bytes
    'argparse': {'Namespace'},
    'collections': {'Counter', 'defaultdict', 'deque'},
    'datetime': {'date', 'datetime', 'time', 'timedelta', 'timezone'},
    'decimal': {'Decimal'},
    'fractions': {'Fraction'},
    'pathlib': {'Path', 'PosixPath', 'PurePath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath'},
    'types': {'SimpleNamespace'},
    'uuid': {'UUID'},
}
_HARMLESS['pathlib._local'] = _HARMLESS['pathlib']
_HARMLESS['builtins'] = _HARMLESS['__builtin__'] = {
    'bool',
    'bytearray',
    'bytes',
    'complex',
    'dict',
    'float',
    'frozenset',
    'int',
    'list',
    'object',
    'range',
    'set',
    'slice',
    'str',
    'tuple',
    'long',
    'unicode',
}
_LOADERS = {'load', '_load_from_bytes'}  # torch's functions that unpickle once more


def _is_refused(module: str, name: str) -> bool:
    """Whether a name is one of code: of Python's own library or ours, or a way into a class."""
    root = module.split('.')[0]
    if name in _HARMLESS.get(module, ()):
        return False
    own = root in sys.stdlib_module_names or root in ('__builtin__', 'exceptions', 'tljax')
    dunder = any(part.startswith('__') for part in name.split('.'))
    return own or dunder or (root == 'torch' and name in _LOADERS)


def _rebuild_tensor(storage, offset, size, stride, *_ignored) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise UnsafeFileError(f'a tensor names no storage but {storage!r:.80}')
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
    def __init__(self, file: IO[bytes], load_storage: Callable[[tuple[Any, ...]], _Storage]):
        super().__init__(file, encoding='latin1')  # Python 2 wrote some of the old files
        self._load_storage = load_storage
        self._stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ('torch', 'torch.cuda') and name in DTYPES:
            return _Dtype(name)
        full = f'{module}.{name}'
        if _is_refused(module, name):
            raise UnsafeFileError(f'the file names {full}, which no file of weights needs')
        if full not in self._stand_ins:
            if len(self._stand_ins) >= MAX_UNKNOWN_NAMES:
                raise UnsafeFileError(f'the file names over {MAX_UNKNOWN_NAMES} unknown classes')
            self._stand_ins[full] = type('StandIn', (StandIn,), {'__slots__': (), 'name': full})
        return self._stand_ins[full]

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


MAX_EXPANSION = 100  # torch does not compress; other archives of weights gain far less
_PUTS = ('PUT', 'BINPUT', 'LONG_BINPUT')


def _load(file: IO[bytes], load_storage: Callable[[tuple[Any, ...]], _Storage]) -> Any:
    """The next object of a stream.

    Its opcodes are looked at first: the unpickler reserves a table up to the largest number that
    an object is stored under, so that a few bytes could fill the memory.
    """
    start, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(start)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _PUTS and not 0 <= int(argument or 0) <= size:
            raise UnsafeFileError(f'an object is stored under the number {argument}')
    file.seek(start)
    return _Unpickler(file, load_storage).load()


def _read_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_EXPANSION * path.stat().st_size:
            raise UnsafeFileError(f'its archive unpacks to {unpacked} bytes')
        found = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(found) != 1:
            raise ValueError(f'its archive has {len(found)} entries data.pkl, wanted 1')
        main = found[0]
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

        return _load(io.BytesIO(archive.read(main)), load_storage)


def _read_legacy(path: pathlib.Path) -> Any:
    storages: dict[str, _Storage] = {}

    def load_storage(pid: tuple[Any, ...]) -> _Storage:
        _, kind, key, _, numel, *view = pid
        if any(part is not None for part in view):
            raise ValueError('a storage that is a view of another')
        dtype = np.dtype(DTYPES[kind.name])
        return storages.setdefault(str(key), _Storage(dtype, int(numel)))

    with path.open('rb') as file:
        if _load(file, load_storage) != LEGACY_MAGIC:
            raise ValueError('neither a zip archive nor a torch stream')
        for _ in range(2):  # the protocol's version and the writer's byte sizes
            _load(file, load_storage)
        content = _load(file, load_storage)
        for key in _load(file, load_storage):
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
