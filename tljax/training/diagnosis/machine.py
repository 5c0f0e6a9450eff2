"""The processor, memory, disk, caches and settings of this machine."""

import getpass
import os
import pathlib
import platform
import re
import shutil
import time
from typing import Any

from tljax import environment

CPUINFO = pathlib.Path('/proc/cpuinfo')
MEMINFO = pathlib.Path('/proc/meminfo')
FEATURES = ('avx2', 'fma', 'avx512f', 'avx512_bf16', 'avx512_fp16', 'amx_tile', 'amx_bf16', 'asimd')
SETTINGS = ('JAX_', 'XLA_', 'TLJAX_', 'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'HF_HUB_OFFLINE')
SECRET = re.compile('TOKEN|KEY|SECRET|PASSWORD')
# The folders below `TLJAX_CACHE`, by what they hold.
CACHES = {
    'compiled': 'compiled programs',
    'canvases': 'decoded images',
    'features': 'features of frozen stages',
    'weights': 'downloaded weights',
    'hub': 'weights of the hub',
    'files': 'data of buckets',
    'copies': 'copies of runs in buckets',
    'runs': 'runs that are uploaded',
}
COUNTING_SECONDS = 3.0  # for the size of one cache


def anonymous(text: str) -> str:
    """A text without the home folder, which becomes `~`, and without the name of the user."""
    home = os.environ.get('HOME', '').rstrip('/')
    if len(home) > 1:
        text = re.sub(rf'{re.escape(home)}(?=/|$|[\s:;,"\'])', '~', text)
    name = _user()
    return re.sub(rf'(?<=/){re.escape(name)}(?=/|$)', 'USER', text) if name else text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry in passwd, as in some containers
        return ''


def processor() -> dict[str, Any]:
    """The processor's name, its features for matrix products, and the usable cores."""
    fields = _cpu_fields()
    known = set(re.split(r'\s+', fields.get('flags', '') or fields.get('Features', '')))
    return {
        'name': fields.get('model name') or platform.processor() or platform.machine(),
        'features': [name for name in FEATURES if name in known],
        'cores': os.cpu_count(),
        'usable_cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else None,
    }


def _cpu_fields() -> dict[str, str]:
    """The entries of the first core in /proc/cpuinfo; empty where the system has none."""
    try:
        first = CPUINFO.read_text(errors='replace').split('\n\n')[0]
    except OSError:
        return {}
    pairs = (line.partition(':') for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def total_memory() -> int | None:
    """The bytes of memory of this machine; None where the system does not tell."""
    try:
        match = re.search(r'MemTotal:\s+(\d+) kB', MEMINFO.read_text())
    except OSError:
        return None
    return 1024 * int(match[1]) if match else None


def settings() -> dict[str, str]:
    """The environment variables that change what JAX, XLA or tljax do, without secrets."""
    return {
        name: anonymous(value)
        for name, value in sorted(os.environ.items())
        if name.startswith(SETTINGS) and not SECRET.search(name)
    }


def caches() -> dict[str, dict[str, Any]]:
    """The folder, size and number of files of each cache, by what it holds."""
    root = environment.cache_dir()
    folders = {text: root / name for name, text in CACHES.items()}
    if compiled := os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        folders[CACHES['compiled']] = pathlib.Path(compiled).expanduser()
    return {text: _measured(folder) for text, folder in folders.items()}


def _measured(folder: pathlib.Path) -> dict[str, Any]:
    count, size, complete = 0, 0, True
    end = time.monotonic() + COUNTING_SECONDS
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size += pathlib.Path(parent, name).lstat().st_size
                count += 1
            except OSError:  # another process has deleted it
                continue
        if time.monotonic() > end:
            complete = False
            break
    shown = anonymous(str(folder))
    return {'folder': shown, 'bytes': size, 'files': count, 'complete': complete}


def free_disk(folder: pathlib.Path) -> int:
    """The free bytes of the disk of a folder that exists or will be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
