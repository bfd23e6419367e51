"""Programs traced for a mesh: what networks ask for by name is laid out on its devices."""

import contextlib
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.ops.attention import Spread, spread_by
from sora_jax.ops.layout import Convolution, Layout, laid_out_by
from sora_jax.parallel.context import Method, context_attention, cross_attention
from sora_jax.parallel.mesh import kernel_shardings
from sora_jax.typing import Array

Axes = tuple[str, ...]


@contextlib.contextmanager
def spread(mesh: Mesh, method: Method = "ulysses_ring", whole_batch: bool = False) -> Iterator[None]:
    """Within it, programs are traced for `mesh`: self attention with its tokens along `context`, and the autoencoder
    with a clip's frames along `context` and their rows along `tensor`; rows along both if frames are fewer than
    `context` has devices.

    With `whole_batch` a batch that doesn't divide over data and fsdp, as in sampling, lies whole on each device there.
    """

    def own(q, k, v, mask, segments, scale):
        return context_attention(
            q, k, v, mask, segments, scale, mesh=mesh, method=method, whole_batch=whole_batch
        )

    def cross(q, k, v, mask, segments, scale):
        return cross_attention(q, k, v, mask, segments, scale, mesh=mesh)

    # XLA cuts its own attention over batch and heads by itself; TPU's kernel has to be told.
    tpu = mesh.devices.flat[0].platform == "tpu"
    alone = mesh.size == 1 or (mesh.shape["context"] == 1 and not tpu)
    layout = None
    if mesh.shape["context"] * mesh.shape["tensor"] > 1:
        layout = Layout(*(functools.partial(function, mesh=mesh) for function in (_clip, _convolve, _kernel)))
    with spread_by(None if alone else Spread(own, cross if tpu else None)), laid_out_by(layout):
        yield


def _clip(x: Array, mesh: Mesh) -> Array:
    """x [b, t, h, w, c], cut as `_cuts` says."""
    return lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*_cuts(x, mesh))))


def _cuts(x: Array, mesh: Mesh, stride: int = 1) -> tuple[Axes, Axes, Axes]:
    """The mesh axes that cut the clips, frames and rows of x [b, t, h, w, c].

    Each device has as many clips as another, and as many rows, a multiple of `stride`; frames may be fewer on some.
    """
    b, t, h = x.shape[:3]
    clips = ("data", "fsdp")
    frames = ("context",) if t >= mesh.shape["context"] else ()
    free = ("tensor",) if frames else ("context", "tensor")
    fitting = [rows for rows in (free, free[:1], free[1:]) if h % (stride * _devices(rows, mesh)) == 0]
    rows = max(fitting, key=lambda rows: _devices(rows, mesh), default=())
    return (() if b % _devices(clips, mesh) else clips), frames, rows


def _devices(axes: Axes, mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in axes)


def _convolve(
    convolve: Convolution, x: Array, kernel: Array, rows: tuple[int, int], stride: int, mesh: Mesh
) -> Array:
    """`convolve_frames` by each device on its own part of x, with the rows beside it that it needs.

    Left to itself XLA (jax 0.10.2) gets the kernel's gradient wrong where an axis of the mesh cuts nothing.
    """
    clips, frames, cut = _cuts(x, mesh, stride)
    t, missing = x.shape[1], -x.shape[1] % _devices(frames, mesh)

    def local(x, kernel):
        if _devices(cut, mesh) == 1:
            return convolve(x, kernel, rows)
        return convolve(_with_neighbours(x, rows, cut, _devices(cut, mesh)), kernel, (0, 0))

    spec = PartitionSpec(clips, frames, cut)
    x = jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0)))
    return jax.shard_map(local, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)(x, kernel)[:, :t]


def _with_neighbours(x: Array, rows: tuple[int, int], axes: Axes, devices: int) -> Array:
    """x with the last rows of the device before and the first of the one after; zeros at the frame's edges."""
    (above, below), h = rows, x.shape[2]
    parts = [x]
    if above:
        down = [(i, i + 1) for i in range(devices - 1)]
        parts.insert(0, lax.ppermute(x[:, :, h - above :], axes, down))
    if below:
        up = [(i + 1, i) for i in range(devices - 1)]
        parts.append(lax.ppermute(x[:, :, :below], axes, up))
    return jnp.concatenate(parts, axis=2)


def _kernel(kernel: Array, axes: tuple[str | None, ...], mesh: Mesh) -> Array:
    """Where tokens are cut, the kernel whole but for what `tensor` cuts; its gradient lies as the kernel is kept.

    Left to itself XLA (jax 0.10.2) sums products of cut kernels with tokens that lie along the same axis over all of
    its devices: activations travel, which over 256 chips are many times the kernels. Of the gradient
    the sum is asked for before its parts, so that no tokens need travel there either.
    """
    if mesh.shape["context"] == 1:
        return kernel
    kept, used = kernel_shardings(kernel.shape, axes, mesh)

    @jax.custom_vjp
    def gathered(kernel):
        return lax.with_sharding_constraint(kernel, used)

    def backward(_, gradient):
        return (lax.with_sharding_constraint(lax.with_sharding_constraint(gradient, used), kept),)

    gathered.defvjp(lambda kernel: (gathered(kernel), None), backward)
    return gathered(kernel)
