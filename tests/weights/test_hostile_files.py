"""Damaged and hostile files of weights end in one line, before they fill the memory or hang."""

import io
import json
import os
import random
import struct
import zipfile

import pytest

from tljax.types import InputError
from tljax.weights import loading

ONE = {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}}


def safetensors(**metadata):
    """A file of one number with metadata."""
    header = json.dumps({'__metadata__': metadata, **ONE}).encode()
    return struct.pack('<Q', len(header)) + header + bytes(4)


def stated(backbone, **fields):
    """A file that states a network."""
    return safetensors(architecture=json.dumps({'backbone': {'class': backbone, **fields}}))


def npz(shape, data=b'', change=lambda archive: None):
    """An archive of one array, whose bytes are changed."""
    header = f"{{'descr':'<f4','fortran_order':False,'shape':{shape}}}".encode()
    header += b' ' * (64 - (11 + len(header)) % 64) + b'\n'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            'a.npy', b'\x93NUMPY\x01\0' + struct.pack('<H', len(header)) + header + data
        )
    content = bytearray(buffer.getvalue())
    change(content)
    return bytes(content)


def flagged(*changes):
    """A function that changes bytes of the archive's local and central headers."""

    def change(content):
        central = content.find(b'PK\1\2')
        for place, in_central, value in changes:
            content[place] = value
            content[central + in_central] = value

    return change


def damaged(content):
    """Changes compressed bytes."""
    content[45] ^= 0x55
    content[50] ^= 0xFF


DEEP = '[' * 100_000
FILES = {
    'no backbone.safetensors': (stated('tljax:Folder', path='/'), 'wanted Backbone'),
    'enum.safetensors': (stated('tljax:Norm'), 'cannot be read'),
    'depth.safetensors': (stated('tljax:ViT', depth=60_000_002), 'depth is 60000002, wanted at'),
    'width.safetensors': (stated('tljax:ViT', width=64 * 10**9), 'for a file of this size'),
    'type.safetensors': (stated('tljax:ViT', width='64'), r'width is .64. \(str\), wanted int'),
    'deep.safetensors': (safetensors(architecture=DEEP), 'recursion'),
    'names.safetensors': (safetensors(class_names=DEEP), 'recursion'),
    'base 5.safetensors': (safetensors(base='{"source": 5, "sha256": "0"}'), 'wanted texts'),
    'base.safetensors': (safetensors(base=DEEP), 'recursion'),
    'shape.npz': (npz((10**15,)), 'states the shape'),
    'larger.npz': (npz((1000,), bytes(40)), 'states the shape'),
    'smaller.npz': (npz((2,), random.Random(0).randbytes(40_000)), 'states the shape'),
    'bomb.npz': (npz((10**7,), bytes(4 * 10**7)), 'unpacks to 40000128 bytes'),
    'encrypted.npz': (npz((1,), bytes(4), flagged((6, 8, 1))), 'encrypted'),
    'method.npz': (npz((1,), bytes(4), flagged((8, 10, 99))), 'compression method'),
    'damaged.npz': (npz((1,), bytes(4), damaged), 'not readable'),
}


@pytest.mark.parametrize('name', FILES)
def test_a_hostile_file_is_refused_by_name(name, tmp_path):
    content, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        loading.load(str(path))


def test_a_named_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'pipe.pth')
    with pytest.raises(InputError, match='no regular file'):
        loading.load(str(tmp_path / 'pipe.pth'))


def test_a_delta_of_itself_is_refused(tmp_path):
    path = tmp_path / 'itself.safetensors'
    path.write_bytes(safetensors(base=json.dumps({'source': str(path), 'sha256': '0'})))
    with pytest.raises(InputError, match='more than 8 deltas'):
        loading.load(str(path))
