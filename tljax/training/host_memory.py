"""Checks that the memory of this machine can hold a training step, before training.

On a GPU or TPU a step that does not fit raises an error, and `compiled_step` computes it in parts.
On CPU the process would be ended by the operating system, without a message.
"""

import math
import pathlib
import resource

import jax

from tljax.records.console import bytes_text

MEMINFO = pathlib.Path('/proc/meminfo')
STATM = pathlib.Path('/proc/self/statm')  # sizes of this process in pages
CGROUP = pathlib.Path('/sys/fs/cgroup')  # the limits of a container


def problem(compiled: jax.stages.Compiled) -> str | None:
    """Why a compiled step cannot run on this machine's CPU; None if it can, or on other devices."""
    analysis = compiled.memory_analysis()
    if analysis is None or jax.default_backend() != 'cpu':
        return None
    # State and batch are in memory already, and the new state takes the place of the old one.
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed, free = analysis.temp_size_in_bytes + max(new, 0), free_bytes()
    if needed <= free:
        return None
    return (
        f'a training step needs {bytes_text(needed)} of memory, and {bytes_text(free)} are free. '
        'Set config.accumulate=N to compute each batch in N parts (BatchNorm then sees each part '
        "separately), or lower config.batch_size or the images' size (config.preprocessing); "
        'config.remat recomputes activations instead of keeping them'
    )


def free_bytes() -> float:
    """The bytes that this process can still use; infinite where the system does not tell."""
    return min(_of_machine(), _of_container(), _of_limit())


def _of_machine() -> float:
    """Memory and swap space that are available."""
    try:
        lines = (line.partition(':') for line in MEMINFO.read_text().splitlines())
        kilobytes = {name: int(value.split()[0]) for name, _, value in lines}
        return 1024.0 * (kilobytes['MemAvailable'] + kilobytes.get('SwapFree', 0))
    except (OSError, KeyError, ValueError, IndexError):
        return math.inf


def _of_container() -> float:
    """What the limit of the container leaves; pages of files in its use can be given up."""
    try:
        limit = int((CGROUP / 'memory.max').read_text())
        used = int((CGROUP / 'memory.current').read_text())
        lines = (line.split() for line in (CGROUP / 'memory.stat').read_text().splitlines())
        files = {name: int(value) for name, value in lines}.get('file', 0)
    except (OSError, ValueError):  # no limit is written as `max`
        return math.inf
    return float(limit - used + files)


def _of_limit() -> float:
    """What the limit of this process's address space leaves (`ulimit -v`)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    try:
        pages = int(STATM.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return float(limit)
    return float(limit - pages * resource.getpagesize())
