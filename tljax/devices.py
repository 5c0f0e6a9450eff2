"""The device mesh, and shardings: arrays replicated on every device or split along an axis.

The mesh has two axes, `data` and `model`. Batches are split over both. A state of training is split
over `model` alone: with one device along it, every device holds all of the state.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tljax.types import Batch, InputError, MeshShape, Params, Sharding

DATA_AXIS, MODEL_AXIS = 'data', 'model'
# Leaves of fewer values are replicated, as gathering them would take longer than it saves memory:
# in a ViT-L they are 0.1 % of the parameters. Here 64 KiB of float32.
SMALLEST_SHARDED = 2**14


def mesh_axes(shape: MeshShape, sharding: Sharding, count: int) -> tuple[int, int]:
    """The number of devices along `data` and along `model`.

    Args:
        shape: the wanted numbers.
        sharding: decides `model` where the shape does not.
        count: the number of all devices.

    Raises:
        InputError: the wanted numbers do not give the number of devices.
    """
    data, model = shape.data, shape.model
    if model is None:
        model = max(1, count // (data or 1)) if sharding is Sharding.FSDP else 1
    if data is None:
        data = max(1, count // model)
    if data * model != count:
        raise InputError(
            f'config.mesh: data={data} times model={model} is {data * model}, wanted the number '
            f'of devices, {count}'
        )
    return data, model


def make_mesh(shape: MeshShape | None = None, sharding: Sharding = Sharding.REPLICATED) -> Mesh:
    """A mesh of all devices of all processes.

    Raises:
        InputError: the shape does not fit the number of devices.
    """
    return _mesh(*mesh_axes(shape or MeshShape(), sharding, jax.device_count()), jax.devices())


def local_mesh() -> Mesh:
    """A mesh of this process's devices, for independent work of each process."""
    return _mesh(jax.local_device_count(), 1, jax.local_devices())


def _mesh(data: int, model: int, devices: Sequence[Any]) -> Mesh:
    axes = (DATA_AXIS, MODEL_AXIS)
    return jax.make_mesh((data, model), axes, axis_types=(AxisType.Auto,) * 2, devices=devices)


def shards(mesh: Mesh) -> int:
    """The number of parts that a state of training is split into."""
    return mesh.shape[MODEL_AXIS]


def layout_text(mesh: Mesh) -> str:
    """`1 cpu device`; `4 cpu devices in 2 processes, the state split over 4`."""
    text = f'{mesh.size} {mesh.devices.flat[0].platform} device{"s" * (mesh.size > 1)}'
    processes = len({device.process_index for device in mesh.devices.flat})
    if processes > 1:
        text += f' in {processes} processes'
    return text if shards(mesh) == 1 else f'{text}, the state split over {shards(mesh)}'


def replicated(mesh: Mesh) -> NamedSharding:
    """A sharding that puts the full array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """A sharding that splits the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA_AXIS, MODEL_AXIS)))


def sharded(mesh: Mesh, leaf: Any) -> NamedSharding:
    """The sharding of a leaf of a training state, which depends on its shape alone.

    Its largest axis whose length the `model` axis of the mesh divides is split over that axis. A
    leaf without such an axis, or with fewer than `SMALLEST_SHARDED` values, is replicated.

    Args:
        mesh: the devices.
        leaf: an array, or anything that has a shape.
    """
    parts, shape = shards(mesh), np.shape(leaf)
    axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or not axes or math.prod(shape) < SMALLEST_SHARDED:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * largest, MODEL_AXIS))


# Takes the parameters of a stage, of which each device holds a part, and rows [B, ...] or None.
# Returns them with all values on every device, which starts when the rows are computed.
Gather = Callable[[Params, Any], Params]


def gatherer(mesh: Mesh) -> Gather | None:
    """What gathers sharded parameters in a compiled program; None if nothing is sharded.

    The gradient of a leaf gets the sharding of the leaf again.
    """
    if shards(mesh) == 1:
        return None

    def gather(params: Params, rows: jax.Array | None) -> Params:
        if rows is not None and rows.shape[0] % mesh.size:
            rows = None
        return jax.tree.map(lambda leaf: _gathered(mesh, leaf, rows), params)

    return gather


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(mesh: Mesh, leaf: jax.Array, rows: jax.Array | None) -> jax.Array:
    if sharded(mesh, leaf).is_fully_replicated:
        return leaf
    leaf = leaf if rows is None else _after(mesh, leaf, rows)
    return jax.lax.with_sharding_constraint(leaf, replicated(mesh))


