"""One mesh, and one table from the parameters' logical axes to the mesh's axes.

Modules name only logical axes; this table alone decides what is sharded (the idea of arXiv 2105.04663).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.linen import spmd
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sora_jax.parallel.context import METHODS, Method

AXES = ("data", "fsdp", "context", "tensor")

LOGICAL_TO_MESH: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("batch", ("data", "fsdp")),
    ("embed", ("fsdp", "context")),
    ("text", ("fsdp", "context")),
    ("freq", ("fsdp", "context")),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("vocab", "tensor"),
    ("conv_out", ("fsdp", "context")),
    ("conv_in", None),
    ("layers", None),
)

LARGE = 2**20
"""Entries from which an array mustn't lie whole where its logical axes can be cut: 4 MiB, and with its average and two
moments 16. What is smaller (biases, norms' scales) may: all of it is less than a hundredth of a network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each mesh axis. One axis may be -1: it takes all devices that the others leave."""

    data: int = -1
    """Copies of the model, each with its share of the batch."""
    fsdp: int = 1
    """Parameters, EMA and optimizer state are cut over this axis, and the batch too."""
    context: int = 1
    """The sequence of spacetime tokens is cut over this axis, and the denoiser's parameters and state as over fsdp."""
    tensor: int = 1
    """Heads and FFN columns are cut over this axis."""
    attention: Method = "ulysses_ring"
    """How tokens on different devices of the context axis meet; the answer is the same."""

    def __post_init__(self):
        if self.attention not in METHODS:
            raise ValueError(f"mesh: attention is {self.attention!r}: choose {', '.join(METHODS)}.")
        sizes = [getattr(self, axis) for axis in AXES]
        if sizes.count(-1) > 1 or any(n < 1 and n != -1 for n in sizes):
            raise ValueError(f"mesh {sizes} ({', '.join(AXES)}): sizes are positive, and at most one is -1.")


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
    """The mesh of `config` over `devices` (default: all). Raises ValueError if the counts don't multiply out."""
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in AXES]
    fixed = int(np.prod([n for n in sizes if n != -1]))
    sizes = [len(devices) // fixed if n == -1 else n for n in sizes]
    if int(np.prod(sizes)) != len(devices):
        raise ValueError(
            f"mesh {dict(zip(AXES, sizes, strict=True))} needs {int(np.prod(sizes))} devices and there are "
            f"{len(devices)}: choose sizes whose product is {len(devices)}."
        )
    return Mesh(_arranged(devices, sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(devices: list, sizes: list[int]) -> np.ndarray:
    """The devices in an order in which neighbours along an axis are neighbours in the machine."""
    if devices[0].platform != "tpu":
        return np.asarray(devices).reshape(sizes)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    if sizes[0] % slices:
        raise ValueError(
            f"data={sizes[0]} on {slices} slices: they share a slow network, which only the data axis may cross, so "
            f"choose a multiple of {slices}."
        )
    inside, across = [sizes[0] // slices, *sizes[1:]], [slices, 1, 1, 1]
    return mesh_utils.create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)


def own_mesh() -> Mesh:
    """This process's devices along fsdp, for what each process of a run computes by itself: parameters are cut over
    them, and so is a batch."""
    return make_mesh(MeshConfig(data=1, fsdp=-1), jax.local_devices())


def mesh_of(shards: int, context: int = 1) -> Mesh | None:
    """The mesh of shards x context devices, for one clip at a time: `shards` cuts heads and FFN columns, `context`
    tokens. None for one device.

    Raises ValueError if there are fewer devices.
    """
    devices = jax.devices()
    for name, value, most in (
        ("shards", shards, len(devices)),
        ("context", context, len(devices) // max(shards, 1)),
    ):
        if not 1 <= value <= most:
            beside = f" with {shards} shards" if name == "context" and shards > 1 else ""
            raise ValueError(
                f"{name} is {value} and must be from 1 to {f'{most}{beside}, by ' if beside else ''}the "
                f"{len(devices)} devices that there are."
            )
    if shards * context == 1:
        return None
    return make_mesh(MeshConfig(data=1, context=context, tensor=shards), devices[: shards * context])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis of every array of a batch lies over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def data_host(mesh: Mesh) -> tuple[int, int]:
    """Which part of each batch this process reads, and of how many: processes that share copies of the model over
    `context` or `tensor` read the same part.

    Raises ValueError if the parts of two processes overlap without being the same.
    """
    copies = mesh.shape["data"] * mesh.shape["fsdp"]
    parts: dict[int, set[int]] = {}
    for device, (rows,) in batch_sharding(mesh).devices_indices_map((copies,)).items():
        parts.setdefault(device.process_index, set()).add(rows.start or 0)
    different = sorted({tuple(sorted(part)) for part in parts.values()})
    if sum(map(len, different)) != copies:
        raise ValueError(
            f"mesh {dict(mesh.shape)} gives processes overlapping parts of a batch: choose context x tensor as a "
            "divisor or a multiple of a process's devices."
        )
    return different.index(tuple(sorted(parts[jax.process_index()]))), len(different)


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """This process's part of a batch, host arrays, as arrays over the whole mesh.

    Raises ValueError if the batch doesn't divide over the mesh.
    """
    copies, (_, hosts) = mesh.shape["data"] * mesh.shape["fsdp"], data_host(mesh)
    size = jax.tree.leaves(batch)[0].shape[0] * hosts
    if size % copies:
        raise ValueError(
            f"a batch of {size} doesn't divide over data x fsdp = {copies} devices: choose a multiple of {copies}."
        )
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch)


def place(tree: Any, shardings: Any) -> Any:
    """Host arrays that every process has alike, laid out so: each process puts its own parts, and none is sent.

    (`jax.device_put` would send them all to every process, to compare them.) Arrays that lie so stay as they are.
    """

    def put(array: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(array, jax.Array) and array.sharding.is_equivalent_to(sharding, array.ndim):
            return array
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree, shardings)


def shardings(abstract: Any, mesh: Mesh) -> Any:
    """Shardings of a tree of `eval_shape`d variables that still carries its logical axes.

    An axis that its mesh axes don't divide, such as the three channels of a picture, stays whole; a large array that
    would be whole by that is cut over what divides it of the context axis.
    """
    named = spmd.logical_to_mesh_sharding(nn.get_partition_spec(abstract), mesh, LOGICAL_TO_MESH)

    def dividing(leaf: Any, sharding: NamedSharding) -> Any:
        value = getattr(leaf, "value", leaf)
        # A box may hold no array, where an optimizer leaves a parameter to another.
        if not hasattr(value, "shape"):
            return value
        return _fitting(value.shape, tuple(sharding.spec), mesh)

    return jax.tree.map(
        dividing, abstract, named, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
    )


def kernel_shardings(
    shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh
) -> tuple[NamedSharding, NamedSharding]:
    """How a kernel with these logical axes is kept on the mesh, and how it is used: cut over `tensor` alone."""
    kept = _fitting(shape, tuple(spmd.logical_to_mesh_axes(axes, LOGICAL_TO_MESH) or ()), mesh)
    used = PartitionSpec(*(entry if entry == "tensor" else None for entry in kept.spec))
    return kept, NamedSharding(mesh, used)


def _fitting(shape: tuple[int, ...], spec: Sequence[Any], mesh: Mesh) -> NamedSharding:
    """The spec, with the axes whole that its mesh axes don't divide, unless a large array would be whole by that."""
    cut = (None if n % _devices(axes, mesh) else axes for n, axes in zip(shape, spec, strict=False))
    kept = NamedSharding(mesh, PartitionSpec(*cut))
    if math.prod(shape) < LARGE or kept.shard_shape(shape) != tuple(shape):
        return kept
    return _shared(shape, [axes is not None and "context" in axes for axes in spec], mesh)


def _shared(shape: tuple[int, ...], wanting: Sequence[bool], mesh: Mesh) -> NamedSharding:
    """Each axis that wants to takes as many devices of `context` as divide it, of those that the axes before it left.

    The sharding's mesh is the same devices, with `context` in parts.
    """
    left, parts = mesh.shape["context"], []
    for n, wants in zip(shape, wanting, strict=False):
        parts.append(math.gcd(n, left) if wants else 1)
        left //= parts[-1]
    names = [f"context_{i}" for i in range(len(parts))]
    axes = ("data", "fsdp", *names, "context_rest", "tensor")
    data, fsdp, _, tensor = mesh.devices.shape
    devices = mesh.devices.reshape(data, fsdp, *parts, left, tensor)
    fine = Mesh(devices, axes, axis_types=(AxisType.Auto,) * len(axes))
    cut = (name if n > 1 else None for name, n in zip(names, parts, strict=True))
    return NamedSharding(fine, PartitionSpec(*cut))


def _devices(entry: str | tuple[str, ...] | None, mesh: Mesh) -> int:
    axes = () if entry is None else (entry,) if isinstance(entry, str) else entry
    return int(np.prod([mesh.shape[axis] for axis in axes]))
