"""Stated peaks of accelerators and of the networks between them."""

import dataclasses
import math
import re
from collections.abc import Sequence

from tljax.types import Dtype, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """A kind of accelerator and what connects several of them.

    Attributes:
        bfloat16_flops: operations per second in bfloat16, dense.
        float32_flops: the same for float32 arrays with JAX's default precision: TPUs multiply in
            bfloat16, GPUs in TF32.
        memory_bytes: size of its memory.
        memory_rate: bytes per second from its memory.
        link_rate: bytes per second that it sends to others of its group, in one direction.
        network_rate: the same to other groups; None if that is not supported.
        group: how many are connected by links: those of a node, or of a TPU pod.
    """

    bfloat16_flops: float
    float32_flops: float
    memory_bytes: float
    memory_rate: float
    link_rate: float
    network_rate: float | None
    group: int

    def flops(self, dtype: Dtype) -> float:
        """Operations per second in a dtype."""
        return self.bfloat16_flops if dtype is Dtype.BFLOAT16 else self.float32_flops


# TPUs: docs.cloud.google.com/tpu/docs/v5e, v5p and v6e, "System architecture". They state links in
# both directions, and the network of a pod, which here is divided by its chips. GPUs: NVIDIA's data
# sheets of A100 80GB SXM, H100 SXM and H200 SXM, without sparsity; NVLink is stated in both
# directions. The network is that of the DGX A100 and DGX H100 user guides: a ConnectX of 200 or 400
# Gbps for each GPU.
CHIPS = {
    'v5e': Chip(
        bfloat16_flops=197e12,
        float32_flops=197e12,
        memory_bytes=16e9,
        memory_rate=819e9,
        link_rate=200e9,
        network_rate=6.4e12 / 8 / 256,
        group=256,
    ),
    'v5p': Chip(
        bfloat16_flops=459e12,
        float32_flops=459e12,
        memory_bytes=95e9,
        memory_rate=2765e9,
        link_rate=600e9,
        network_rate=None,
        group=8960,
    ),
    'v6e': Chip(
        bfloat16_flops=918e12,
        float32_flops=918e12,
        memory_bytes=32e9,
        memory_rate=1638e9,
        link_rate=400e9,
        network_rate=25.6e12 / 8 / 256,
        group=256,
    ),
    'a100': Chip(
        bfloat16_flops=312e12,
        float32_flops=156e12,
        memory_bytes=80e9,
        memory_rate=2039e9,
        link_rate=300e9,
        network_rate=200e9 / 8,
        group=8,
    ),
    'h100': Chip(
        bfloat16_flops=989e12,
        float32_flops=494e12,
        memory_bytes=80e9,
        memory_rate=3350e9,
        link_rate=450e9,
        network_rate=400e9 / 8,
        group=8,
    ),
    'h200': Chip(
        bfloat16_flops=989e12,
        float32_flops=494e12,
        memory_bytes=141e9,
        memory_rate=4800e9,
        link_rate=450e9,
        network_rate=400e9 / 8,
        group=8,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """A number of chips of one kind; consecutive ones form a group."""

    name: str
    chip: Chip
    devices: int

    def rate(self, group: Sequence[int]) -> float:
        """Bytes per second that a device sends in a ring of some devices, given by their indices.

        A ring that leaves a group of chips uses the network of all its members there.
        """
        groups = {index // self.chip.group for index in group}
        if len(groups) == 1 or self.chip.network_rate is None:
            return self.chip.link_rate
        members = max(1, len(group) // len(groups))
        return min(self.chip.link_rate, members * self.chip.network_rate)


def parse(name: str) -> Topology:
    """The topology of a name: `v5e-256`, `v5e-16x16`, `h100-64` or `h100-8x8` (8 nodes of 8).

    Raises:
        InputError: it is not known.
    """
    match = re.fullmatch(r'(\w+)-(\d+(?:x\d+)*)', name)
    if not match or match[1] not in CHIPS or '0' in (lengths := match[2].split('x')):
        raise InputError(
            f'topology {name!r} is not known, wanted KIND-NUMBER or KIND-NODESxNUMBER with one of '
            f'the kinds {", ".join(CHIPS)}, as in v5e-256 or h100-8x8'
        )
    chip, lengths = CHIPS[match[1]], [int(length) for length in lengths]
    if len(lengths) == 2 and lengths[1] < chip.group and chip.group <= 8:
        chip = dataclasses.replace(chip, group=lengths[1])  # nodes with fewer GPUs
    topology = Topology(name=name, chip=chip, devices=math.prod(lengths))
    if chip.network_rate is None and topology.devices > chip.group:
        raise InputError(f'topology {name!r}: wanted at most {chip.group} chips, those of one pod')
    return topology
