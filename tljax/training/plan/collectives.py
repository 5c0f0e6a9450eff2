"""The collective operations of a compiled program: how many bytes of each kind, between whom."""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
# `%all-reduce.1 = (f32[8]{0}, f32[2,4]{1,0}) all-reduce(%a, %b), ..., replica_groups=..., ...`
_INSTRUCTION = re.compile(rf'= (?P<result>.+?) (?P<kind>{"|".join(KINDS)})\(.*')
_ARRAY = re.compile(r'\b(?P<type>pred|[a-z]+(?P<bits>\d+)\w*)\[(?P<shape>[\d,]*)\]')
# The three ways in which XLA writes groups of devices: `{{0,1},{2,3}}`, `[2,2]<=[4]` and
# `mesh['a'=2,'b'=2] {'b'}`. The order of the devices may be `[2,2]T(1,0)`.
_ORDER = r'\[(?P<lengths>[\d,]+)\](?:T\((?P<axes>[\d,]+)\))?'
_LISTED = re.compile(r'replica_groups=\{\{(?P<ids>[\d,]+)\}')
_COUNTED = re.compile(rf'replica_groups=\[(?P<groups>\d+),(?P<size>\d+)\]<={_ORDER}')
_OF_MESH = re.compile(
    rf'replica_groups=mesh\[(?P<mesh>[^\]]*)\](?:, device_ids=\({_ORDER}\))? \{{(?P<over>[^}}]*)\}}'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """A collective operation of each step.

    Attributes:
        kind: one of `KINDS`.
        size_bytes: of the complete array, not of the part that a device holds.
        group: the indices of the devices that take part in it together, of the first group.
    """

    kind: str
    size_bytes: float
    group: tuple[int, ...]


def of_program(text: str, devices: int) -> list[Collective]:
    """The collective operations in the text of a compiled program.

    An operation in a loop counts once. Operations of a single device are left out.

    Args:
        text: `jax.stages.Compiled.as_text()`.
        devices: of the program.
    """
    collectives = []
    for line in text.splitlines():
        if match := _INSTRUCTION.search(line):
            group = _group(line, devices)
            size = sum(map(_array_bytes, _ARRAY.finditer(match['result'])))
            if match['kind'] == 'reduce-scatter':  # its result is a part
                size *= len(group)
            if len(group) > 1:
                one = Collective(kind=match['kind'], size_bytes=size, group=group)
                collectives.append(one)
    return collectives


def bytes_by_kind(collectives: Sequence[Collective]) -> dict[str, float]:
    """The bytes of each kind that occurs."""
    totals = {kind: sum(c.size_bytes for c in collectives if c.kind == kind) for kind in KINDS}
    return {kind: size for kind, size in totals.items() if size}


def _array_bytes(array: re.Match[str]) -> float:
    return math.prod(_numbers(array['shape'])) * (int(array['bits']) / 8 if array['bits'] else 1)


def _numbers(text: str | None) -> list[int]:
    return [int(number) for number in (text or '').split(',') if number]


def _group(line: str, devices: int) -> tuple[int, ...]:
    """The first group of devices of an operation; all devices if the program names no groups."""
    if listed := _LISTED.search(line):
        return tuple(_numbers(listed['ids']))
    if counted := _COUNTED.search(line):
        ids = _ordered(counted).reshape(int(counted['groups']), int(counted['size']))
        return tuple(ids[0].tolist())
    if of_mesh := _OF_MESH.search(line):
        lengths = dict(re.findall(r"'(\w+)'=(\d+)", of_mesh['mesh']))
        over = set(re.findall(r"'(\w+)'", of_mesh['over']))
        ids = _ordered(of_mesh) if of_mesh['lengths'] else np.arange(devices)
        ids = ids.reshape(*map(int, lengths.values()))
        group = ids[tuple(slice(None) if name in over else 0 for name in lengths)]
        return tuple(group.reshape(-1).tolist())
    return tuple(range(devices))


def _ordered(match: re.Match[str]) -> np.ndarray:
    """The indices of the devices in the order that a program states."""
    lengths, axes = _numbers(match['lengths']), _numbers(match['axes'])
    ids = np.arange(math.prod(lengths)).reshape(lengths)
    return ids.transpose(axes or range(len(lengths))).reshape(-1)
