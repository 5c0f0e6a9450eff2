"""Torch files are read without torch, and nothing in them is executed."""

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from tljax.weights import torch_file, torch_pickle

STATE = {
    'conv.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    'bn.num_batches_tracked': np.asarray(7, np.int64),
    'half': np.asarray([1.5, -2.0], np.float16),
}
STORAGES = {'float32': 'FloatStorage', 'int64': 'LongStorage', 'float16': 'HalfStorage'}


class Tensor:
    """Pickles as torch pickles a tensor; `view` overrides offset, size and strides."""

    def __init__(self, array, view=None):
        strides = tuple(n // array.itemsize for n in array.strides)
        self.array, self.view = array, view or (0, array.shape, strides)

    def __reduce__(self):
        storage = Storage(self.array)
        return rebuild, (storage, *self.view, False, collections.OrderedDict())


class Storage:
    def __init__(self, array):
        self.array = array


def rebuild(*_):
    """Stands in for torch._utils._rebuild_tensor_v2, under whose name it is pickled."""


class Writer(pickle.Pickler):
    """Writes storages as persistent ids and remembers their values."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        key = str(len(self.storages))
        self.storages[key] = obj.array
        kind = getattr(sys.modules['torch'], STORAGES[obj.array.dtype.name])
        return ('storage', kind, key, 'cpu', obj.array.size)


class LegacyWriter(Writer):
    """As before torch 1.6: a sixth entry, for views of storages."""

    def persistent_id(self, obj):
        pid = super().persistent_id(obj)
        return pid and (*pid, None)


@pytest.fixture(autouse=True)
def _fake_torch(monkeypatch):
    """The names that pickling looks up; reading must not need them."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {'__module__': 'torch'}))
    monkeypatch.setattr(rebuild, '__module__', 'torch._utils')
    monkeypatch.setattr(rebuild, '__qualname__', '_rebuild_tensor_v2')
    utils._rebuild_tensor_v2 = rebuild
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setitem(sys.modules, 'torch._utils', utils)


def write_zip(path, content):
    pickled = io.BytesIO()
    (writer := Writer(pickled)).dump(content)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', pickled.getvalue())
        for key, array in writer.storages.items():
            archive.writestr(f'archive/data/{key}', array.tobytes())


def write_legacy(path, content):
    with path.open('wb') as file:
        for header in (torch_file.LEGACY_MAGIC, 1001, {'little_endian': True}):
            pickle.dump(header, file, protocol=2)
        (writer := LegacyWriter(file)).dump(content)
        pickle.dump(list(writer.storages), file, protocol=2)
        for array in writer.storages.values():
            file.write(np.int64(array.size).tobytes() + array.tobytes())


WRITERS = pytest.mark.parametrize('write', [write_zip, write_legacy])


@WRITERS
def test_arrays_come_back_with_their_types_and_shapes(write, tmp_path):
    write(tmp_path / 'a.pth', {name: Tensor(array) for name, array in STATE.items()})
    found = torch_file.read(tmp_path / 'a.pth')
    assert list(found) == list(STATE)
    for name, array in STATE.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@WRITERS
def test_wrappers_and_plain_values_come_back(write, tmp_path):
    state = collections.OrderedDict(weight=Tensor(STATE['half']))
    state._metadata = {'': {'version': 1}}
    write(tmp_path / 'a.pth', {'state_dict': state, 'best_prec1': 91.78, 'epoch': 3})
    found = torch_file.read(tmp_path / 'a.pth')
    assert (found['best_prec1'], found['epoch']) == (91.78, 3)
    np.testing.assert_array_equal(found['state_dict']['weight'], STATE['half'])


@WRITERS
def test_a_transposed_view_is_read_by_its_strides(write, tmp_path):
    array = np.arange(6, dtype=np.float32)
    write(tmp_path / 'a.pth', {'x': Tensor(array, view=(1, (2, 2), (1, 2)))})
    np.testing.assert_array_equal(torch_file.read(tmp_path / 'a.pth')['x'], [[1, 3], [2, 4]])


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(path):
    """Contents that would create `path` if they were run."""
    touch = f'touch {path}'
    write = f"open({str(path)!r}, 'w')"
    return {
        'os.system': Calls(os.system, touch),
        'eval': Calls(eval, write),
        'exec': Calls(exec, write),
        'nested': {'state_dict': collections.OrderedDict(a=[Calls(os.system, touch)])},
        'in a storage': Calls(rebuild, Calls(os.system, touch), 0, (1,), (1,)),
        'getattr': Calls(getattr, Calls(__import__, 'os'), 'system'),
    }


@WRITERS
@pytest.mark.parametrize('name', hostile(''))
def test_whatever_else_a_pickle_names_is_refused_by_name_and_not_run(name, write, tmp_path):
    made = tmp_path / 'made'
    write(tmp_path / 'a.pth', {'x': hostile(made)[name]})
    with pytest.raises(torch_pickle.UnsafeFileError, match=r'names [\w.]+'):
        torch_file.read(tmp_path / 'a.pth')
    assert not made.exists()


@pytest.mark.parametrize(
    'opcodes',
    [
        b'\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.',  # STACK_GLOBAL
        b'cposix\nsystem\n(S"true"\ntR.',  # GLOBAL
        b'(S"true"\niposix\nsystem\n.',  # INST
        b'ccollections\nOrderedDict.__init__.__globals__\n.',  # a dotted way out of the list
        b'\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.',
        b'\x82\x01.',  # EXT1, the extension registry
    ],
)
def test_every_opcode_that_finds_a_name_is_held_to_the_list(opcodes, tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', opcodes)
    with pytest.raises(ValueError, match='a.pth'):
        torch_file.read(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'view',
    [(0, (7,), (1,)), (5, (2,), (1,)), (0, (2,), (-1,)), (-1, (2,), (1,)), (0, (2, 2), (9, 1))],
)
@WRITERS
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(write, view, tmp_path):
    write(tmp_path / 'a.pth', {'x': Tensor(np.arange(6, dtype=np.float32), view=view)})
    with pytest.raises(torch_pickle.UnsafeFileError, match='beyond its storage'):
        torch_file.read(tmp_path / 'a.pth')


@WRITERS
@pytest.mark.parametrize('share', [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(share, write, tmp_path):
    path = tmp_path / 'a.pth'
    write(path, {name: Tensor(array) for name, array in STATE.items()})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match='a.pth'):
        torch_file.read(path)


def test_a_page_instead_of_a_file_is_named(tmp_path):
    (tmp_path / 'a.pth').write_text('<!DOCTYPE html><html></html>')
    with pytest.raises(ValueError, match='a.pth'):
        torch_file.read(tmp_path / 'a.pth')


def write_opcodes(path, opcodes, **entries):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in {'data.pkl': b'\x80\x02' + opcodes, **entries}.items():
            archive.writestr(f'archive/{name}', content)


@pytest.mark.parametrize(
    'name',
    [
        'builtins getattr',
        'builtins eval',
        '__builtin__ eval',  # as Python 2 named it
        'builtins __import__',
        'collections namedtuple',  # evaluates its field names
        'copyreg _reconstructor',
        'copyreg __newobj__',
        'copyreg add_extension',
        'functools partial',
        'importlib import_module',
        'operator attrgetter',
        'pickle loads',
        'tljax.weights.torch_pickle _ALLOWED',
        'torch load',
        'torch.hub load',
        'torch._utils _rebuild_tensor_v2.__globals__',
        'torch.storage _load_from_bytes',
        'types FunctionType',
    ],
)
def test_a_name_off_the_list_is_refused_by_that_name(name, tmp_path):
    module, attribute = name.split()
    write_opcodes(tmp_path / 'a.pth', f'c{module}\n{attribute}\n.'.encode())
    with pytest.raises(torch_pickle.UnsafeFileError) as caught:
        torch_file.read(tmp_path / 'a.pth')
    assert f'{module}.{attribute}' in str(caught.value)


STORAGE = b'(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ'
REBUILD = b'ctorch._utils\n_rebuild_tensor_v2\n'
TENSOR = REBUILD + b'(' + STORAGE + b'K\0K\x06\x85K\x01\x85tR'  # offset 0, size (6), stride (1)
SIX = {'data/0': np.arange(6, dtype=np.float32).tobytes()}


def test_a_tensor_by_hand_is_read(tmp_path):
    write_opcodes(tmp_path / 'a.pth', TENSOR + b'.', **SIX)
    np.testing.assert_array_equal(torch_file.read(tmp_path / 'a.pth'), np.arange(6.0))


@pytest.mark.parametrize(
    'state',
    [
        b'](' + STORAGE + b'K\0K\x07\x85K\x01\x85eb',  # storage, offset, size (7), stride (1)
        b'](' + STORAGE + b'K\0K\x02\x85J\xff\xff\xff\xff\x85eb',  # size (2), stride (-1)
        b'N}X\x05\0\0\0shapeK\x07\x85s\x86b',
    ],
)
def test_a_tensor_cannot_be_stretched_after_it_was_made(state, tmp_path):
    write_opcodes(tmp_path / 'a.pth', TENSOR + state + b'.', **SIX)
    with pytest.raises(ValueError, match=r'a\.pth'):
        torch_file.read(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'state',
    [b'}X\x04\0\0\0leftK\x01sb', b'N}X\x0c\0\0\0__defaults__K\x01\x85s\x86b'],
)
def test_a_file_leaves_nothing_behind_in_the_reader(state, tmp_path):
    write_opcodes(tmp_path / 'a.pth', REBUILD + state + b'.')
    with pytest.raises(ValueError, match=r'a\.pth'):
        torch_file.read(tmp_path / 'a.pth')


def test_what_is_shared_in_a_file_is_not_multiplied(tmp_path):
    twice = b'q\0h\0\x86'  # a pair of what is on the stack, twice the same
    write_opcodes(tmp_path / 'a.pth', b']' + twice + b'.')
    first, second = torch_file.read(tmp_path / 'a.pth')
    assert first is second


@pytest.mark.parametrize('opcodes', [b']q\0h\0a.', b'}q\0K\x01h\0s.'])
def test_a_container_that_holds_itself_is_refused(opcodes, tmp_path):
    write_opcodes(tmp_path / 'a.pth', opcodes)
    with pytest.raises(ValueError, match=r'a\.pth'):
        torch_file.read(tmp_path / 'a.pth')


def test_a_file_of_the_other_byte_order_is_never_misread(tmp_path):
    swapped = {'data/0': np.arange(6, dtype='>f4').tobytes(), 'byteorder': b'big'}
    write_opcodes(tmp_path / 'a.pth', TENSOR + b'.', **swapped)
    try:
        found = torch_file.read(tmp_path / 'a.pth')
    except ValueError:
        return
    np.testing.assert_array_equal(found, np.arange(6.0))


class Named:
    """Pickles as one of a class that is not there when the file is read."""

    def __init__(self, **fields):
        self.__dict__ |= fields


BESIDE = {
    'args': argparse.Namespace(lr=0.1),
    'a numpy scalar': np.float64(1.0),
    'a numpy array': np.arange(3.0),
    'a counter': collections.Counter('aab'),
    'a path': pathlib.PurePosixPath('a/b'),
    'a date': datetime.datetime(2020, 1, 1),
    'bytes': b'abc',
    'a set': {1, 2},
    'an own class': Named(lr=0.1),
}


@WRITERS
@pytest.mark.parametrize('name', BESIDE)
def test_the_tensors_load_beside_objects_of_other_classes(name, write, tmp_path):
    write(tmp_path / 'a.pth', {'beside': BESIDE[name], 'x': Tensor(STATE['half'])})
    found = torch_file.read(tmp_path / 'a.pth')
    np.testing.assert_array_equal(found['x'], STATE['half'])
    assert isinstance(found['beside'], torch_pickle.StandIn)
    assert not hasattr(found['beside'], 'shape')


PERSON = b'cpayload\nPerson\n'
DUE = b'X\x05\0\0\0state'


@pytest.mark.parametrize(
    'opcodes',
    [
        PERSON + b')R' + DUE + b'b',  # REDUCE, BUILD
        PERSON + b')\x81' + DUE + b'b',  # NEWOBJ, BUILD
        PERSON + b')}\x92' + DUE + b'b',  # NEWOBJ_EX
        PERSON + DUE + b'b',  # BUILD of the class itself
        b'(' + DUE + b'ipayload\nPerson\n',  # INST
        b'(' + PERSON + DUE + b'o',  # OBJ
        PERSON + b')\x81(K\x01K\x02e',  # APPENDS
        PERSON + b')\x81K\x01a',  # APPEND
        PERSON + b')\x81(K\x01K\x02u',  # SETITEMS
        PERSON + b')\x81(K\x01\x90',  # ADDITEMS
        PERSON + b')R' + DUE + b'\x85R',  # a call of what a call gave
    ],
)
def test_a_stand_in_ignores_whatever_a_pickle_does_to_it(opcodes, tmp_path, monkeypatch):
    (tmp_path / 'payload.py').write_text('raise SystemExit("it was imported")')
    monkeypatch.syspath_prepend(tmp_path)
    write_opcodes(tmp_path / 'a.pth', b'}X\1\0\0\0x' + opcodes + b's.')
    assert not hasattr(torch_file.read(tmp_path / 'a.pth')['x'], 'shape')
    assert 'payload' not in sys.modules


@pytest.mark.parametrize(
    'opcodes',
    [
        REBUILD + b'(' + PERSON + b')RK\0K\x06\x85K\x01\x85tR',  # a tensor of a stand-in
        PERSON + b')RQ',  # a persistent id that is one
        b'NNr\xff\xff\xff\x7f0',  # an object stored under the number 2^31 - 1
    ],
)
def test_a_stand_in_is_no_storage_and_numbers_of_objects_are_bounded(opcodes, tmp_path):
    write_opcodes(tmp_path / 'a.pth', opcodes + b'.', **SIX)
    with pytest.raises(torch_pickle.UnsafeFileError, match=r'a\.pth: refused'):
        torch_file.read(tmp_path / 'a.pth')


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02N.')
        archive.writestr('archive/data/0', bytes(10_000_000))
    with pytest.raises(torch_pickle.UnsafeFileError, match='unpacks to'):
        torch_file.read(tmp_path / 'a.pth')
