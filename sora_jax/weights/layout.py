"""Where our parameters lie in published files: each is one tensor, or one a layer, with its axes in another order.

Torch keeps a dense kernel as [out, in] and a convolution's as [out, in, t, h, w]; here the inputs come first and
layers are stacked along a leading axis. As an order of axes that can be read for any part of an array.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import traverse_util

from sora_jax.models.config import ModelConfig
from sora_jax.weights.tensors import check_shapes

Index = tuple[slice, ...]


class Tensor(Protocol):
    """What can be read in part: an array, or a tensor of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Index) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """One of our parameters as published."""

    names: tuple[str, ...]
    """The published tensor's name, or those of all layers."""
    stacked: bool = False
    """Whether ours has a leading axis of layers."""
    shape: tuple[int, ...]
    """Of one published tensor."""
    axes: tuple[int, ...]
    """Published axes in the order of ours. Those left out have size one."""
    merged: int = 1
    """So many of the first `axes` are one axis of ours."""

    @property
    def ours(self) -> tuple[int, ...]:
        """The shape of our parameter."""
        moved = [self.shape[axis] for axis in self.axes]
        one = (math.prod(moved[: self.merged]), *moved[self.merged :]) if moved else ()
        return (len(self.names), *one) if self.stacked else one

    def read(self, tensors: Mapping[str, Tensor], index: Index, dtype: Any = None) -> np.ndarray:
        """The part `index` of our parameter, floating-point numbers as `dtype` (None: as stored)."""
        layers, inner = (index[0], index[1:]) if self.stacked else (slice(None), index)
        names = self.names[layers]
        if not self.stacked:
            return _cast(self._read_one(tensors[names[0]], inner), dtype)
        out = None
        for i, name in enumerate(names):
            part = _cast(self._read_one(tensors[name], inner), dtype)
            out = np.empty((len(names), *part.shape), part.dtype) if out is None else out
            out[i] = part
        assert out is not None, "a sharding gives every device a part"
        return out

    def _read_one(self, tensor: Tensor, index: Index) -> np.ndarray:
        wanted = [slice(0, size) for size in self.shape]
        # Of an axis that is several of the file's the whole is read, and cut after.
        for axis, part in zip(self.axes[self.merged :], index[1:], strict=True):
            wanted[axis] = slice(*part.indices(self.shape[axis])[:2])
        if self.merged == 1 and self.axes:
            axis = self.axes[0]
            wanted[axis] = slice(*index[0].indices(self.shape[axis])[:2])
        read = np.asarray(tensor[tuple(wanted)])
        kept = read.reshape([n for axis, n in enumerate(read.shape) if axis in self.axes])
        order = np.argsort(np.argsort(self.axes))
        moved = kept.transpose(order)
        if self.merged > 1:
            moved = moved.reshape(-1, *moved.shape[self.merged :])[index[0]]
        return np.ascontiguousarray(moved)

    def write(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Our parameter as published, by name."""
        layers = array if self.stacked else array[None]
        inverse = np.argsort(self.axes)
        moved = [self.shape[axis] for axis in self.axes]
        return {
            name: np.ascontiguousarray(one.reshape(moved).transpose(inverse)).reshape(self.shape)
            for name, one in zip(self.names, layers, strict=True)
        }


Leaves = Mapping[str, Leaf]
"""By the "/"-joined path of ours."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A checkpoint whose config is read and whose tensors fit it, before any number is read."""

    config: ModelConfig
    tokenizer: Path
    parts: Mapping[str, tuple[Mapping[str, Tensor], Leaves]]
    """Of each network its tensors and where its parameters lie in them."""


def leaf(
    ours: tuple[int, ...],
    name: str,
    axes: tuple[int, ...] | None = None,
    *,
    ndim: int | None = None,
    merged: tuple[int, ...] | None = None,
    depth: int | None = None,
) -> Leaf:
    """The leaf of our parameter of shape `ours`.

    Args:
        name: as published; with `depth` layers, a `{}` stands for the layer's number.
        axes: see `Leaf`; the same order if not given.
        ndim: of the published tensor, where it has axes of one.
        merged: the sizes of the published axes that are our first one.
    """
    names = (name,) if depth is None else tuple(name.format(i) for i in range(depth))
    inner = ours if depth is None else ours[1:]
    sizes = inner if merged is None else (*merged, *inner[1:])
    axes = tuple(range(len(sizes))) if axes is None else axes
    shape = [1] * (len(axes) if ndim is None else ndim)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return Leaf(
        names=names,
        stacked=depth is not None,
        shape=tuple(shape),
        axes=axes,
        merged=1 if merged is None else len(merged),
    )


def published_shapes(leaves: Leaves) -> dict[str, tuple[int, ...]]:
    """The published names and shapes."""
    return {name: one.shape for one in leaves.values() for name in one.names}


def check(tensors: Mapping[str, Tensor], leaves: Leaves, where: str) -> None:
    """Raises ValueError naming tensors that are missing, unknown or of a wrong shape; `where` names the weights."""
    check_shapes({name: tuple(tensors[name].shape) for name in tensors}, published_shapes(leaves), where)


def gather(
    tensors: Mapping[str, Tensor],
    leaves: Leaves,
    dtype: Any = None,
    shardings: Mapping[str, Any] | None = None,
) -> Any:
    """Our nested parameters, read from published tensors that `check` found right.

    As NumPy arrays, or, with a sharding for each path, as JAX arrays, of which each device's part is read by
    itself: the host holds one parameter's parts at a time. `dtype` as in `stored_as`.
    """
    flat = {}
    for path, one in leaves.items():
        kind = stored_as(path, dtype)

        def part(index: Index, one: Leaf = one, kind: Any = kind) -> np.ndarray:
            return one.read(tensors, index, kind)

        if shardings is None:
            flat[path] = part(tuple(slice(None) for _ in one.ours))
        else:
            flat[path] = jax.make_array_from_callback(one.ours, shardings[path], _once(part))
    return traverse_util.unflatten_dict(flat, sep="/")


def scatter(params: Any, leaves: Leaves) -> dict[str, np.ndarray]:
    """The published tensors by name: the inverse of `gather`."""
    flat: Mapping[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    state = {}
    for path, one in leaves.items():
        state |= one.write(np.asarray(flat[path]))
    return state


def stored_as(path: str, dtype: Any) -> Any:
    """The dtype of a parameter where `dtype` is asked for: below float32 that is for matrices alone.

    Norms, biases, tables and what the noise level goes through stay float32, as the published pipelines keep them.
    """
    if dtype is None or np.dtype(dtype).itemsize >= 4:
        return dtype
    matrix = path.rsplit("/", 1)[-1] in ("kernel", "embedding")
    return dtype if matrix and not path.startswith("time") else np.float32


def _once(read: Callable[[Index], np.ndarray]) -> Callable[[Any], np.ndarray]:
    """Reads a part that several devices hold only once."""
    parts: dict[Any, np.ndarray] = {}

    def get(index: Index) -> np.ndarray:
        key = tuple((part.start, part.stop) for part in index)
        if key not in parts:
            parts[key] = read(index)
        return parts[key]

    return get


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    # bfloat16 is no subtype of NumPy's floating types, so it is told by elimination.
    cast = dtype is not None and array.dtype.kind not in "biu"
    return array.astype(dtype, copy=False) if cast else array
