"""The device mesh, and shardings: arrays replicated on every device or split along an axis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tljax.types import Batch

DATA_AXIS = 'data'


def make_mesh() -> Mesh:
    """A mesh of all devices of all processes along one axis, over which batches are split."""
    return jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """A mesh of this process's devices, for work that each process does independently."""
    devices = jax.local_devices()
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """A sharding that puts the full array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """A sharding that splits the leading axis."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def put_replicated(mesh: Mesh, values: Any) -> Any:
    """Puts arrays that are equal in every process on every device.

    On a mesh of several processes, a device array of one process goes through the host: with one
    device a process, JAX would keep its local shard and lose the other processes' part.
    """
    sharding = replicated(mesh)
    if not sharding.is_fully_addressable:
        values = jax.tree.map(_on_host, values)
    return jax.device_put(values, sharding)


def _on_host(value: Any) -> Any:
    """Copies an array that only this process holds to the host; returns others unchanged."""
    if not isinstance(value, jax.Array) or not value.is_fully_addressable:
        return value
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    return np.asarray(value)


def process() -> tuple[int, int]:
    """The index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def put_batch(mesh: Mesh, batch: Batch) -> Batch:
    """Puts a process's part of a batch on its devices, as a part of the global batch.

    Ids become 32 bits wide; they are only folded into keys there.
    """
    sharding = split(mesh)

    def put(array: np.ndarray) -> jax.Array:
        if array.dtype == np.int64:
            array = array.astype(np.uint32)
        return jax.make_array_from_process_local_data(sharding, array)

    return jax.tree.map(put, batch)
