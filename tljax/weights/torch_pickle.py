"""Unpickles torch's files without importing or running anything that they name.

Tensors and dictionaries are rebuilt by functions of this file. Any other class (`torch.device`, the
options of a training) becomes a stand-in without behaviour. Names of Python's own functions are
refused.
"""

import collections
import dataclasses
import os
import pickle
import pickletools
import sys
from collections.abc import Callable
from typing import IO, Any

import ml_dtypes
import numpy as np

from tljax.types import InputError

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
    """A pickle that names something that files of weights do not need."""


@dataclasses.dataclass(frozen=True, slots=True)
class StorageDtype:
    """Represents a storage class such as `torch.FloatStorage`."""

    name: str


@dataclasses.dataclass(slots=True)
class Storage:
    """The values of tensors; in the old format they follow the pickle."""

    dtype: np.dtype
    numel: int
    values: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; it becomes an array after the storage is read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The values.

        Raises:
            UnsafeFileError: the view exceeds the storage.
        """
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
    """Replaces an object of an unknown class.

    It keeps plain fields, such as those of an `argparse.Namespace` or of a subclass of `dict`, and
    ignores everything else in the pickle. Each class in a file gets its own subclass with the
    class's name as `name`.
    """

    __slots__ = ('fields',)
    name = ''
    fields: dict[str, Any]

    def __new__(cls, *_arguments, **_named):
        instance = super().__new__(cls)
        instance.fields = {}
        return instance

    def __init__(self, *_arguments, **_named):
        pass

    def _ignore(*_arguments, **_named) -> None:
        return None

    # BUILD and SETITEM(S) can call these on the class too, with other arguments.
    def __setstate__(*arguments: Any) -> None:
        for state in arguments[1:]:
            if isinstance(arguments[0], StandIn) and type(state) is dict:
                arguments[0].fields.update((k, v) for k, v in state.items() if isinstance(k, str))

    def __setitem__(*arguments: Any) -> None:
        if len(arguments) == 3 and isinstance(arguments[0], StandIn):
            StandIn.__setstate__(arguments[0], dict([arguments[1:]]))

    # The methods that the opcodes REDUCE, APPEND(S) and ADDITEMS call.
    __call__ = append = extend = add = _ignore

    def __repr__(self) -> str:
        return f'<{self.name}>'


MAX_UNKNOWN_NAMES = 10_000  # each becomes a class

# Data types of the standard library in files of weights; its other names are refused.
_HARMLESS = {
    '_codecs': {'encode'},  # protocol 2 writes bytes with it
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
    """Whether a name is code: of the standard library, of tljax, or a dunder of a class."""
    root = module.split('.')[0]
    if name in _HARMLESS.get(module, ()):
        return False
    own = root in sys.stdlib_module_names or root in ('__builtin__', 'exceptions', 'tljax')
    dunder = any(part.startswith('__') for part in name.split('.'))
    return own or dunder or (root == 'torch' and name in _LOADERS)


def _rebuild_tensor(storage, offset, size, stride, *_ignored) -> Tensor:
    if not isinstance(storage, Storage):
        raise UnsafeFileError(f'a tensor names no storage but {storage!r:.80}')
    return Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_parameter(data, *_ignored) -> Tensor:
    return data


class _Inert:
    """A function without attributes, which a pickle's BUILD could change."""

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
    def __init__(self, file: IO[bytes], load_storage: Callable[[tuple[Any, ...]], Storage]):
        super().__init__(file, encoding='latin1')  # Python 2 wrote some of the old files
        self._load_storage = load_storage
        self._stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ('torch', 'torch.cuda') and name in DTYPES:
            return StorageDtype(name)
        full = f'{module}.{name}'
        if _is_refused(module, name):
            raise UnsafeFileError(f'the file names {full}, which no file of weights needs')
        if full not in self._stand_ins:
            if len(self._stand_ins) >= MAX_UNKNOWN_NAMES:
                raise UnsafeFileError(f'the file names over {MAX_UNKNOWN_NAMES} unknown classes')
            self._stand_ins[full] = type('StandIn', (StandIn,), {'__slots__': (), 'name': full})
        return self._stand_ins[full]

    def persistent_load(self, pid: Any) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[1], StorageDtype)):
            raise UnsafeFileError(f'the file names a storage of an unknown kind: {pid!r:.80}')
        return self._load_storage(pid)


_PUTS = ('PUT', 'BINPUT', 'LONG_BINPUT')


def load(file: IO[bytes], load_storage: Callable[[tuple[Any, ...]], Storage]) -> Any:
    """The next object of a stream.

    The numbers under which it stores objects are checked first, because the unpickler reserves a
    table up to the largest number, so a few bytes could fill the memory.
    """
    start, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(start)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _PUTS and not 0 <= int(argument or 0) <= size:
            raise UnsafeFileError(f'an object is stored under the number {argument}')
    file.seek(start)
    return _Unpickler(file, load_storage).load()
