"""A bucket in the memory of this process, which fails, stalls and denies as a test asks it to."""

import contextlib
import time

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from tljax.storage import addresses, bucket


class FakeFileSystem(MemoryFileSystem):
    """Objects in memory. `fault` is called with the operation and the path before each request."""

    store: dict = {}  # noqa: RUF012  shared by all instances, as a bucket is
    pseudo_dirs = ['']  # noqa: RUF012
    calls: list = []  # noqa: RUF012  (operation, path) of all requests
    fault = None

    def _request(self, operation, path):
        FakeFileSystem.calls.append((operation, path))
        if FakeFileSystem.fault is not None:
            FakeFileSystem.fault(operation, path)

    def find(self, path, **options):
        self._request('list', path)
        return super().find(path, **options)

    def info(self, path, **options):
        self._request('read', path)
        return super().info(path, **options)

    def cat_file(self, path, **options):
        self._request('read', path)
        return super().cat_file(path, **options)

    def get_file(self, rpath, lpath, **options):
        self._request('read', rpath)
        return super().get_file(rpath, lpath, **options)

    def pipe_file(self, path, value, mode='overwrite', **options):
        self._request('write', path)
        return super().pipe_file(path, value, mode=mode, **options)

    def put_file(self, lpath, rpath, **options):
        self._request('write', rpath)
        # In one step, as in a bucket: a reader sees the old content or the new one.
        with open(lpath, 'rb') as file:  # noqa: PTH123
            return super().pipe_file(rpath, file.read())

    def rm_file(self, path):
        self._request('delete', path)
        return super().rm_file(path)

    def modified(self, path):
        return super().modified(path)


@contextlib.contextmanager
def registered():
    """Makes `gs://` a bucket in memory, empty at first, and the pauses of retries short."""
    FakeFileSystem.store.clear()
    FakeFileSystem.pseudo_dirs[:] = ['']
    FakeFileSystem.calls.clear()
    FakeFileSystem.fault = None
    fsspec.register_implementation('gs', FakeFileSystem, clobber=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(addresses.BACKENDS, 'gs', 'fsspec')
        patch.setattr(bucket, 'PAUSES', (0.01, 0.02))
        patch.setattr(bucket, 'RETRY_SECONDS', 0.3)
        yield FakeFileSystem
        FakeFileSystem.fault = None
    _registry.pop('gs')


def objects(root='gs://b/run'):
    """The names of the objects in a folder of the fake bucket."""
    start = root.partition('://')[2]
    return {
        name.lstrip('/')[len(start) + 1 :]
        for name in FakeFileSystem.store
        if name.lstrip('/').startswith(f'{start}/')
    }


def wait(seconds):
    """A fault: every request takes some seconds."""
    return lambda *_: time.sleep(seconds)