def _gathered_forward(
    mesh: Mesh, leaf: jax.Array, rows: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    return _gathered(mesh, leaf, rows), rows


def _gathered_backward(mesh: Mesh, rows: jax.Array | None, gradient: jax.Array) -> tuple[Any, Any]:
    sharding = sharded(mesh, gradient)
    if not sharding.is_fully_replicated:
        gradient = jax.lax.with_sharding_constraint(gradient, sharding)
    return gradient, None if rows is None else jnp.zeros_like(rows)


_gathered.defvjp(_gathered_forward, _gathered_backward)


def _after(mesh: Mesh, leaf: jax.Array, rows: jax.Array) -> jax.Array:
    """A sharded leaf that cannot be used before rows are computed, on each device by itself.

    Otherwise XLA gathers the parameters of all stages first. See `models.data_dependence`, which
    would have to send a value to all devices.
    """

    def tied(part: jax.Array, rows: jax.Array) -> jax.Array:
        return part + 0.0 * jnp.ravel(rows)[0].astype(part.dtype)

    spec = sharded(mesh, leaf).spec
    specs = {'in_specs': (spec, split(mesh).spec), 'out_specs': spec}
    return jax.shard_map(tied, mesh=mesh, check_vma=False, **specs)(leaf, rows)


def put_replicated(mesh: Mesh, values: Any) -> Any:
    """Puts arrays that are equal in every process, or split over all of them, on every device."""
    return put(jax.tree.map(lambda _: replicated(mesh), values), values)


def put_sharded(mesh: Mesh, values: Any) -> Any:
    """Puts the leaves of a training state on the devices; see `sharded`."""
    return put(jax.tree.map(functools.partial(sharded, mesh), values), values)


def put(shardings: Any, values: Any) -> Any:
    """Puts each array, equal in every process, on the devices of the sharding at its place.

    On a mesh of several processes, a device array of one process goes through the host: with one
    device a process, JAX would keep its local shard and lose the other processes' part.
    """
    return jax.device_put(jax.tree.map(_for_sharding, shardings, values), shardings)


def _for_sharding(sharding: NamedSharding, value: Any) -> Any:
    """Copies an array that only this process holds to the host if other processes need it too."""
    if sharding.is_fully_addressable:
        return value
    if not isinstance(value, jax.Array) or not value.is_fully_addressable:
        return value
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    return np.asarray(value)


class HostCopy:
    """A copy in host memory of a tree of device arrays, of the parts that this process holds."""

    def __init__(self, values: Any):
        leaves, self._structure = jax.tree.flatten(values)
        self._leaves = [(x.shape, x.sharding, _parts_of(x)) for x in leaves]

    def put(self) -> Any:
        """The arrays, on the devices where they were."""
        arrays = [
            jax.make_array_from_callback(shape, sharding, lambda at, parts=parts: parts[str(at)])
            for shape, sharding, parts in self._leaves
        ]
        return jax.tree.unflatten(self._structure, arrays)


def _parts_of(array: jax.Array) -> dict[str, np.ndarray]:
    """Copies of the different parts of an array, by their place."""
    parts: dict[str, np.ndarray] = {}
    for shard in array.addressable_shards:
        if str(shard.index) not in parts:
            parts[str(shard.index)] = np.array(shard.data)  # on CPU, `device_get` does not copy
    return parts


def process() -> tuple[int, int]:
    """The index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def put_batch(mesh: Mesh, batch: Batch) -> Batch:
    """Puts a process's part of a batch on its devices, as a part of the global batch.

    Ids become 32 bits wide, because on the device they are only folded into random keys.
    """
    sharding = split(mesh)

    def put(array: np.ndarray) -> jax.Array:
        if array.dtype == np.int64:
            array = array.astype(np.uint32)
        return jax.make_array_from_process_local_data(sharding, array)

    return jax.tree.map(put, batch)
