"""Which devices, what every one of them holds, and what is split among them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tljax.types import Batch

DATA_AXIS = 'data'


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, over which batches are split."""
    return jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """The devices of this process alone, for what each process does for itself."""
    devices = jax.local_devices()
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Split along the leading axis."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def put_replicated(mesh: Mesh, values: Any) -> Any:
    """Host or device arrays, the same in every process, whole on every device.

    A device array of one process alone goes through the host where the mesh spans several: with
    one device a process, JAX would keep its one local shard and lose the other processes' part.
    """
    whole = replicated(mesh)
    if not whole.is_fully_addressable:
        values = jax.tree.map(_on_host, values)
    return jax.device_put(values, whole)


def _on_host(value: Any) -> Any:
    """An array that only this process holds, on the host; other values as they are."""
    if not isinstance(value, jax.Array) or not value.is_fully_addressable:
        return value
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    return np.asarray(value)


def put_batch(mesh: Mesh, batch: Batch) -> Batch:
    """A process's part of a batch, on its devices, as its part of the global batch.

    Ids become 32 bits wide, as they are only folded into keys there.
    """
    sharding = split(mesh)

    def put(array: np.ndarray) -> jax.Array:
        if array.dtype == np.int64:
            array = array.astype(np.uint32)
        return jax.make_array_from_process_local_data(sharding, array)

    return jax.tree.map(put, batch)
